//! The heartbeat.

use std::sync::Arc;
use std::time::Duration;

use backstay::heartbeat::{Heartbeat as Handle, HeartbeatError, Status, Target};
use backstay_core::heartbeat::INTERVAL_BOUNDS;
use pyo3::exceptions::{PyAttributeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::types::{PyDict, PyTuple};

use crate::arguments::{path, seconds_within};
use crate::built::Built;
use crate::callbacks::{self, Callback, Callbacks};
use crate::waiting::Pending;
use crate::watchdog::Watchdog;
use crate::{config, errors, interpreter, json, logging};

/// The part of `backstay.Heartbeat` that is not Python.
#[pyclass(frozen, subclass, module = "backstay._native")]
pub(crate) struct Heartbeat(Built<Made>);

struct Made {
    handle: Handle,
    callbacks: Callbacks,
    /// As they were given.
    state_file: Option<Py<PyAny>>,
    target: Option<Py<PyAny>>,
}

impl Heartbeat {
    fn made(&self) -> PyResult<&Made> {
        self.0.get()
    }
}

#[pymethods]
impl Heartbeat {
    /// Takes any arguments: those of a subclass may be others.
    #[new]
    #[pyo3(
        signature = (*_args, **_kwargs),
        text_signature = "(state_file=None, *, interval=None, on_missed_beat=None, on_alert=None, target=None, \
                          on_target_dead=None, on_beat=None, metadata=None, exclusive=False)"
    )]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self(Built::new("Heartbeat"))
    }

    #[allow(clippy::too_many_arguments)] // as many as the contract has
    #[pyo3(signature = (
        state_file = None, *, interval = None, on_missed_beat = None, on_alert = None, target = None,
        on_target_dead = None, on_beat = None, metadata = None, exclusive = false
    ))]
    fn __init__(
        &self,
        py: Python<'_>,
        state_file: Option<Bound<'_, PyAny>>,
        interval: Option<Bound<'_, PyAny>>,
        on_missed_beat: Option<Bound<'_, PyAny>>,
        on_alert: Option<Bound<'_, PyAny>>,
        target: Option<Bound<'_, PyAny>>,
        on_target_dead: Option<Bound<'_, PyAny>>,
        on_beat: Option<Bound<'_, PyAny>>,
        metadata: Option<Bound<'_, PyAny>>,
        exclusive: bool,
    ) -> PyResult<()> {
        const WHO: &str = "a heartbeat";
        logging::look(py);
        let mut callbacks = Callbacks::new();
        let mut builder = Handle::builder().exclusive(exclusive);
        if let Some(file) = &state_file {
            builder = builder.state_file(path("state_file", file)?);
        }
        let has_interval = interval.is_some();
        if let Some(interval) = interval {
            builder = builder.interval(seconds_within("Heartbeat", "interval", &interval, &INTERVAL_BOUNDS)?);
        }
        if let Some(metadata) = metadata {
            builder = builder.metadata(json::from_python(&metadata)?);
        }
        builder = match &target {
            None => builder,
            // One of ours is asked without Python, and so also while Python is frozen.
            Some(target) => match target.cast::<Watchdog>() {
                Ok(watchdog) => builder.target(watchdog.get().handle()?.clone()),
                Err(_) => builder.target(PyTarget(callbacks.hold(checked_target(target)?)?)),
            },
        };
        if let Some(callback) = callbacks.add("on_missed_beat", on_missed_beat)? {
            builder = builder.on_missed_beat(move |error| {
                callback.run_logged(WHO, "on_missed_beat", |py| (refused(py, error).into_value(py),).into_pyobject(py));
            });
        }
        if let Some(callback) = callbacks.add("on_alert", on_alert)? {
            builder = builder.on_alert(move |alert| {
                callback.run_logged(WHO, "on_alert", |py| callbacks::alert(py, alert));
            });
        }
        if let Some(callback) = callbacks.add("on_target_dead", on_target_dead)? {
            builder = builder.on_target_dead(move |_| {
                callback.run_logged(WHO, "on_target_dead", |py| Ok(PyTuple::empty(py)));
            });
        }
        if let Some(callback) = callbacks.add("on_beat", on_beat)? {
            builder = builder.on_beat(move |_| callback.run_logged(WHO, "on_beat", |py| Ok(PyTuple::empty(py))));
        }
        if !has_interval {
            builder = builder.config(&config::of(py, "heartbeat")?);
        }
        let handle = builder.build().map_err(errors::build)?;
        let (state_file, target) = (state_file.map(Bound::unbind), target.map(Bound::unbind));
        self.0.set(Made { handle, callbacks, state_file, target })
    }

    /// Starts; what the callbacks return is awaited on `event_loop`, where there is one.
    fn _start(&self, py: Python<'_>, event_loop: Option<Py<PyAny>>) -> PyResult<()> {
        let made = self.made()?;
        let before = made.callbacks.on_loop(py, event_loop);
        interpreter::leave(py, || made.handle.start()).map_err(|error| {
            // One that runs already goes on where it was.
            made.callbacks.on_loop(py, before);
            refused(py, &error)
        })
    }

    /// Ends the beating, with a last state that says so, and waits for it.
    fn _stop(&self, py: Python<'_>) -> PyResult<()> {
        let made = self.made()?;
        interpreter::leave(py, || made.handle.stop());
        Ok(())
    }

    /// `_stop` for tasks.
    fn _astop(&self) -> PyResult<Pending> {
        let handle = self.made()?.handle.clone();
        Ok(Pending::blocking(move || handle.stop()))
    }

    /// Ends the beating, and waits for nothing.
    fn _stop_soon(&self, py: Python<'_>) -> PyResult<()> {
        let made = self.made()?;
        interpreter::leave(py, || made.handle.stop_soon());
        Ok(())
    }

    /// A number that its callbacks know it by; `None` before it is made.
    #[getter]
    fn _component(&self) -> Option<usize> {
        self.0.known().map(|made| made.callbacks.component)
    }

    /// What it follows.
    #[getter]
    fn target(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Ok(self.made()?.target.as_ref().map(|target| target.clone_ref(py)))
    }

    #[getter]
    fn _state_file(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Ok(self.made()?.state_file.as_ref().map(|file| file.clone_ref(py)))
    }

    /// Beats once, now.
    ///
    /// Raises:
    ///     HeartbeatError: the state file could not be written, or the heartbeat was stopped.
    fn beat(&self, py: Python<'_>) -> PyResult<()> {
        let made = self.made()?;
        interpreter::leave(py, || made.handle.beat()).map_err(|error| refused(py, &error))
    }

    /// Says how the service is: "starting", "ready", "degraded" or "stopping".
    fn set_status(&self, py: Python<'_>, status: &str) -> PyResult<()> {
        let status = match status {
            "starting" => Status::Starting,
            "ready" => Status::Ready,
            "degraded" => Status::Degraded,
            "stopping" => Status::Stopping,
            other => {
                let allowed = "allowed are 'starting', 'ready', 'degraded' and 'stopping'";
                return Err(PyValueError::new_err(format!("status is {other:?}, {allowed}")));
            }
        };
        let made = self.made()?;
        interpreter::leave(py, || made.handle.set_status(status));
        Ok(())
    }

    /// Replaces the metadata, from the next beat on.
    ///
    /// Raises:
    ///     ValueError, TypeError: it is no JSON, or more than a reader takes. The old is kept.
    fn set_metadata(&self, py: Python<'_>, metadata: &Bound<'_, PyAny>) -> PyResult<()> {
        let made = self.made()?;
        let metadata = json::from_python(metadata)?;
        let set = interpreter::leave(py, || made.handle.set_metadata(metadata));
        set.map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// Whether it beats.
    #[getter]
    fn is_running(&self) -> PyResult<bool> {
        Ok(self.made()?.handle.is_running())
    }

    /// Seconds between two beats.
    #[getter]
    fn interval(&self) -> PyResult<f64> {
        Ok(self.made()?.handle.interval().as_secs_f64())
    }

    /// Whether the heartbeat in `state_file` is fresh and its process alive.
    #[staticmethod]
    #[pyo3(name = "_is_alive")]
    fn is_alive(py: Python<'_>, state_file: &Bound<'_, PyAny>, max_age: &Bound<'_, PyAny>) -> PyResult<bool> {
        let state_file = path("state_file", state_file)?;
        let max_age = seconds_within("Heartbeat", "max_age_seconds", max_age, &(Duration::ZERO..=Duration::MAX))?;
        Ok(interpreter::leave(py, || Handle::is_alive(&state_file, max_age)))
    }

    #[staticmethod]
    fn _read_state<'py>(py: Python<'py>, state_file: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let state_file = path("state_file", state_file)?;
        let Ok(state) = interpreter::leave(py, || Handle::read_state(&state_file)) else { return Ok(None) };
        let value = serde_json::to_value(state).map_err(|error| PyValueError::new_err(error.to_string()))?;
        json::to_python(py, &value).map(Some)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(made) = self.0.known() else { return Ok(()) };
        visit.call(&made.state_file)?;
        visit.call(&made.target)?;
        made.callbacks.traverse(&visit)
    }

    fn __clear__(&self) {
        if let Some(made) = self.0.known() {
            made.callbacks.clear();
        }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        // The last handle may wait for the beating thread, which may want the interpreter.
        if let Some(made) = self.0.take() {
            Python::try_attach(|py| interpreter::leave(py, || drop(made)));
        }
    }
}

