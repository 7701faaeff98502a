//! Synchronization primitives: those of std, or loom's under `--cfg backstay_loom`.

#[cfg(backstay_loom)]
pub(crate) use loom::sync::{Arc, atomic};
#[cfg(not(backstay_loom))]
pub(crate) use std::sync::{Arc, atomic};

#[cfg(backstay_loom)]
use loom::sync as imp;
#[cfg(backstay_loom)]
#[path = "sync/model.rs"]
pub(crate) mod thread;
#[cfg(not(backstay_loom))]
use std::sync as imp;
#[cfg(not(backstay_loom))]
pub(crate) use std::thread;

use std::ops::{Deref, DerefMut};
use std::task::Waker;

pub(crate) use thread::park;

/// The plain locks, for code that waits on a condition variable.
pub(crate) mod raw {
    pub(crate) use super::imp::{Condvar, Mutex, MutexGuard};
}

/// A mutex without poisoning. No code that can panic runs under it, and a destructor must be able to lock it.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(imp::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(imp::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        #[cfg(not(backstay_loom))]
        let _inside_gate = crate::process::fork::InsideGate::enter();
        MutexGuard {
            guard: self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
            #[cfg(not(backstay_loom))]
            _inside_gate,
        }
    }
}

/// Unlocks its mutex when dropped.
#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T> {
    guard: imp::MutexGuard<'a, T>,
    // Dropped after `guard`, in field order: the mutex is unlocked inside the fork gate.
    #[cfg(not(backstay_loom))]
    _inside_gate: crate::process::fork::InsideGate,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// A waiter to wake: a parked thread or a pending task. One queue holds both.
///
/// Wake-ups may be spurious, and several may be merged: after each, the waiter checks its condition again.
#[derive(Clone, Debug)]
pub(crate) enum Wake {
    /// A thread in [`park`](thread::park).
    Thread(thread::Thread),
    /// A task that returned `Pending`.
    Task(Waker),
}

impl Wake {
    /// Returns the waker of the calling thread.
    pub(crate) fn this_thread() -> Self {
        Self::Thread(thread::current())
    }

    /// Wakes the waiter. Never call it under a lock: the waker of a task is foreign code.
    pub(crate) fn wake(self) {
        match self {
            Self::Thread(thread) => thread.unpark(),
            Self::Task(waker) => waker.wake(),
        }
    }
}
