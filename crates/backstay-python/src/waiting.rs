//! Waiting without the interpreter lock: threads in slices, so that signals are heard, and tasks by being woken.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::sync::PyOnceLock;

use crate::{callbacks, interpreter};

/// Ctrl-C is heard within so long (PY-7).
const SLICE: Duration = Duration::from_millis(50);

/// Lets the interpreter go and calls `wait` with at most as much as is left of `patience`, until it has an answer or
/// the time is over. In the main thread in slices, between which Python's signal handlers run: one that raises ends
/// the wait.
pub(crate) fn wait<T: Send>(
    py: Python<'_>,
    patience: Option<Duration>,
    mut wait: impl FnMut(Duration) -> Option<T> + Send,
) -> PyResult<Option<T>> {
    let start = callbacks::now();
    let in_main_thread = interpreter::is_main_thread(py)?;
    interpreter::waiting(py, || {
        loop {
            let left =
                patience.map_or(Duration::MAX, |patience| patience.saturating_sub(callbacks::now().since(start)));
            let slice = if in_main_thread { left.min(SLICE) } else { left };
            let answer = interpreter::leave(py, || wait(slice));
            py.check_signals()?;
            if answer.is_some() || (slice == left && left != Duration::MAX) {
                return Ok(answer);
            }
        }
    })
}

/// Logs `words` where an event loop runs in this thread, which the wait is about to block; once for each `said`.
pub(crate) fn warn_in_task(py: Python<'_>, said: &AtomicBool, words: impl FnOnce() -> String) -> PyResult<()> {
    static IN_TASK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if said.load(Ordering::Relaxed) {
        return Ok(());
    }
    let in_task = IN_TASK.import(py, "backstay._waiting", "in_task")?;
    if in_task.call0()?.is_truthy()? && !said.swap(true, Ordering::Relaxed) {
        tracing::warn!(target: "backstay", "{}", words());
    }
    interpreter::owed(py)
}

/// Whether this thread has greenlets beside this one, which a wait without Python would stop: gevent has patched the
/// threads, and its hub runs here.
pub(crate) fn in_greenlet(py: Python<'_>) -> PyResult<bool> {
    static IN_GREENLET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    IN_GREENLET.import(py, "backstay._waiting", "in_greenlet")?.call0()?.is_truthy()
}

type Work = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// What a future of ours ends with: the value for Python, or the exception.
pub(crate) type Outcome = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// A future of Rust's for Python to wait for, on whatever loop runs: `backstay._waiting.wait` drives it. Dropping it
/// gives up.
#[pyclass(frozen, module = "backstay._native")]
pub(crate) struct Pending {
    work: Mutex<Option<Work>>,
    wake: Arc<PyWake>,
}

impl Pending {
    pub(crate) fn new(work: impl Future<Output = Outcome> + Send + 'static) -> Self {
        Self { work: Mutex::new(Some(Box::pin(work))), wake: Arc::default() }
    }

    /// Waits while other greenlets run, for at most as long as `patience`; `None` when that is over first.
    pub(crate) fn wait_in_greenlet(self, py: Python<'_>, patience: Option<Duration>) -> PyResult<Option<Py<PyAny>>> {
        static WAIT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let wait = WAIT.import(py, "backstay._waiting", "wait_in_greenlet")?;
        let result = wait.call1((self, patience.map(|patience| patience.as_secs_f64())))?;
        Ok(if result.is_none() { None } else { Some(result.get_item(0)?.unbind()) })
    }

    fn take_work(&self) -> Option<Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What blocks, on a thread of its own; here where there is none to be had. Given up, it goes on all the same.
    pub(crate) fn blocking(work: impl FnOnce() + Send + 'static) -> Self {
        let work = Arc::new(Mutex::new(Some(work)));
        let end = Arc::new(End::default());
        let (theirs, told) = (Arc::clone(&work), Arc::clone(&end));
        let run = move || {
            let work = theirs.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(work) = work {
                work();
                told.come();
            }
        };
        let thread = std::thread::Builder::new().name("backstay-wait".to_owned());
        if thread.spawn(run).is_err() {
            let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(work) = work {
                work();
                end.come();
            }
        }
        Self::new(async move {
            poll_fn(|context| end.poll(context)).await;
            nothing()
        })
    }
}

/// An end that is waited for.
#[derive(Default)]
struct End(Mutex<(bool, Option<Waker>)>);

impl End {
    fn come(&self) {
        let waiter = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.0 = true;
            state.1.take()
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    fn poll(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0 {
            return Poll::Ready(());
        }
        let old = state.1.replace(context.waker().clone());
        drop(state);
        drop(old);
        Poll::Pending
    }
}

/// The outcome `None`.
pub(crate) fn nothing() -> Outcome {
    Box::new(|py| Ok(py.None()))
}

#[pymethods]
impl Pending {
    /// `None` where it is not over: then `wake` is called, from any thread, when it is time to ask again. Otherwise
    /// a tuple of the result.
    fn poll(&self, py: Python<'_>, wake: Py<PyAny>) -> PyResult<Option<(Py<PyAny>,)>> {
        let old = self.wake.lock().replace(wake);
        drop(old);
        let waker = Waker::from(Arc::clone(&self.wake));
        let outcome = interpreter::leave(py, || {
            let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
            let Poll::Ready(outcome) = work.as_mut()?.as_mut().poll(&mut Context::from_waker(&waker)) else {
                return None;
            };
            *work = None;
            Some(outcome)
        });
        outcome.map(|outcome| outcome(py).map(|value| (value,))).transpose()
    }

    /// Gives up: what was reserved is given back now.
    fn close(&self, py: Python<'_>) {
        interpreter::leave(py, || drop(self.take_work()));
    }

    /// Who waits for the future is reached by its waker alone, once the loop is gone.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Held only for moments; a collector must not wait, and may come back.
        let Ok(wake) = self.wake.0.try_lock() else { return Ok(()) };
        visit.call(&*wake)
    }

    fn __clear__(&self, py: Python<'_>) {
        let wake = self.wake.lock().take();
        drop(wake);
        self.close(py);
    }
}

/// Calls a Python function when a future is to be asked again. That belongs to the future, which shows it to Python's
/// garbage collector; here it is only reached.
#[derive(Default)]
struct PyWake(Mutex<Option<Py<PyAny>>>);

impl PyWake {
    fn lock(&self) -> MutexGuard<'_, Option<Py<PyAny>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PyWake {
    fn drop(&mut self) {
        interpreter::drop_inside(self.lock().take());
    }
}

/// A signal handler that raises ends a call of the waker half way; so often in a row it does not.
const TRIES: usize = 100;

impl Wake for PyWake {
    fn wake(self: Arc<Self>) {
        // After the interpreter has ended nobody waits.
        interpreter::enter(|py| {
            let Some(wake) = self.lock().as_ref().map(|wake| wake.clone_ref(py)) else { return };
            let mut interrupted = None;
            for _ in 0..TRIES {
                match wake.call0(py) {
                    Err(error) if !error.is_instance_of::<PyException>(py) => interrupted = Some(error),
                    Err(error) => {
                        error.write_unraisable(py, None);
                        break;
                    }
                    Ok(_) => break,
                }
            }
            if let Some(error) = interrupted {
                interpreter::raise_later(py, error);
            }
        });
    }
}
