//! Ensures that no other thread holds one of our locks while a thread forks.
//!
//! A forked child inherits locks in their current state, without the threads that would release them. So a thread that
//! is about to fork announces the fork and waits until no other thread is inside the gate. Until the fork is done,
//! other threads do not enter.
//!
//! # Memory ordering
//! [`ForkGate`] is one word, so entering and seeing a fork are one step, as are announcing a fork and seeing the
//! threads inside. Leaving (release) pairs with `is_clear` (acquire): what was written under a lock is complete in the
//! child. The end of a fork (release) pairs with entering (acquire).

use std::cell::Cell;

use crate::sync::atomic::{AtomicUsize, Ordering};

/// Counts the threads that hold one of our locks and, in the upper half, the forks in progress.
pub(crate) struct ForkGate(AtomicUsize);

const FORK: usize = 1 << (usize::BITS / 2);

/// The locks and forks of one thread.
pub(crate) struct ThreadCounts {
    /// Number of our locks that the thread holds.
    held: Cell<usize>,
    /// Number of its forks in progress: more than one if a fork hook forks as well.
    ///
    /// Code that runs around a fork (other libraries' hooks, destructors) may take our locks. It must not wait for the
    /// fork of its own thread.
    forks: Cell<usize>,
}

impl ThreadCounts {
    pub(crate) const fn new() -> Self {
        Self { held: Cell::new(0), forks: Cell::new(0) }
    }

    /// Returns 1 if the thread is inside the gate, else 0.
    fn inside(&self) -> usize {
        self.held.get().min(1)
    }
}

impl ForkGate {
    #[cfg(not(backstay_loom))]
    pub(crate) const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    #[cfg(backstay_loom)]
    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Enters the gate before a lock is taken. Calls `pause` repeatedly while another thread forks.
    pub(crate) fn enter(&self, counts: &ThreadCounts, pause: impl Fn()) {
        // A forking thread waits for the threads inside, so those must not wait for it.
        if counts.held.replace(counts.held.get() + 1) > 0 {
            return;
        }
        while self.0.fetch_add(1, Ordering::Acquire) >= FORK && counts.forks.get() == 0 {
            self.0.fetch_sub(1, Ordering::Release);
            while self.0.load(Ordering::Relaxed) >= FORK {
                pause();
            }
        }
    }

    /// Leaves the gate after a lock is released.
    pub(crate) fn leave(&self, counts: &ThreadCounts) {
        if counts.held.replace(counts.held.get() - 1) == 1 {
            self.0.fetch_sub(1, Ordering::Release);
        }
    }

    /// Announces a fork. From now on other threads do not enter.
    pub(crate) fn announce(&self, counts: &ThreadCounts) {
        counts.forks.set(counts.forks.get() + 1);
        self.0.fetch_add(FORK, Ordering::Acquire);
    }

    /// Returns whether no other thread is inside.
    pub(crate) fn is_clear(&self, counts: &ThreadCounts) -> bool {
        self.0.load(Ordering::Acquire) % FORK <= counts.inside()
    }

    /// Ends a fork in the parent.
    pub(crate) fn after_in_parent(&self, counts: &ThreadCounts) {
        // Zero in a child that a hook of this fork has made: there the fork has ended.
        if counts.forks.get() > 0 {
            counts.forks.set(counts.forks.get() - 1);
            self.0.fetch_sub(FORK, Ordering::Release);
        }
    }

    /// Ends all forks in the child, which has only this thread.
    pub(crate) fn after_in_child(&self, counts: &ThreadCounts) {
        counts.forks.set(0);
        self.0.store(counts.inside(), Ordering::Release);
    }
}

#[cfg(all(test, not(backstay_loom)))]
mod tests {
    use super::*;

