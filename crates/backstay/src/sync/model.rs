//! Threads of loom's models, in which [`park`] keeps a wake-up as std's does: loom's own loses one that finds its thread
//! waiting for a lock.

use std::future::Future;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use loom::sync::{Condvar, Mutex};
pub(crate) use loom::thread::{JoinHandle, ThreadId, spawn};

loom::thread_local! {
    static CURRENT: Thread = Thread { id: loom::thread::current().id(), token: Arc::default() };
}

/// As `std::thread::Thread`.
#[derive(Clone, Debug)]
pub(crate) struct Thread {
    id: ThreadId,
    token: Arc<Token>,
}

#[derive(Debug, Default)]
struct Token {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Thread {
    pub(crate) fn id(&self) -> ThreadId {
        self.id
    }

    pub(crate) fn unpark(&self) {
        *self.token.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.token.changed.notify_one();
    }
}

impl Wake for Thread {
    fn wake(self: Arc<Self>) {
        self.unpark();
    }
}

pub(crate) fn current() -> Thread {
    CURRENT.with(Thread::clone)
}

pub(crate) fn park() {
    let Thread { token, .. } = current();
    let mut woken = token.woken.lock().unwrap_or_else(PoisonError::into_inner);
    while !*woken {
        woken = token.changed.wait(woken).unwrap_or_else(PoisonError::into_inner);
    }
    *woken = false;
}

/// Runs `future` to its end.
#[cfg(test)]
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(current()));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => park(),
        }
    }
}
