//! What the handles synchronise with: std's own, or loom's under `--cfg backstay_loom`. One switch, here.

#[cfg(backstay_loom)]
pub(crate) use loom::sync::{Arc, atomic};
#[cfg(not(backstay_loom))]
pub(crate) use std::sync::{Arc, atomic};

#[cfg(backstay_loom)]
use loom::sync as imp;
#[cfg(backstay_loom)]
pub(crate) use loom::thread;
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
        let _pass = crate::fork::Pass::enter();
        MutexGuard {
            guard: self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
            #[cfg(not(backstay_loom))]
            _pass,
        }
    }
}

/// The lock, held.
#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T> {
    guard: imp::MutexGuard<'a, T>,
    // Given back after the lock.
    #[cfg(not(backstay_loom))]
    _pass: crate::fork::Pass,
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

/// Runs `future` to its end in a loom model.
#[cfg(all(test, backstay_loom))]
pub(crate) fn block_on<F: std::future::Future>(future: F) -> F::Output {
    /// A wake-up that stays until it is seen. Loom's own `park` forgets one that finds its thread at a lock.
    #[derive(Default)]
    struct Token {
        woken: imp::Mutex<bool>,
        changed: imp::Condvar,
    }

    impl std::task::Wake for Token {
        fn wake(self: std::sync::Arc<Self>) {
            *self.woken.lock().unwrap() = true;
            self.changed.notify_one();
        }
    }

    let token = std::sync::Arc::new(Token::default());
    let waker = Waker::from(std::sync::Arc::clone(&token));
    let mut future = std::pin::pin!(future);
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            return output;
        }
        let mut woken = token.woken.lock().unwrap();
        while !*woken {
            woken = token.changed.wait(woken).unwrap();
        }
        *woken = false;
    }
}

/// Starts a thread in a loom model; what is returned waits for its end. Loom's own `join` takes a wake-up that was meant
/// for `park`, and comes too late, for the end.
#[cfg(all(test, backstay_loom))]
pub(crate) fn spawn<T: 'static>(f: impl FnOnce() -> T + 'static) -> impl FnOnce() -> T {
    let (waiter, done) = (thread::current(), Arc::new(atomic::AtomicBool::new(false)));
    let result = std::rc::Rc::new(std::cell::RefCell::new(None));
    let (theirs, said) = (std::rc::Rc::clone(&result), Arc::clone(&done));
    thread::spawn(move || {
        *theirs.borrow_mut() = Some(f());
        said.store(true, atomic::Ordering::Release);
        waiter.unpark();
    });
    move || {
        while !done.load(atomic::Ordering::Acquire) {
            park();
        }
        result.take().unwrap()
    }
}
