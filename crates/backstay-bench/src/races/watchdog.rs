//! Measures a ping next to the cheapest hand-written watchdog, which stores the time.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use backstay::Watchdog;

use crate::harness::{Contestant, Side};

/// Pings of a running watchdog.
pub(crate) fn ping() -> Vec<Contestant> {
    let watchdog = Watchdog::builder().timeout(Duration::from_secs(3600)).build().expect("an hour is valid");
    watchdog.start().expect("the monitor thread starts");
    let begin = Instant::now();
    let noted = AtomicU64::new(0);
    vec![
        Contestant::new(Side::Ours, "backstay", move || {
            black_box(&watchdog).ping();
            true
        }),
        Contestant::new(Side::Peer, "Instant::now", || {
            black_box(Instant::now());
            true
        }),
        Contestant::new(Side::Peer, "Instant, stored", move || {
            let now = begin.elapsed().as_nanos();
            #[allow(clippy::cast_possible_truncation)] // 584 years
            black_box(&noted).store(now as u64, Ordering::Relaxed);
            true
        }),
    ]
}
