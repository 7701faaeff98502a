//! A herd of watchdogs, all running, none about to fire: what the one monitor thread costs.

use std::time::{Duration, Instant};

use backstay::Watchdog;

use crate::memory;
use crate::os::processor_time;

/// How many there are.
pub(crate) const WATCHDOGS: usize = 100_000;

/// What the process used, as shares of one processor, and what a watchdog takes.
pub(crate) struct Herd {
    pub(crate) idle: f64,
    pub(crate) bytes: f64,
}

/// Starts them, sleeps for `scene`, and looks at the processor time of the whole process.
pub(crate) fn idle(scene: Duration) -> Herd {
    let before = memory::held();
    let herd: Vec<_> = (0..WATCHDOGS)
        .map(|_| {
            let watchdog = Watchdog::builder().timeout(Duration::from_secs(30)).build().expect("30 s are sensible");
            watchdog.start().expect("a thread for the monitor");
            watchdog
        })
        .collect();
    let bytes = (memory::held() - before) as f64 / WATCHDOGS as f64;
    // The monitor has seen them all start.
    std::thread::sleep(Duration::from_millis(200));
    let (begin, used) = (Instant::now(), processor_time());
    std::thread::sleep(scene);
    let idle = (processor_time() - used).as_secs_f64() / begin.elapsed().as_secs_f64();
    herd.iter().for_each(Watchdog::stop);
    Herd { idle, bytes }
}
