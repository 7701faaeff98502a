//! What the handles synchronise with: std's own, or loom's under `--cfg backstay_loom`. One switch, here.

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

/// The locks themselves, for what waits on a condition.
pub(crate) mod raw {
    pub(crate) use super::imp::{Condvar, Mutex, MutexGuard};
}

/// A mutex that a panic does not poison: no code that can panic runs under ours, and a destructor must still get in.
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

/// The lock, held.
#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T> {
    guard: imp::MutexGuard<'a, T>,
    // Dropped after the lock.
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

/// Whom to wake: a parked thread or a pending task. One queue holds both.
///
/// A wake-up may come without cause and several may fall into one: whoever wakes looks again.
#[derive(Clone, Debug)]
pub(crate) enum Wake {
    /// A thread in [`park`](thread::park).
    Thread(thread::Thread),
    /// A task that returned `Pending`.
    Task(Waker),
}

impl Wake {
    /// Wakes the calling thread.
    pub(crate) fn this_thread() -> Self {
        Self::Thread(thread::current())
    }

    /// Foreign code may run here (a waker's): never call it under a lock.
    pub(crate) fn wake(self) {
        match self {
            Self::Thread(thread) => thread.unpark(),
            Self::Task(waker) => waker.wake(),
        }
    }
}
