//! Graceful shutdown. The signals themselves are taken by Python's own `signal` module, in `shutdown.py` (PY-11).

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use backstay::ShutdownError;
use backstay::shutdown::{GracefulShutdown as Handle, ShutdownReport, Signal};
use backstay_core::shutdown::{FORCE_EXIT_CODE_BOUNDS, TIMEOUT_BOUNDS};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::types::{PyDict, PyTuple};

use crate::arguments::{integer, integer_within, patience, positive_seconds, seconds_within, text};
use crate::built::Built;
use crate::callbacks::{Callback, new_component};
use crate::waiting::{self, Pending, nothing};
use crate::{config, errors, interpreter, logging};

/// The part of `backstay.GracefulShutdown` that is not Python.
#[pyclass(frozen, subclass, module = "backstay._native")]
pub(crate) struct GracefulShutdown(Built<Made>);

struct Made {
    handle: Handle,
    /// Which signals to take, where they were given.
    signals: Option<Py<PyAny>>,
    /// What lay under our handler, also while it is not installed: it may still be called by one that lies over it.
    previous: Py<PyDict>,
    component: usize,
    /// What is registered, for the garbage collector and for the loop on which it is awaited.
    callbacks: Mutex<Vec<Weak<Callback>>>,
    /// Whether the log says already that a wait blocked an event loop.
    blocks_loop: AtomicBool,
}

impl GracefulShutdown {
    fn made(&self) -> PyResult<&Made> {
        self.0.get()
    }
}

impl Made {
    fn registered(&self) -> Vec<Arc<Callback>> {
        let mut callbacks = self.callbacks.lock().unwrap_or_else(PoisonError::into_inner);
        callbacks.retain(|callback| callback.strong_count() > 0);
        callbacks.iter().filter_map(Weak::upgrade).collect()
    }
}

