//! Fork hooks for language bindings: no lock of this library is held while the process forks.
//!
//! A forked child inherits locks in their current state, without the threads that would release them. So a thread that
//! is about to fork waits until no other thread holds one of our locks, and prevents others from taking one until the
//! fork is done. Our locks are held only for short operations.
//!
//! A Rust program has no hook before a fork. Without [`watch`] the protocol costs one load per lock.
//!
//! # Memory ordering
//! `WATCHED` is relaxed: a thread that does not see it yet takes a lock that is not counted, like one that was taken
//! before `watch`. `gate.rs` explains the rest.
#![doc(hidden)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::gate::{ForkGate, ThreadCounts};
use crate::clock::Clock;

/// Returns a number of this process that none of its ancestors has.
///
/// The process id is not such a number, because a child in a new pid namespace can have its parent's.
#[must_use]
pub fn this_process() -> u32 {
    super::this_process()
}

/// Longest time to wait for other threads' locks. Only an operation on a disk that hangs takes longer.
const TIMEOUT: Duration = Duration::from_secs(1);

static WATCHED: AtomicBool = AtomicBool::new(false);
static PAUSE: OnceLock<fn()> = OnceLock::new();
static GATE: ForkGate = ForkGate::new();

thread_local! {
    static COUNTS: ThreadCounts = const { ThreadCounts::new() };
}

/// Enables the protocol.
///
/// Call [`before`] before each fork, then [`after_in_parent`] or [`after_in_child`].
///
/// A thread that waits for a fork calls `pause` repeatedly. It should release what the forking thread may need for a
/// moment, such as the lock of an interpreter.
pub fn watch(pause: fn()) {
    let _ = PAUSE.set(pause);
    WATCHED.store(true, Ordering::Relaxed);
}

/// Prevents other threads from taking a lock and waits until none holds one.
///
/// It waits at most one second.
pub fn before() {
    COUNTS.with(|counts| {
        GATE.announce(counts);
        let clock = Clock::system();
        let start = clock.now();
        while !GATE.is_clear(counts) && clock.now().since(start) < TIMEOUT {
            thread::yield_now();
        }
    });
}

/// Allows other threads to take locks again.
pub fn after_in_parent() {
    COUNTS.with(|counts| GATE.after_in_parent(counts));
}

/// Resets the protocol in the child, which has only the calling thread.
pub fn after_in_child() {
    COUNTS.with(|counts| GATE.after_in_child(counts));
}

/// Keeps the thread inside the gate while it holds a lock.
#[derive(Debug)]
pub(crate) struct InsideGate {
    is_counted: bool,
}

impl InsideGate {
    pub(crate) fn enter() -> Self {
        let is_counted = WATCHED.load(Ordering::Relaxed);
        if is_counted {
            let pause = || PAUSE.get().copied().unwrap_or(thread::yield_now)();
            COUNTS.with(|counts| GATE.enter(counts, pause));
        }
        Self { is_counted }
    }
}

impl Drop for InsideGate {
    fn drop(&mut self) {
        if self.is_counted {
            COUNTS.with(|counts| GATE.leave(counts));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Mutex;
    use std::sync::Arc;

    // PY-10: destructors and other libraries' hooks run in the forking thread around a fork, and may take locks.
    #[test]
    fn the_forking_thread_does_not_wait_for_its_own_fork() {
        watch(thread::yield_now);
        let lock = Arc::new(Mutex::new(0));
        for after in [after_in_parent, after_in_child] {
            before();
            *lock.lock() += 1;
            let elsewhere = Arc::clone(&lock);
            let other = thread::spawn(move || *elsewhere.lock() += 1);
            *lock.lock() += 1;
            // The other thread waits, or has not reached the lock yet.
            assert_eq!(*lock.lock() % 3, 2);
            after();
            other.join().unwrap();
        }
        assert_eq!(*lock.lock(), 6);
    }
}
