//! Forking while other threads are at work, for languages whose programs do that.
//!
//! A forked child inherits the locks of a handle as they happen to be, and nobody who would open them. So whoever is
//! about to fork lets all that is being done under a lock come to its end first. Nothing that takes long is, but a
//! Rust program has no place where it could say that it forks: without [`watch`] this costs one load.
#![doc(hidden)]

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::clock::Clock;

/// Longer than anything is done under a lock, unless a disk hangs.
const PATIENCE: Duration = Duration::from_secs(1);

static WATCHED: AtomicBool = AtomicBool::new(false);
/// Threads that hold one of our locks.
static HOLDERS: AtomicUsize = AtomicUsize::new(0);
static FORKING: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// How many locks this thread holds.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// From now on [`before`], and then [`after_in_parent`] or [`after_in_child`], surround each fork.
pub fn watch() {
    WATCHED.store(true, Ordering::SeqCst);
}

/// Waits until no other thread holds a lock, and keeps them from taking one. Goes ahead when a second is over.
pub fn before() {
    FORKING.store(true, Ordering::SeqCst);
    let clock = Clock::system();
    let start = clock.now();
    while HOLDERS.load(Ordering::SeqCst) > own() && clock.now().since(start) < PATIENCE {
        thread::yield_now();
    }
}

/// Lets the others go on.
pub fn after_in_parent() {
    FORKING.store(false, Ordering::SeqCst);
}

/// The child has but this one thread.
pub fn after_in_child() {
    HOLDERS.store(own(), Ordering::SeqCst);
    FORKING.store(false, Ordering::SeqCst);
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
                if !FORKING.load(Ordering::SeqCst) {
                    break;
                }
                HOLDERS.fetch_sub(1, Ordering::SeqCst);
                while FORKING.load(Ordering::SeqCst) {
                    thread::yield_now();
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
