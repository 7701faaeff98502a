//! Striped counters: threads add to them without sharing a cache line.
//!
//! At first the counters are inside of their handle, and one thread adds to them alone. When a second thread adds, the
//! handle takes a block of stripes from a pool, and all threads add there. So a handle is small until threads share
//! it, and fast after that. A call may run in a signal handler, where nothing may be allocated: building a handle
//! fills the pool, and blocks are taken from it by compare-and-swap. If none is left, all threads but the first add to
//! shared counters.
//!
//! # Memory ordering
//! The counts are statistics, not a protocol: every addition is relaxed, and a sum is exact once the additions are
//! done. A block's pointer is published with release, by the pool and by the handle, and read with acquire, so each
//! addition to it comes after the zeros that were written to it.

use std::cell::Cell;
use std::sync::atomic;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use counting::{BlockPool, CHUNKS, Counters};

mod counting;
#[cfg(all(test, backstay_loom))]
mod loom_tests;

static POOL: BlockPool = BlockPool {
    top: AtomicU64::new(0),
    left: AtomicUsize::new(0),
    chunks: [const { AtomicPtr::new(std::ptr::null_mut()) }; CHUNKS],
};

/// `N` striped counters.
#[derive(Debug)]
pub(crate) struct Striped<const N: usize>(Counters<N>);

impl<const N: usize> Striped<N> {
    pub(crate) fn new() -> Self {
        POOL.refill(stripes());
        Self(Counters::new())
    }

    /// Adds to a counter. May be called in a signal handler that interrupts an addition.
    #[inline]
    pub(crate) fn add(&self, counter: usize, amount: u64) {
        self.0.add(&POOL, counter, amount, thread_number());
    }

    pub(crate) fn sum(&self, counter: usize) -> u64 {
        self.0.sum(counter)
    }
}

impl<const N: usize> Drop for Striped<N> {
    fn drop(&mut self) {
        self.0.release(&POOL);
    }
}

/// Returns the number of stripes in a block: twice the number of processors, at most 32.
fn stripes() -> usize {
    // Cached, because the system reads files to answer: that takes longer than the rest of building a handle. Without
    // a lock, because a process that is forked while another thread holds it could never take it.
    static STRIPES: AtomicUsize = AtomicUsize::new(0);
    let mut stripes = STRIPES.load(Ordering::Relaxed);
    if stripes == 0 {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        stripes = 2 * processors.next_power_of_two().min(16);
        STRIPES.store(stripes, Ordering::Relaxed);
    }
    stripes
}

/// Returns a small number of this thread. Neither allocates nor registers a destructor, so a signal handler may call
/// it.
#[inline]
fn thread_number() -> usize {
    thread_local! { static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) } }
    NUMBER.with(|number| {
        if number.get() == usize::MAX {
            number.set(next_number());
        }
        number.get()
    })
}

#[cold]
fn next_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed) & (usize::MAX >> 1)
}

#[cfg(all(test, not(backstay_loom)))]
mod tests {
    use super::*;

    // RL-10, CB-10: also while the counters move from the handle to stripes, and without stripes left.
    #[test]
    fn no_addition_is_lost_between_threads() {
        let counters = Striped::<2>::new();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        counters.add(0, 1);
                        counters.add(1, 2);
                    }
                });
            }
        });
        assert_eq!((counters.sum(0), counters.sum(1)), (80_000, 160_000));
    }

    #[test]
    fn a_block_that_is_reused_is_empty() {
        let counters: Vec<_> = (0..5000).map(|_| Striped::<2>::new()).collect();
        counters.iter().for_each(|counters| counters.add(0, 1));
        std::thread::scope(|scope| {
            scope.spawn(|| counters.iter().for_each(|counters| counters.add(0, 2))).join().unwrap();
        });
        assert!(counters.iter().all(|counters| counters.sum(0) == 3));
        drop(counters);
        let counters = Striped::<2>::new();
        counters.add(0, 1);
        std::thread::scope(|scope| scope.spawn(|| counters.add(1, 1)).join().unwrap());
        assert_eq!((counters.sum(0), counters.sum(1)), (1, 1));
    }
}
