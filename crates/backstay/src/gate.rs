//! Keeps threads from holding a lock while another thread forks.
//!
//! A forked child inherits locks in the state they are in, without the threads that would release them. So a thread that
//! is about to fork announces it, and waits until no other thread is inside the gate; meanwhile others do not enter.
//!
//! # Memory ordering
//! [`Gate`] is one word, so that entering and seeing a fork are one step, and so are announcing a fork and seeing who is
//! inside. Leaving (release) pairs with the forking thread's look (acquire): what was written under a lock is complete
//! in the child. The end of a fork (release) pairs with entering (acquire).

use std::cell::Cell;

use crate::sync::atomic::{AtomicUsize, Ordering};

/// Counts the threads that hold one of our locks, and, in its upper half, the forks under way.
pub(crate) struct Gate(AtomicUsize);

const FORK: usize = 1 << (usize::BITS / 2);

/// What a thread knows of itself.
pub(crate) struct Here {
    /// How many of our locks it holds.
    held: Cell<usize>,
    /// How many forks it is in the middle of: one, or more where a hook forks in its turn. Code that runs around a fork
    /// (hooks of others, destructors) may take our locks; it must not wait for its own thread.
    forks: Cell<usize>,
}

impl Here {
    pub(crate) const fn new() -> Self {
        Self { held: Cell::new(0), forks: Cell::new(0) }
    }

    /// How many of the threads inside the gate are this one.
    fn inside(&self) -> usize {
        self.held.get().min(1)
    }
}

impl Gate {
    #[cfg(not(backstay_loom))]
    pub(crate) const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    #[cfg(backstay_loom)]
    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Before a lock is taken; waits, by `pause`, for forks of other threads.
    pub(crate) fn enter(&self, here: &Here, pause: impl Fn()) {
        // A thread that is inside already is waited for: it must not wait.
        if here.held.replace(here.held.get() + 1) > 0 {
            return;
        }
        while self.0.fetch_add(1, Ordering::Acquire) >= FORK && here.forks.get() == 0 {
            self.0.fetch_sub(1, Ordering::Release);
            while self.0.load(Ordering::Relaxed) >= FORK {
                pause();
            }
        }
    }

    /// After a lock is released.
    pub(crate) fn leave(&self, here: &Here) {
        if here.held.replace(here.held.get() - 1) == 1 {
            self.0.fetch_sub(1, Ordering::Release);
        }
    }

    /// From now on other threads do not enter.
    pub(crate) fn announce(&self, here: &Here) {
        here.forks.set(here.forks.get() + 1);
        self.0.fetch_add(FORK, Ordering::Acquire);
    }

    /// Whether no other thread is inside.
    pub(crate) fn is_clear(&self, here: &Here) -> bool {
        self.0.load(Ordering::Acquire) % FORK <= here.inside()
    }

    pub(crate) fn after_in_parent(&self, here: &Here) {
        // In a child that a hook of this fork has made, the fork is over.
        if here.forks.get() > 0 {
            here.forks.set(here.forks.get() - 1);
            self.0.fetch_sub(FORK, Ordering::Release);
        }
    }

    /// The child has only this thread.
    pub(crate) fn after_in_child(&self, here: &Here) {
        here.forks.set(0);
        self.0.store(here.inside(), Ordering::Release);
    }
}

#[cfg(all(test, not(backstay_loom)))]
mod tests {
    use super::*;

    // PY-10: a hook that runs around a fork may fork in its turn.
    #[test]
    fn a_fork_within_a_fork_leaves_the_gate_open_and_the_outer_one_protected() {
        let (gate, here, other) = (Gate::new(), Here::new(), Here::new());
        gate.announce(&here);
        gate.announce(&here);
        gate.after_in_parent(&here);
        gate.enter(&here, || panic!("it waits for its own fork"));
        gate.leave(&here);
        assert!(gate.0.load(Ordering::Relaxed) >= FORK, "the outer fork is still to come");
        gate.after_in_parent(&here);
        gate.enter(&other, || panic!("it waits for a fork that is over"));
        gate.leave(&other);
        // In the inner fork's child the outer one goes on.
        gate.announce(&here);
        gate.announce(&here);
        gate.after_in_child(&here);
        gate.after_in_parent(&here);
        assert_eq!((gate.0.load(Ordering::Relaxed), here.forks.get()), (0, 0));
    }
}

#[cfg(all(test, backstay_loom))]
#[allow(unsafe_code)] // a cell whose accesses loom checks
mod loom_tests {
    use super::*;
    use crate::sync::Arc;
    use loom::cell::UnsafeCell;
    use loom::thread;

    struct Shared {
        gate: Gate,
        /// Written by a thread inside, read by the fork: under loom the two must not meet, and the fork must see the
        /// write as a whole.
        guarded: UnsafeCell<u32>,
    }

    impl Shared {
        fn new() -> Arc<Self> {
            Arc::new(Self { gate: Gate::new(), guarded: UnsafeCell::new(0) })
        }

        /// Takes a lock, and in it a second one.
        fn hold(&self) {
            let here = Here::new();
            self.gate.enter(&here, thread::yield_now);
            self.gate.enter(&here, thread::yield_now);
            // SAFETY: one such thread at most, and none that forks, is inside at this moment: loom checks it.
            self.guarded.with_mut(|guarded| unsafe { *guarded += 1 });
            self.gate.leave(&here);
            self.gate.leave(&here);
        }

        fn fork(&self, here: &Here) {
            self.gate.announce(here);
            while !self.gate.is_clear(here) {
                thread::yield_now();
            }
            // SAFETY: no thread that writes is inside at this moment: loom checks it.
            let copied = self.guarded.with(|guarded| unsafe { *guarded });
            assert!(copied <= 1);
            self.gate.after_in_parent(here);
        }
    }

    // PY-10: when a thread forks, no other holds a lock, and all of them go on afterwards.
    #[test]
    fn loom_no_lock_is_held_at_a_fork() {
        loom::model(|| {
            let shared = Shared::new();
            let theirs = Arc::clone(&shared);
            let holder = thread::spawn(move || theirs.hold());
            shared.fork(&Here::new());
            holder.join().unwrap();
            assert_eq!(shared.gate.0.load(Ordering::Relaxed), 0);
        });
    }

    // PY-10: the end of one thread's fork lets no thread in during another's.
    #[test]
    fn loom_no_lock_is_held_at_the_later_of_two_forks() {
        loom::model(|| {
            let shared = Shared::new();
            let (theirs, others) = (Arc::clone(&shared), Arc::clone(&shared));
            let holder = thread::spawn(move || theirs.hold());
            // One that does not wait: two threads that wait for a third are too much for loom.
            let other = thread::spawn(move || {
                let here = Here::new();
                others.gate.announce(&here);
                others.gate.after_in_parent(&here);
            });
            shared.fork(&Here::new());
            holder.join().unwrap();
            other.join().unwrap();
            assert_eq!(shared.gate.0.load(Ordering::Relaxed), 0);
        });
    }

    // PY-10: a thread that forks while it holds a lock waits for the others only, and takes further locks.
    #[test]
    fn loom_a_fork_under_a_lock_waits_for_others_only() {
        loom::model(|| {
            let shared = Shared::new();
            let theirs = Arc::clone(&shared);
            let holder = thread::spawn(move || theirs.hold());
            let here = Here::new();
            shared.gate.enter(&here, thread::yield_now);
            shared.fork(&here);
            shared.gate.leave(&here);
            holder.join().unwrap();
            assert_eq!(shared.gate.0.load(Ordering::Relaxed), 0);
        });
    }
}
