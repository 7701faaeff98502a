//! The watchdog.

use std::path::PathBuf;
use std::sync::Arc;

use backstay::WatchdogError;
use backstay::watchdog::{TimeoutReport, Watchdog as Handle};
use backstay_core::watchdog::TIMEOUT_BOUNDS;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::types::{PyDict, PyTuple};

use crate::arguments::{path, positive_seconds, seconds_within, text};
use crate::built::Built;
use crate::callbacks::{self, Callback, Callbacks};
use crate::{config, errors, interpreter, logging};

/// The part of `backstay.Watchdog` that is not Python.
#[pyclass(frozen, subclass, module = "backstay._native")]
pub(crate) struct Watchdog(Built<Made>);

struct Made {
    handle: Handle,
    callbacks: Callbacks,
}

impl Watchdog {
    #[inline]
    pub(crate) fn handle(&self) -> PyResult<&Handle> {
        self.made().map(|made| &made.handle)
    }

    fn made(&self) -> PyResult<&Made> {
        self.0.get()
    }
}

#[pymethods]
impl Watchdog {
    /// Takes any arguments: those of a subclass may be others.
    #[new]
    #[pyo3(
        signature = (*_args, **_kwargs),
        text_signature = "(*, timeout=None, on_timeout=None, on_alert=None, name=None)"
    )]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self(Built::new("Watchdog"))
    }

    /// `_raise_on_timeout` is what `watchdog_context` is for.
    #[pyo3(signature = (*, timeout = None, on_timeout = None, on_alert = None, name = None, _raise_on_timeout = false))]
    fn __init__(
        &self,
        py: Python<'_>,
        timeout: Option<Bound<'_, PyAny>>,
        on_timeout: Option<Bound<'_, PyAny>>,
        on_alert: Option<Bound<'_, PyAny>>,
        name: Option<Bound<'_, PyAny>>,
        _raise_on_timeout: bool,
    ) -> PyResult<()> {
        logging::look(py);
        let mut callbacks = Callbacks::new();
        let mut builder = Handle::builder().raise_on_timeout(_raise_on_timeout).stack_of(stack_of);
        let has_timeout = timeout.is_some();
        if let Some(timeout) = timeout {
            builder = builder.timeout(seconds_within("Watchdog", "timeout", &timeout, &TIMEOUT_BOUNDS)?);
        }
        let name = name.map(|name| text("name", &name)).transpose()?;
        let who = who(name.as_deref());
        if let Some(name) = name {
            builder = builder.name(name);
        }
        if let Some(callback) = callbacks.add("on_timeout", on_timeout)? {
            let who = who.clone();
            builder = builder.on_timeout(move |_: &TimeoutReport| timed_out(&callback, &who));
        }
        if let Some(callback) = callbacks.add("on_alert", on_alert)? {
            builder = builder.on_alert(move |alert| alerted(&callback, &who, alert));
        }
        if !has_timeout {
            builder = builder.config(&config::of(py, "watchdog")?);
        }
        let handle = builder.build().map_err(errors::build)?;
        self.0.set(Made { handle, callbacks })
    }

    #[staticmethod]
    fn _names() -> Vec<String> {
        Handle::instances().iter().filter_map(|watchdog| watchdog.name().map(str::to_owned)).collect()
    }

    fn _build_named(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        logging::look(py);
        let handle = Handle::named_with(name, |builder| {
            let builder = builder.stack_of(stack_of).config(&config::of(py, "watchdog")?);
            builder.build().map_err(errors::build)
        })?;
        self.0.set(Made { handle, callbacks: Callbacks::new() })
    }

    #[allow(clippy::too_many_arguments)] // as many as the contract has
    fn _build_for_file(
        &self,
        py: Python<'_>,
        state_file: &Bound<'_, PyAny>,
        check_interval: Option<&Bound<'_, PyAny>>,
        max_age: &Bound<'_, PyAny>,
        on_timeout: Option<Bound<'_, PyAny>>,
        on_alert: Option<Bound<'_, PyAny>>,
        name: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        logging::look(py);
        let mut callbacks = Callbacks::new();
        let max_age = positive_seconds("max_age", max_age)?;
        let name = text("name", name)?;
        let mut builder = Handle::from_state_file(path("state_file", state_file)?).max_age(max_age).name(name.as_str());
        if let Some(interval) = check_interval {
            builder = builder.check_interval(seconds_within("Watchdog", "check_interval", interval, &TIMEOUT_BOUNDS)?);
        }
        let who = who(Some(&name));
        if let Some(callback) = callbacks.add("on_timeout", on_timeout)? {
            let who = who.clone();
            builder = builder.on_timeout(move |_: &TimeoutReport| timed_out(&callback, &who));
        }
        if let Some(callback) = callbacks.add("on_alert", on_alert)? {
            builder = builder.on_alert(move |alert| alerted(&callback, &who, alert));
        }
        let handle = builder.build().map_err(errors::build)?;
        self.0.set(Made { handle, callbacks })
    }

    /// Sets the clock back: "I live". From any thread.
    ///
    /// Raises:
    ///     WatchdogTimeoutError: once after each time that it fired, where it was made by
    ///         `watchdog_context(raise_on_timeout=True)`; that of others never raises.
    fn ping(&self, py: Python<'_>) -> PyResult<()> {
        self.handle()?.try_ping().map_err(|error| errors::watchdog_timeout(py, &error))
    }

    /// Begins to watch.
    ///
    /// Raises:
    ///     RuntimeError: it is already running.
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        let handle = self.handle()?;
        interpreter::leave(py, || handle.start()).map_err(|error| match error {
            WatchdogError::AlreadyRunning { .. } => errors::WATCHDOG.error(py, error.to_string()),
            error => PyRuntimeError::new_err(error.to_string()),
        })
    }

    /// Ends the watch. Of one that does not run, nothing happens.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        let handle = self.handle()?;
        interpreter::leave(py, || handle.stop());
        Ok(())
    }

    /// Sets the clock back, without being a ping.
    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        let handle = self.handle()?;
        interpreter::leave(py, || handle.reset());
        Ok(())
    }

    /// Raises the error that is owed, without being a ping.
    fn _check(&self, py: Python<'_>) -> PyResult<()> {
        self.handle()?.check().map_err(|error| errors::watchdog_timeout(py, &error))
    }

    /// Seconds without a ping after which it fires.
    #[getter]
    fn timeout(&self) -> PyResult<f64> {
        Ok(self.handle()?.timeout().as_secs_f64())
    }

    /// The name in reports, in the log and in errors.
    #[getter]
    fn name(&self) -> PyResult<Option<&str>> {
        Ok(self.handle()?.name())
    }

    /// Whether it watches.
    #[getter]
    fn is_running(&self) -> PyResult<bool> {
        Ok(self.handle()?.is_running())
    }

    /// Whether it has fired and nobody has pinged since.
    #[getter]
    fn is_triggered(&self) -> PyResult<bool> {
        Ok(self.handle()?.is_triggered())
    }

    /// Whether it has fired and nobody has pinged since; so that a heartbeat can follow it.
    #[getter]
    fn is_dead(&self) -> PyResult<bool> {
        Ok(self.handle()?.is_triggered())
    }

    /// Seconds since the last ping.
    #[getter]
    fn seconds_since_ping(&self) -> PyResult<f64> {
        Ok(self.handle()?.inactive().as_secs_f64())
    }

    fn _state_file(&self) -> PyResult<Option<PathBuf>> {
        Ok(self.handle()?.state_file().map(PathBuf::from))
    }

    /// Pings, firings, when the last ping came and when it was started.
    fn _stats(&self) -> PyResult<(u64, u64, Option<f64>, Option<f64>)> {
        let stats = self.handle()?.stats();
        #[allow(clippy::cast_precision_loss)]
        let seconds = |moment: backstay::clock::Moment| moment.as_nanos() as f64 / 1e9;
        let (last, started) = (stats.last_ping.map(seconds), stats.started_at.map(seconds));
        Ok((stats.pings_total, stats.timeouts_triggered, last, started))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.known().map_or(Ok(()), |made| made.callbacks.traverse(&visit))
    }

    fn __clear__(&self) {
        if let Some(made) = self.0.known() {
            made.callbacks.clear();
        }
    }
}

fn who(name: Option<&str>) -> String {
    name.map_or_else(|| "a watchdog".to_owned(), |name| format!("watchdog {name:?}"))
}

fn timed_out(callback: &Arc<Callback>, who: &str) {
    callback.run_logged(who, "on_timeout", |py| Ok(PyTuple::empty(py)));
}

fn alerted(callback: &Arc<Callback>, who: &str, alert: &backstay::Alert) {
    callback.run_logged(who, "on_alert", |py| callbacks::alert(py, alert));
}

/// What the thread with this id of the operating system is doing (WD-6).
fn stack_of(thread: u32) -> Option<String> {
    interpreter::enter(|py| {
        let asked = || py.import("backstay._threads")?.call_method1("stack_of", (thread,))?.extract();
        asked().unwrap_or_default()
    })?
}
