//! The circuit breaker.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backstay::circuit_breaker::{CircuitBreaker as Handle, CircuitBreakerBuilder, CircuitState, Window};
use backstay_core::circuit_breaker::{
    HALF_OPEN_MAX_CALLS_BOUNDS, MAX_FAILURES_BOUNDS, MINIMUM_CALLS_BOUNDS, RESET_TIMEOUT_BOUNDS, SLOW_CALL_BOUNDS,
    WINDOW_BOUNDS, WINDOW_CALLS_BOUNDS,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

use crate::arguments::{Given, integer_within, number, seconds_within, text};
use crate::breaker_listeners::{call_listener, listener};
use crate::built::Built;
use crate::callbacks::{Callback, Callbacks};
use crate::outcomes::{Classifier, Permit};
use crate::{config, errors, interpreter, logging};

/// The part of `backstay.CircuitBreaker` that is not Python.
#[pyclass(frozen, subclass, module = "backstay._native")]
pub(crate) struct CircuitBreaker(Built<Made>);

pub(crate) struct Made {
    pub(crate) handle: Handle,
    pub(crate) classifier: Classifier,
    /// Listeners may be added at any time. The lock is held for moments, never while Python runs.
    callbacks: Mutex<Callbacks>,
}

const WHO: &str = "CircuitBreaker";

impl CircuitBreaker {
    #[inline]
    pub(crate) fn made(&self) -> PyResult<&Made> {
        self.0.get()
    }
}

#[pymethods]
impl CircuitBreaker {
    /// Takes any arguments: those of a subclass may be others.
    #[new]
    #[pyo3(
        signature = (*_args, **_kwargs),
        text_signature = "(*, max_failures=None, reset_timeout=None, half_open_max_calls=None, excluded_exceptions=(), \
                          name=None, half_open_timeout=None, cancellation_is_failure=None, on_state_change=None, \
                          failure_rate=None, window=None, window_calls=None, minimum_calls=None, slow_call=None, \
                          slow_call_rate=None, classify=None, on_call=None)"
    )]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self(Built::new("CircuitBreaker"))
    }

    #[allow(clippy::too_many_arguments)] // as many as it has settings
    #[pyo3(signature = (
        *, max_failures = None, reset_timeout = None, half_open_max_calls = None, excluded_exceptions = Given(None),
        name = None, half_open_timeout = None, cancellation_is_failure = None, on_state_change = None,
        failure_rate = None, window = None, window_calls = None, minimum_calls = None, slow_call = None,
        slow_call_rate = None, classify = None, on_call = None
    ))]
    fn __init__(
        &self,
        py: Python<'_>,
        max_failures: Option<&Bound<'_, PyAny>>,
        reset_timeout: Option<&Bound<'_, PyAny>>,
        half_open_max_calls: Option<&Bound<'_, PyAny>>,
        excluded_exceptions: Given<'_>,
        name: Option<&Bound<'_, PyAny>>,
        half_open_timeout: Option<&Bound<'_, PyAny>>,
        cancellation_is_failure: Option<bool>,
        on_state_change: Option<Bound<'_, PyAny>>,
        failure_rate: Option<&Bound<'_, PyAny>>,
        window: Option<&Bound<'_, PyAny>>,
        window_calls: Option<&Bound<'_, PyAny>>,
        minimum_calls: Option<&Bound<'_, PyAny>>,
        slow_call: Option<&Bound<'_, PyAny>>,
        slow_call_rate: Option<&Bound<'_, PyAny>>,
        classify: Option<&Bound<'_, PyAny>>,
        on_call: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        logging::look(py);
        let mut builder = Handle::builder();
        if let Some(number) = max_failures {
            builder = builder.max_failures(integer_within(WHO, "max_failures", number, &MAX_FAILURES_BOUNDS)?);
        }
        if let Some(seconds) = reset_timeout {
            builder = builder.reset_timeout(seconds_within(WHO, "reset_timeout", seconds, &RESET_TIMEOUT_BOUNDS)?);
        }
        if let Some(number) = half_open_max_calls {
            let number = integer_within(WHO, "half_open_max_calls", number, &HALF_OPEN_MAX_CALLS_BOUNDS)?;
            builder = builder.half_open_max_calls(number);
        }
        if let Some(seconds) = half_open_timeout {
            builder =
                builder.half_open_timeout(seconds_within(WHO, "half_open_timeout", seconds, &RESET_TIMEOUT_BOUNDS)?);
        }
        if let Some(is_failure) = cancellation_is_failure {
            builder = builder.cancellation_is_failure(is_failure);
        }
        let excluded = match excluded_exceptions {
            Given(None) => PyTuple::empty(py),
            Given(Some(given)) => exception_classes(&given)?,
        };
        if let Some(name) = name {
            builder = builder.name(text("name", name)?);
        }
        builder =
            with_rates(builder, [failure_rate, slow_call_rate], [window, slow_call], [window_calls, minimum_calls])?;
        let classifier = Classifier::new(excluded, classify)?;
        let mut callbacks = Callbacks::new();
        let on_state_change = callbacks.add("on_state_change", on_state_change)?;
        let on_call = callbacks.add("on_call", on_call)?;
        if max_failures.and(reset_timeout).and(half_open_max_calls).is_none() {
            builder = builder.config(&config::of(py, "circuit_breaker")?);
        }
        let handle = builder.build().map_err(errors::build)?;
        if let Some(callback) = on_state_change {
            handle.on_state_change(listener(py, callback)?);
        }
        if let Some(callback) = on_call {
            handle.on_call(call_listener(callback));
        }
        self.0.set(Made { handle, classifier, callbacks: Mutex::new(callbacks) })
    }

    fn _build_named(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        logging::look(py);
        let handle = Handle::named_with(name, |builder| {
            builder.config(&config::of(py, "circuit_breaker")?).build().map_err(errors::build)
        })?;
        let classifier = Classifier::new(PyTuple::empty(py), None)?;
        self.0.set(Made { handle, classifier, callbacks: Mutex::new(Callbacks::new()) })
    }

    #[staticmethod]
    fn _names() -> Vec<String> {
        Handle::instances().iter().filter_map(|breaker| breaker.name().map(str::to_owned)).collect()
    }

    /// Asks for admission of one call, whose outcome is reported to the permit.
    ///
    /// Raises:
    ///     CircuitOpenError: the breaker is open.
    fn permit(&self, py: Python<'_>) -> PyResult<Permit> {
        let made = self.made()?;
        let permit = made.handle.try_acquire_owned().map_err(|error| rejected(py, &error))?;
        Ok(Permit::new(py, permit, &made.classifier))
    }

    /// Adds a function, plain or async, that is called after each change of state, in order: with the old and the new state,
    /// and with the cause if it requires a third argument.
    #[pyo3(signature = (callback, /))]
    fn on_state_change(&self, py: Python<'_>, callback: Bound<'_, PyAny>) -> PyResult<()> {
        let made = self.made()?;
        made.handle.on_state_change(listener(py, made.hold(callback)?)?);
        Ok(())
    }

    /// Adds a function, plain or async, that is called after each call that is admitted from now on: with its outcome and
    /// the seconds that it took.
    #[pyo3(signature = (callback, /))]
    fn on_call(&self, callback: Bound<'_, PyAny>) -> PyResult<()> {
        let made = self.made()?;
        made.handle.on_call(call_listener(made.hold(callback)?));
        Ok(())
    }

    /// Closes the breaker and forgets the failures.
    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        self.made()?.handle.reset();
        interpreter::owed(py)
    }

    /// Holds the breaker open until `reset`.
    fn isolate(&self, py: Python<'_>) -> PyResult<()> {
        self.made()?.handle.isolate();
        interpreter::owed(py)
    }

    /// Closed, open or half-open, now.
    #[getter]
    fn state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        state(py, self.made()?.handle.state())
    }

    /// Failures in a row.
    #[getter]
    fn failure_count(&self) -> PyResult<u32> {
        Ok(self.made()?.handle.failure_count())
    }

    /// The name in errors and in the log.
    #[getter]
    fn name(&self) -> PyResult<Option<&str>> {
        Ok(self.made()?.handle.name())
    }

    /// Consecutive failures that open the circuit; `None` if only rates do.
    #[getter]
    fn max_failures(&self) -> PyResult<Option<u32>> {
        Ok(self.made()?.handle.max_failures())
    }

    /// Seconds that the circuit stays open.
    #[getter]
    fn reset_timeout(&self) -> PyResult<f64> {
        Ok(self.made()?.handle.reset_timeout().as_secs_f64())
    }

    /// Half-open calls at once, and successes that close the circuit.
    #[getter]
    fn half_open_max_calls(&self) -> PyResult<u32> {
        Ok(self.made()?.handle.half_open_max_calls())
    }

    /// Seconds after which a half-open call loses its slot.
    #[getter]
    fn half_open_timeout(&self) -> PyResult<f64> {
        Ok(self.made()?.handle.half_open_timeout().as_secs_f64())
    }

    /// Whether cancelled calls are failures.
    #[getter]
    fn cancellation_is_failure(&self) -> PyResult<bool> {
        Ok(self.made()?.handle.cancellation_is_failure())
    }

    /// Share of failed calls that opens the circuit.
    #[getter]
    fn failure_rate(&self) -> PyResult<Option<f64>> {
        Ok(self.made()?.handle.failure_rate())
    }

    /// Seconds of the window of time over which rates are computed.
    #[getter]
    fn window(&self) -> PyResult<Option<f64>> {
        Ok(match self.made()?.handle.window() {
            Some(Window::Time(length)) => Some(length.as_secs_f64()),
            _ => None,
        })
    }

    /// Calls of the window of calls over which rates are computed.
    #[getter]
    fn window_calls(&self) -> PyResult<Option<u32>> {
        Ok(match self.made()?.handle.window() {
            Some(Window::Calls(calls)) => Some(calls),
            _ => None,
        })
    }

    /// Calls that the window must hold before rates open the circuit.
    #[getter]
    fn minimum_calls(&self) -> PyResult<Option<u32>> {
        Ok(self.made()?.handle.minimum_calls())
    }

    /// Seconds above which a call is slow.
    #[getter]
    fn slow_call(&self) -> PyResult<Option<f64>> {
        Ok(self.made()?.handle.slow_call().map(|limit| limit.as_secs_f64()))
    }

    /// Share of slow calls that opens the circuit.
    #[getter]
    fn slow_call_rate(&self) -> PyResult<Option<f64>> {
        Ok(self.made()?.handle.slow_call_rate())
    }

    /// What `CircuitSnapshot` is made of.
    fn _snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let snapshot = self.made()?.handle.snapshot();
        let [calls, failed, slow] = match snapshot.window {
            Some(window) => [window.calls, window.failed, window.slow].map(Some),
            None => [None; 3],
        };
        let (state, mode) = (state(py, snapshot.state)?, snapshot.mode.to_string());
        let left = snapshot.half_open_in.map(|left| left.as_secs_f64());
        (state, mode, calls, failed, slow, snapshot.failure_rate, snapshot.slow_call_rate, left).into_pyobject(py)
    }

    /// Total, successful, failed, rejected, state changes.
    fn _stats(&self) -> PyResult<(u64, u64, u64, u64, u64)> {
        let stats = self.made()?.handle.stats();
        Ok((stats.total, stats.successful, stats.failed, stats.rejected, stats.state_changes))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(made) = self.0.known() else { return Ok(()) };
        made.classifier.traverse(&visit)?;
        // A collector must not wait, and may come back.
        made.callbacks.try_lock().map_or(Ok(()), |callbacks| callbacks.traverse(&visit))
    }

    fn __clear__(&self) {
        if let Some(made) = self.0.known() {
            let callbacks = made.callbacks().clone();
            callbacks.clear();
        }
    }
}