fn refused(py: Python<'_>, error: &HeartbeatError) -> PyErr {
    errors::HEARTBEAT.error(py, error.to_string())
}

/// What can be followed: a method would always be true.
fn checked_target<'a, 'py>(target: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, PyAny>> {
    let wrong =
        |what: &str| Err(PyTypeError::new_err(format!("target {what}, allowed is anything with a property is_dead")));
    match target.getattr("is_dead") {
        Ok(answer) if answer.is_callable() => wrong("has a method is_dead"),
        Err(error) if error.is_instance_of::<PyAttributeError>(target.py()) => wrong("has no is_dead"),
        Ok(_) | Err(_) => Ok(target),
    }
}

/// Anything with a property `is_dead`. One that raises is logged, and taken to live.
struct PyTarget(Arc<Callback>);

impl Target for PyTarget {
    fn is_dead(&self) -> bool {
        let asked = self.0.ask(|target| {
            let answer = target.getattr("is_dead").and_then(|answer| answer.is_truthy());
            answer.map_err(|error| callbacks::described(target.py(), &error))
        });
        match asked {
            Some(Ok(is_dead)) => is_dead,
            Some(Err(error)) => {
                tracing::error!(target: "backstay", error, "a heartbeat's target raised");
                false
            }
            None => false,
        }
    }
}
