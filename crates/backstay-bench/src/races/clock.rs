//! Measures what every operation consists of: reading the time, and changing an atomic word.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use backstay::clock::Clock;
use rustix::time::{ClockId, clock_gettime};

use crate::harness::{Contestant, Side};

/// Clocks, and one shared word.
pub(crate) fn clocks() -> Vec<Contestant> {
    let clock = Clock::system();
    let (coarse, fine) = (clock.clone(), clock.clone());
    // Building a handle finds out what the clock can do.
    let _limiter = backstay::RateLimiter::builder(1).build();
    let quanta = quanta::Clock::new();
    let (read, added, swapped) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    vec![
        Contestant::new(Side::OursToo, "backstay, coarse", move || {
            black_box(black_box(&coarse).coarse());
            true
        }),
        Contestant::new(Side::OursToo, "backstay, fine", move || {
            black_box(black_box(&fine).fine());
            true
        }),
        Contestant::new(Side::OursToo, "backstay, exact", move || {
            black_box(black_box(&clock).now());
            true
        }),
        coarse_clock(),
        Contestant::new(Side::Peer, "Instant::now", || {
            black_box(Instant::now());
            true
        }),
        Contestant::new(Side::Peer, "quanta (TSC)", move || {
            black_box(black_box(&quanta).now());
            true
        }),
        Contestant::new(Side::Floor, "atomic load", move || {
            black_box(black_box(&read).load(Ordering::Acquire));
            true
        }),
        Contestant::new(Side::Floor, "atomic add", move || {
            black_box(black_box(&added).fetch_add(1, Ordering::Relaxed));
            true
        }),
        swap("compare-and-swap", swapped),
    ]
}

/// The lower bound of a rejection: reading the kernel's coarse clock.
pub(crate) fn coarse_clock() -> Contestant {
    Contestant::new(Side::Floor, "the kernel's coarse", || {
        black_box(clock_gettime(ClockId::MonotonicCoarse));
        true
    })
}

/// The lower bound of taking a token from a shared bucket.
pub(crate) fn compare_and_swap() -> Contestant {
    swap("compare-and-swap", AtomicU64::new(0))
}

fn swap(name: &'static str, word: AtomicU64) -> Contestant {
    Contestant::new(Side::Floor, name, move || {
        let word = black_box(&word);
        let mut now = word.load(Ordering::Relaxed);
        while let Err(other) = word.compare_exchange_weak(now, now + 1, Ordering::AcqRel, Ordering::Relaxed) {
            now = other;
        }
        true
    })
}