impl Made {
    fn callbacks(&self) -> MutexGuard<'_, Callbacks> {
        self.callbacks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a listener that is added later.
    fn hold(&self, function: Bound<'_, PyAny>) -> PyResult<Arc<Callback>> {
        let mut added = Callbacks::of(self.callbacks().component);
        let callback = added.add("callback", Some(function))?;
        self.callbacks().append(added);
        callback.ok_or_else(|| PyTypeError::new_err("callback is missing"))
    }
}

/// Sets the arguments of rates: shares, seconds, counts.
fn with_rates(
    mut builder: CircuitBreakerBuilder,
    [failure_rate, slow_call_rate]: [Option<&Bound<'_, PyAny>>; 2],
    [window, slow_call]: [Option<&Bound<'_, PyAny>>; 2],
    [window_calls, minimum_calls]: [Option<&Bound<'_, PyAny>>; 2],
) -> PyResult<CircuitBreakerBuilder> {
    if let Some(share) = failure_rate {
        builder = builder.failure_rate(number("failure_rate", share)?);
    }
    if let Some(share) = slow_call_rate {
        builder = builder.slow_call_rate(number("slow_call_rate", share)?);
    }
    builder = match (window, window_calls) {
        (Some(_), Some(_)) => return Err(PyValueError::new_err("window and window_calls exclude each other")),
        (Some(seconds), None) => builder.window(Window::time(seconds_within(WHO, "window", seconds, &WINDOW_BOUNDS)?)),
        (None, Some(calls)) => {
            builder.window(Window::calls(integer_within(WHO, "window_calls", calls, &WINDOW_CALLS_BOUNDS)?))
        }
        (None, None) => builder,
    };
    if let Some(calls) = minimum_calls {
        builder = builder.minimum_calls(integer_within(WHO, "minimum_calls", calls, &MINIMUM_CALLS_BOUNDS)?);
    }
    if let Some(seconds) = slow_call {
        builder = builder.slow_call(seconds_within(WHO, "slow_call", seconds, &SLOW_CALL_BOUNDS)?);
    }
    Ok(builder)
}

pub(crate) fn state(py: Python<'_>, state: CircuitState) -> PyResult<Bound<'_, PyAny>> {
    static STATE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let name = match state {
        CircuitState::Closed => "CLOSED",
        CircuitState::Open => "OPEN",
        CircuitState::HalfOpen => "HALF_OPEN",
    };
    STATE.import(py, "backstay._values", "CircuitState")?.getattr(name)
}

pub(crate) fn rejected(py: Python<'_>, error: &backstay::CircuitOpenError) -> PyErr {
    logging::glance(py);
    errors::circuit_open(py, error)
}

/// A class of exceptions or any iterable of them, as a tuple (PY-6).
fn exception_classes<'py>(given: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let py = given.py();
    let wrong = |found: &Bound<'_, PyAny>| {
        PyTypeError::new_err(format!("excluded_exceptions has {found:?}, allowed are classes of exceptions"))
    };
    let is_class = |candidate: &Bound<'_, PyAny>| {
        let class = candidate.cast::<PyType>();
        class.is_ok_and(|class| class.is_subclass(&py.get_type::<pyo3::exceptions::PyBaseException>()).unwrap_or(false))
    };
    if is_class(given) {
        return PyTuple::new(py, [given]);
    }
    let iterator =
        given.try_iter().map_err(|error| if error.is_instance_of::<PyTypeError>(py) { wrong(given) } else { error })?;
    let classes = iterator.collect::<PyResult<Vec<_>>>()?;
    match classes.iter().find(|class| !is_class(class)) {
        Some(other) => Err(wrong(other)),
        None => PyTuple::new(py, classes),
    }
}