#[pymethods]
impl GracefulShutdown {
    /// Takes any arguments: those of a subclass may be others.
    #[new]
    #[pyo3(
        signature = (*_args, **_kwargs),
        text_signature = "(*, timeout=None, signals=None, force_exit_code=1, drain_delay=None)"
    )]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self(Built::new("GracefulShutdown"))
    }

    #[pyo3(signature = (*, timeout = None, signals = None, force_exit_code = None, drain_delay = None))]
    fn __init__(
        &self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
        signals: Option<&Bound<'_, PyAny>>,
        force_exit_code: Option<&Bound<'_, PyAny>>,
        drain_delay: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        logging::look(py);
        // Signals are Python's: the handle is asked to take none.
        let mut builder = Handle::builder().signals([]);
        if let Some(timeout) = timeout {
            builder = builder.timeout(seconds_within("GracefulShutdown", "timeout", timeout, &TIMEOUT_BOUNDS)?);
        }
        if let Some(delay) = drain_delay {
            builder = builder.drain_delay(patience("drain_delay", Some(delay))?.unwrap_or(Duration::MAX));
        }
        if let Some(code) = force_exit_code {
            let given = integer("force_exit_code", code)?;
            let code = i32::try_from(given).ok().filter(|code| FORCE_EXIT_CODE_BOUNDS.contains(code));
            let wrong = || PyValueError::new_err(format!("force_exit_code is {given}, allowed is 0 to 255"));
            builder = builder.force_exit_code(code.ok_or_else(wrong)?);
        }
        if timeout.is_none() || force_exit_code.is_none() || drain_delay.is_none() {
            builder = builder.config(&config::of(py, "shutdown")?);
        }
        let handle = builder.build().map_err(errors::build)?;
        let checked = |signals: &Bound<'_, PyAny>| -> PyResult<_> {
            Ok(py.import("backstay._signals")?.call_method1("checked", (signals,))?.unbind())
        };
        let signals = signals.map(checked).transpose()?;
        self.0.set(Made {
            handle,
            signals,
            previous: PyDict::new(py).unbind(),
            component: new_component(),
            callbacks: Mutex::default(),
            blocks_loop: AtomicBool::default(),
        })
    }

    #[getter]
    fn _signals(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Ok(self.made()?.signals.as_ref().map(|signals| signals.clone_ref(py)))
    }

    #[getter]
    fn _previous(&self, py: Python<'_>) -> PyResult<Py<PyDict>> {
        Ok(self.made()?.previous.clone_ref(py))
    }

    /// Registers a callback, plain or async.
    fn _register(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        callback: Bound<'_, PyAny>,
        priority: &Bound<'_, PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        if !callback.is_callable() {
            let found = callback.get_type();
            return Err(PyTypeError::new_err(format!("callback is a {}, allowed is a function", found.name()?)));
        }
        let made = self.made()?;
        let callback = Callback::new(&callback, made.component)?;
        let known = Arc::downgrade(&callback);
        let name = text("name", name)?;
        let priority = integer_within("GracefulShutdown", "priority", priority, &(i32::MIN..=i32::MAX))?;
        let mut registration = made.handle.callback(&name).priority(priority);
        if let Some(timeout) = timeout {
            registration = registration.timeout(positive_seconds("timeout", timeout)?);
        }
        let run = move || callback.run(|py| Ok(PyTuple::empty(py)));
        interpreter::leave(py, || registration.register(run)).map_err(|error| refused(py, &error))?;
        made.callbacks.lock().unwrap_or_else(PoisonError::into_inner).push(known);
        Ok(())
    }

    /// Takes out a callback that has not had its turn; whether there was one of that name.
    fn unregister(&self, py: Python<'_>, name: &str) -> PyResult<bool> {
        let made = self.made()?;
        Ok(interpreter::leave(py, || made.handle.unregister(name)))
    }

    /// What async callbacks return is from now on awaited on this loop, while it runs.
    fn _on_loop(&self, py: Python<'_>, event_loop: Option<Py<PyAny>>) -> PyResult<()> {
        for callback in self.made()?.registered() {
            callback.on_loop(event_loop.as_ref().map(|known| known.clone_ref(py)));
        }
        Ok(())
    }

    /// Does what the arrival of a signal does.
    fn _on_signal(&self, py: Python<'_>, number: i32) -> PyResult<()> {
        let made = self.made()?;
        interpreter::leave(py, || made.handle.on_signal(Signal::from_raw(number)));
        Ok(())
    }

    /// Begins the shutdown, or joins the one that is under way, and waits for its end.
    fn _trigger(&self, py: Python<'_>) -> PyResult<()> {
        let handle = &self.made()?.handle;
        // One wait from the beginning on: in an exit handler of the program callbacks are let in only while it waits.
        interpreter::waiting(py, || {
            let is_over = interpreter::leave(py, || {
                // Polled once, it has begun, and goes on by itself. A callback is done at once.
                let mut run = pin!(handle.trigger_async());
                run.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
            });
            if !is_over && waiting::in_greenlet(py)? {
                self._atrigger()?.wait_in_greenlet(py, None)?;
            } else if !is_over {
                waiting::wait(py, None, |slice| handle.wait_timeout(slice).map(drop))?;
            }
            Ok(())
        })
    }

    fn _atrigger(&self) -> PyResult<Pending> {
        let handle = self.made()?.handle.clone();
        Ok(Pending::new(async move {
            handle.trigger_async().await;
            nothing()
        }))
    }

    /// Waits until the shutdown begins, `timeout` seconds at most: whether it has begun.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let timeout = patience("timeout", timeout)?;
        let Made { handle, blocks_loop, .. } = self.made()?;
        if !handle.is_shutting_down() && timeout != Some(Duration::ZERO) {
            waiting::warn_in_task(py, blocks_loop, || {
                "GracefulShutdown.wait() blocks the event loop: in a task use `await shutdown.await_shutdown()`"
                    .to_owned()
            })?;
            if waiting::in_greenlet(py)? {
                return Ok(self._begun()?.wait_in_greenlet(py, timeout)?.is_some());
            }
        }
        let begun = waiting::wait(py, timeout, |slice| handle.begun_within(slice).then_some(()))?;
        Ok(begun.is_some())
    }

    fn _begun(&self) -> PyResult<Pending> {
        let handle = self.made()?.handle.clone();
        Ok(Pending::new(async move {
            handle.begun().await;
            nothing()
        }))
    }

    /// Waits for callbacks that are having their turns.
    fn _settle(&self, py: Python<'_>) -> PyResult<()> {
        let handle = &self.made()?.handle;
        if handle.is_shutting_down() && waiting::in_greenlet(py)? {
            self._asettle()?.wait_in_greenlet(py, None)?;
        } else if handle.is_shutting_down() {
            waiting::wait(py, None, |slice| handle.wait_timeout(slice).map(drop))?;
        }
        Ok(())
    }

    /// `_settle` for tasks.
    fn _asettle(&self) -> PyResult<Pending> {
        let handle = self.made()?.handle.clone();
        Ok(Pending::new(async move {
            if handle.is_shutting_down() {
                handle.wait_async().await;
            }
            nothing()
        }))
    }

    /// A number that its callbacks know it by; `None` before it is made.
    #[getter]
    fn _component(&self) -> Option<usize> {
        self.0.known().map(|made| made.component)
    }

    /// Whether the shutdown has begun.
    #[getter]
    fn is_shutting_down(&self) -> PyResult<bool> {
        Ok(self.made()?.handle.is_shutting_down())
    }

    /// Seconds that all callbacks together may take.
    #[getter]
    fn timeout(&self) -> PyResult<f64> {
        Ok(self.made()?.handle.timeout().as_secs_f64())
    }

    /// Each callback with its outcome and seconds, once the shutdown is over: `(name, outcome, seconds)`.
    #[getter]
    fn report(&self) -> PyResult<Option<Vec<(String, String, f64)>>> {
        let steps = |report: Arc<ShutdownReport>| {
            let step = |step: &backstay::shutdown::Step| {
                (step.name.to_string(), step.outcome.to_string(), step.took.as_secs_f64())
            };
            report.steps.iter().map(step).collect()
        };
        Ok(self.made()?.handle.report().map(steps))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(made) = self.0.known() else { return Ok(()) };
        visit.call(&made.signals)?;
        visit.call(&made.previous)?;
        let Ok(callbacks) = made.callbacks.try_lock() else { return Ok(()) };
        callbacks.iter().filter_map(Weak::upgrade).try_for_each(|callback| callback.traverse(&visit))
    }

    fn __clear__(&self) {
        if let Some(made) = self.0.known() {
            made.registered().iter().for_each(|callback| callback.clear());
        }
    }
}

impl Drop for GracefulShutdown {
    fn drop(&mut self) {
        // The last handle waits for callbacks that are having their turns, and they want the interpreter.
        if let Some(made) = self.0.take() {
            Python::try_attach(|py| interpreter::leave(py, || drop(made)));
        }
    }
}

fn refused(py: Python<'_>, error: &ShutdownError) -> PyErr {
    match error {
        ShutdownError::InvalidArgument(error) => PyValueError::new_err(error.to_string()),
        error => errors::SHUTDOWN.error(py, error.to_string()),
    }
}
