//! Forks while other threads hold locks, for languages whose programs fork.
//!
//! A forked child inherits the locks of a handle in the state they are in, without the threads that would release them.
//! So a thread that is about to fork waits until no other thread holds one, and keeps others from taking one until the
//! fork is done. Locks are held for short operations only. A Rust program has no place to announce a fork: without
//! [`watch`] the protocol costs one load.
//!
//! # Memory ordering
//! That of `gate.rs`. `WATCHED` is relaxed: a thread that does not see it yet takes a lock that is not
//! counted, as those did that took one before `watch`.
#![doc(hidden)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::clock::Clock;
use crate::gate::{Gate, Here};

/// Returns a number of this process that none of its ancestors has: unlike the process id, which a child in a new pid
/// namespace may share with its parent.
#[must_use]
pub fn this_process() -> u32 {
    crate::per_process::this_process()
}

/// Longer than any operation under a lock, unless a disk hangs.
const TIMEOUT: Duration = Duration::from_secs(1);

static WATCHED: AtomicBool = AtomicBool::new(false);
static PAUSE: OnceLock<fn()> = OnceLock::new();
static GATE: Gate = Gate::new();

thread_local! {
    static HERE: Here = const { Here::new() };
}

/// From now on [`before`], and then [`after_in_parent`] or [`after_in_child`], surround each fork.
///
/// A thread that waits for a fork calls `pause` again and again. It should briefly release whatever the forking thread
/// may need, such as the lock of an interpreter.
pub fn watch(pause: fn()) {
    let _ = PAUSE.set(pause);
    WATCHED.store(true, Ordering::Relaxed);
}

/// Keeps other threads from taking a lock, and waits until none holds one, for one second at most.
pub fn before() {
    HERE.with(|here| {
        GATE.announce(here);
        let clock = Clock::system();
        let start = clock.now();
        while !GATE.is_clear(here) && clock.now().since(start) < TIMEOUT {
            thread::yield_now();
        }
    });
}

/// Lets other threads take locks again.
pub fn after_in_parent() {
    HERE.with(|here| GATE.after_in_parent(here));
}

/// Makes locks available in the child, which has no thread but the calling one.
pub fn after_in_child() {
    HERE.with(|here| GATE.after_in_child(here));
}

/// Held as long as a lock is.
#[derive(Debug)]
pub(crate) struct Pass {
    counts: bool,
}

impl Pass {
    pub(crate) fn enter() -> Self {
        let counts = WATCHED.load(Ordering::Relaxed);
        if counts {
            let pause = || PAUSE.get().copied().unwrap_or(thread::yield_now)();
            HERE.with(|here| GATE.enter(here, pause));
        }
        Self { counts }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.counts {
            HERE.with(|here| GATE.leave(here));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Mutex;
    use std::sync::Arc;

    // PY-10: destructors and the hooks of others run around a fork, in the forking thread.
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
            // The other thread waits, or has not come to the lock yet.
            assert_eq!(*lock.lock() % 3, 2);
            after();
            other.join().unwrap();
        }
        assert_eq!(*lock.lock(), 6);
    }
}
