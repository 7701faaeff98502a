//! Counters that threads add to without sharing a cache line.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// `N` counters in stripes, twice as many as there are processors (32 at most); a thread keeps to one stripe.
///
/// The first half belongs to the threads that came first, a stripe to each, and they add without locking the bus;
/// the other half is shared by all who came later. Long-running threads are mostly among the first.
///
/// Statistics, not a protocol: every addition is relaxed, and a sum is exact once the additions are done.
#[derive(Debug)]
pub(crate) struct Striped<const N: usize>(Box<[Stripe<N>]>);

/// Two cache lines, because processors fetch lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Stripe<const N: usize>([AtomicU64; N]);

impl<const N: usize> Striped<N> {
    pub(crate) fn new() -> Self {
        // To ask takes longer than all else that a new handle does: the system reads files to answer.
        // No lock guards the answer: a process forked while another thread asks could never take it.
        static STRIPES: AtomicUsize = AtomicUsize::new(0);
        let mut stripes = STRIPES.load(Ordering::Relaxed);
        if stripes == 0 {
            let processors = std::thread::available_parallelism().map_or(1, usize::from);
            stripes = 2 * processors.next_power_of_two().min(16);
            STRIPES.store(stripes, Ordering::Relaxed);
        }
        Self((0..stripes).map(|_| Stripe(std::array::from_fn(|_| AtomicU64::new(0)))).collect())
    }

    /// As [`add`](Self::add), also from a signal handler that interrupts this very thread between reading and writing.
    #[inline]
    pub(crate) fn add_even_in_handlers(&self, counter: usize, amount: u64) {
        if let Some(stripe) = self.0.get(thread_number() & (self.0.len() - 1)) {
            stripe.0[counter].fetch_add(amount, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn add(&self, counter: usize, amount: u64) {
        let (number, owned) = (thread_number(), self.0.len() / 2);
        if number < owned {
            // There always is a stripe; a path that panics would keep callers from being inlined.
            if let Some(stripe) = self.0.get(number) {
                let count = &stripe.0[counter];
                // Nobody else writes here.
                count.store(count.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
            }
        } else if let Some(stripe) = self.0.get(owned + (number & (owned - 1))) {
            stripe.0[counter].fetch_add(amount, Ordering::Relaxed);
        }
    }

    pub(crate) fn sum(&self, counter: usize) -> u64 {
        self.0.iter().map(|stripe| stripe.0[counter].load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }
}

/// A small number of this thread's own. Neither allocates nor registers a destructor, so a signal handler may ask.
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

    #[test]
    fn nothing_is_lost_between_threads() {
        let counters = Striped::<2>::new();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..10_000).for_each(|_| counters.add(1, 2)));
            }
        });
        assert_eq!((counters.sum(0), counters.sum(1)), (0, 160_000));
    }
}