    // PY-10: a fork hook may fork as well.
    #[test]
    fn a_nested_fork_does_not_end_the_outer_one() {
        let (gate, counts, other) = (ForkGate::new(), ThreadCounts::new(), ThreadCounts::new());
        gate.announce(&counts);
        gate.announce(&counts);
        gate.after_in_parent(&counts);
        gate.enter(&counts, || panic!("waits for its own fork"));
        gate.leave(&counts);
        assert!(gate.0.load(Ordering::Relaxed) >= FORK, "the outer fork is still in progress");
        gate.after_in_parent(&counts);
        gate.enter(&other, || panic!("waits for a fork that has ended"));
        gate.leave(&other);
        // In the inner fork's child the outer fork's code continues.
        gate.announce(&counts);
        gate.announce(&counts);
        gate.after_in_child(&counts);
        gate.after_in_parent(&counts);
        assert_eq!((gate.0.load(Ordering::Relaxed), counts.forks.get()), (0, 0));
    }
}

#[cfg(all(test, backstay_loom))]
#[allow(unsafe_code)] // loom checks the accesses to the cell
mod loom_tests {
    use super::*;
    use crate::sync::Arc;
    use loom::cell::UnsafeCell;
    use loom::thread;

    struct Shared {
        gate: ForkGate,
        /// Written by a thread inside, read by a fork. Loom fails if the two are concurrent.
        guarded: UnsafeCell<u32>,
    }

    impl Shared {
        fn new() -> Arc<Self> {
            Arc::new(Self { gate: ForkGate::new(), guarded: UnsafeCell::new(0) })
        }

        /// Takes a lock and, while holding it, a second one.
        fn hold(&self) {
            let counts = ThreadCounts::new();
            self.gate.enter(&counts, thread::yield_now);
            self.gate.enter(&counts, thread::yield_now);
            // SAFETY: no other thread accesses it now, which loom checks.
            self.guarded.with_mut(|guarded| unsafe { *guarded += 1 });
            self.gate.leave(&counts);
            self.gate.leave(&counts);
        }

        fn fork(&self, counts: &ThreadCounts) {
            self.gate.announce(counts);
            while !self.gate.is_clear(counts) {
                thread::yield_now();
            }
            // SAFETY: no other thread writes it now, which loom checks.
            let copied = self.guarded.with(|guarded| unsafe { *guarded });
            assert!(copied <= 1);
            self.gate.after_in_parent(counts);
        }
    }

    // PY-10: when a thread forks, no other thread holds a lock, and all continue afterwards.
    #[test]
    fn loom_no_lock_is_held_at_a_fork() {
        loom::model(|| {
            let shared = Shared::new();
            let with_lock = Arc::clone(&shared);
            let holder = thread::spawn(move || with_lock.hold());
            shared.fork(&ThreadCounts::new());
            holder.join().unwrap();
            assert_eq!(shared.gate.0.load(Ordering::Relaxed), 0);
        });
    }

    // PY-10: the end of one thread's fork lets no thread enter during another's.
    #[test]
    fn loom_no_lock_is_held_at_the_later_of_two_forks() {
        loom::model(|| {
            let shared = Shared::new();
            let (with_lock, forking) = (Arc::clone(&shared), Arc::clone(&shared));
            let holder = thread::spawn(move || with_lock.hold());
            // This one does not wait, because two waiting threads are too many states for loom.
            let other = thread::spawn(move || {
                let counts = ThreadCounts::new();
                forking.gate.announce(&counts);
                forking.gate.after_in_parent(&counts);
            });
            shared.fork(&ThreadCounts::new());
            holder.join().unwrap();
            other.join().unwrap();
            assert_eq!(shared.gate.0.load(Ordering::Relaxed), 0);
        });
    }

    // PY-10: a thread that forks while it holds a lock waits only for other threads, and may take more locks.
    #[test]
    fn loom_a_fork_under_a_lock_waits_only_for_other_threads() {
        loom::model(|| {
            let shared = Shared::new();
            let with_lock = Arc::clone(&shared);
            let holder = thread::spawn(move || with_lock.hold());
            let counts = ThreadCounts::new();
            shared.gate.enter(&counts, thread::yield_now);
            shared.fork(&counts);
            shared.gate.leave(&counts);
            holder.join().unwrap();
            assert_eq!(shared.gate.0.load(Ordering::Relaxed), 0);
        });
    }
}
