//! Measures 100,000 running watchdogs, none of which is about to fire: the cost of the monitor thread.

use std::time::{Duration, Instant};

use backstay::Watchdog;

use crate::memory;
use crate::os::processor_time;

/// The number of watchdogs.
pub(crate) const WATCHDOGS: usize = 100_000;

/// The process's share of one processor, and the bytes of a watchdog.
pub(crate) struct IdleCost {
    pub(crate) idle: f64,
    pub(crate) bytes: f64,
}

/// Starts the watchdogs, sleeps for `scene`, and measures the processor time of the process.
pub(crate) fn idle(scene: Duration) -> IdleCost {
    let before = memory::held();
    let herd: Vec<_> = (0..WATCHDOGS)
        .map(|_| {
            let watchdog = Watchdog::builder().timeout(Duration::from_secs(30)).build().expect("30 s are valid");
            watchdog.start().expect("the monitor thread starts");
            watchdog
        })
        .collect();
    let bytes = (memory::held() - before) as f64 / WATCHDOGS as f64;
    // By now the monitor has registered them all.
    std::thread::sleep(Duration::from_millis(200));
    let (begin, used) = (Instant::now(), processor_time());
    std::thread::sleep(scene);
    let idle = (processor_time() - used).as_secs_f64() / begin.elapsed().as_secs_f64();
    herd.iter().for_each(Watchdog::stop);
    IdleCost { idle, bytes }
}
