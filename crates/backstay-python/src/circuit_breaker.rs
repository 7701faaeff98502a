//! The circuit breaker.

use backstay::circuit_breaker::{CircuitBreaker as Handle, CircuitState};
use backstay_core::circuit_breaker::{HALF_OPEN_MAX_CALLS_BOUNDS, MAX_FAILURES_BOUNDS, RESET_TIMEOUT_BOUNDS};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

use crate::arguments::{Given, integer_within, seconds_within, text};
use crate::built::Built;
use crate::callbacks::Callbacks;
use crate::{config, errors, interpreter, logging};

/// The part of `backstay.CircuitBreaker` that is not Python.
#[pyclass(frozen, subclass, module = "backstay._native")]
pub(crate) struct CircuitBreaker(Built<Made>);

pub(crate) struct Made {
    pub(crate) handle: Handle,
    /// Classes of exceptions that are neither success nor failure.
    pub(crate) excluded: Py<PyTuple>,
    callbacks: Callbacks,
}

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
                          name=None, half_open_timeout=None, cancellation_is_failure=None, on_state_change=None)"
    )]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self(Built::new("CircuitBreaker"))
    }

    #[allow(clippy::too_many_arguments)] // as many as it has settings
    #[pyo3(signature = (
        *, max_failures = None, reset_timeout = None, half_open_max_calls = None, excluded_exceptions = Given(None),
        name = None, half_open_timeout = None, cancellation_is_failure = None, on_state_change = None
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
    ) -> PyResult<()> {
        const WHO: &str = "CircuitBreaker";
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
        let mut callbacks = Callbacks::new();
        if let Some(callback) = callbacks.add("on_state_change", on_state_change)? {
            builder = builder.on_state_change(move |transition| {
                callback.run_logged("a circuit breaker", "on_state_change", |py| {
                    (state(py, transition.from)?, state(py, transition.to)?).into_pyobject(py)
                });
            });
        }
        if max_failures.and(reset_timeout).and(half_open_max_calls).is_none() {
            builder = builder.config(&config::of(py, "circuit_breaker")?);
        }
        let handle = builder.build().map_err(errors::build)?;
        self.0.set(Made { handle, excluded: excluded.unbind(), callbacks })
    }

    fn _build_named(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        logging::look(py);
        let handle = Handle::named_with(name, |builder| {
            builder.config(&config::of(py, "circuit_breaker")?).build().map_err(errors::build)
        })?;
        self.0.set(Made { handle, excluded: PyTuple::empty(py).unbind(), callbacks: Callbacks::new() })
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

    /// Total, successful, failed, rejected, state changes.
    fn _stats(&self) -> PyResult<(u64, u64, u64, u64, u64)> {
        let stats = self.made()?.handle.stats();
        Ok((stats.total, stats.successful, stats.failed, stats.rejected, stats.state_changes))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(made) = self.0.known() else { return Ok(()) };
        visit.call(&made.excluded)?;
        made.callbacks.traverse(&visit)
    }

    fn __clear__(&self) {
        if let Some(made) = self.0.known() {
            made.callbacks.clear();
        }
    }
}

fn state(py: Python<'_>, state: CircuitState) -> PyResult<Bound<'_, PyAny>> {
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
