//! Forking while other threads are at work, for languages whose programs do that.
//!
//! A forked child inherits the locks of a handle as they happen to be, and nobody who would open them. So whoever is
//! about to fork lets all that is being done under a lock come to its end first. Nothing that takes long is, but a
//! Rust program has no place where it could say that it forks: without [`watch`] this costs one load.
#![doc(hidden)]

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::clock::Clock;

/// A number of this process that none of those it was forked from has: unlike the process id, which a child in a new pid
/// namespace may share with its parent.
#[must_use]
pub fn this_process() -> u32 {
    crate::per_process::this_process()
}

/// Longer than anything is done under a lock, unless a disk hangs.
const PATIENCE: Duration = Duration::from_secs(1);

static WATCHED: AtomicBool = AtomicBool::new(false);
static PAUSE: OnceLock<fn()> = OnceLock::new();
/// Threads that hold one of our locks.
static HOLDERS: AtomicUsize = AtomicUsize::new(0);
/// Threads that are about to fork, or in the middle of it.
static FORKING: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// How many locks this thread holds.
    static HELD: Cell<usize> = const { Cell::new(0) };
    /// Whether this thread is one of those that fork. What runs around a fork, hooks of others and destructors, may
    /// take our locks: it waits for nobody, least of all for itself.
    static FORKS: Cell<bool> = const { Cell::new(false) };
}

/// From now on [`before`], and then [`after_in_parent`] or [`after_in_child`], surround each fork.
///
/// `pause` is what a thread does over and over while it waits for a fork: it lets go for a moment of whatever the
/// forking thread may need to come to an end, such as the lock of an interpreter.
pub fn watch(pause: fn()) {
    let _ = PAUSE.set(pause);
    WATCHED.store(true, Ordering::SeqCst);
}

/// Waits until no other thread holds a lock, and keeps them from taking one. Goes ahead when a second is over.
pub fn before() {
    FORKS.set(true);
    FORKING.fetch_add(1, Ordering::SeqCst);
    let clock = Clock::system();
    let start = clock.now();
    while HOLDERS.load(Ordering::SeqCst) > own() && clock.now().since(start) < PATIENCE {
        thread::yield_now();
    }
}

/// Lets the others go on.
pub fn after_in_parent() {
    if FORKS.replace(false) {
        FORKING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The child has but this one thread.
pub fn after_in_child() {
    FORKS.set(false);
    HOLDERS.store(own(), Ordering::SeqCst);
    FORKING.store(0, Ordering::SeqCst);
}

fn own() -> usize {
    HELD.with(|held| held.get().min(1))
}

/// Held as long as a lock is.
#[derive(Debug)]
pub(crate) struct Pass {
    counts: bool,
}

impl Pass {
    pub(crate) fn enter() -> Self {
        let counts = WATCHED.load(Ordering::Relaxed);
        // A thread that holds a lock already is being waited for: it must not wait.
        if counts && HELD.replace(HELD.get() + 1) == 0 {
            loop {
                HOLDERS.fetch_add(1, Ordering::SeqCst);
                if FORKS.get() || FORKING.load(Ordering::SeqCst) == 0 {
                    break;
                }
                HOLDERS.fetch_sub(1, Ordering::SeqCst);
                let pause = PAUSE.get().copied().unwrap_or(thread::yield_now);
                while FORKING.load(Ordering::SeqCst) > 0 {
                    pause();
                }
            }
        }
        Self { counts }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.counts && HELD.replace(HELD.get() - 1) == 1 {
            HOLDERS.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[cfg(all(test, not(backstay_loom)))]
mod tests {
    use super::*;
    use crate::sync::Mutex;
    use std::sync::Arc;

    // PY-10: destructors and the hooks of others run around a fork, in the forking thread.
    #[test]
    fn the_forking_thread_waits_for_no_fork() {
        watch(thread::yield_now);
        let lock = Arc::new(Mutex::new(0));
        for after in [after_in_parent, after_in_child] {
            before();
            *lock.lock() += 1;
            let elsewhere = Arc::clone(&lock);
            let other = thread::spawn(move || *elsewhere.lock() += 1);
            *lock.lock() += 1;
            // The other one waits, or has not come yet.
            assert_eq!(*lock.lock() % 3, 2);
            after();
            other.join().unwrap();
        }
        assert_eq!(*lock.lock(), 6);
    }
}
