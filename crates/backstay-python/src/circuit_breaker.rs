//! The circuit breaker.

use std::sync::{Mutex, OnceLock, PoisonError};

use backstay::circuit_breaker::{CircuitBreaker as Handle, CircuitState, Permit as OwnedPermit, Verdict};
use backstay_core::circuit_breaker::{HALF_OPEN_MAX_CALLS_BOUNDS, MAX_FAILURES_BOUNDS, RESET_TIMEOUT_BOUNDS};
use pyo3::exceptions::{
    PyBaseException, PyException, PyGeneratorExit, PyKeyboardInterrupt, PyRuntimeError, PySystemExit, PyTypeError,
};
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyNone, PyString, PyTuple, PyType};

use crate::arguments::{integer_within, seconds_within, text};
use crate::callbacks::Callbacks;
use crate::{config, errors, interpreter, logging};

/// The part of `backstay.CircuitBreaker` that is not Python.
#[pyclass(frozen, subclass, module = "backstay._native")]
pub(crate) struct CircuitBreaker(OnceLock<Made>);

struct Made {
    handle: Handle,
    /// Classes of exceptions that are neither success nor failure.
    excluded: Py<PyTuple>,
    callbacks: Callbacks,
}

impl CircuitBreaker {
    #[inline]
    fn made(&self) -> PyResult<&Made> {
        self.0.get().ok_or_else(|| PyRuntimeError::new_err("CircuitBreaker.__init__ was not called"))
    }

    fn make(&self, made: Made) -> PyResult<()> {
        self.0.set(made).map_err(|_| PyRuntimeError::new_err("CircuitBreaker.__init__ was called twice"))
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
        Self(OnceLock::new())
    }

    #[allow(clippy::too_many_arguments)] // as many as it has settings
    #[pyo3(signature = (
        *, max_failures = None, reset_timeout = None, half_open_max_calls = None, excluded_exceptions = Excluded(None),
        name = None, half_open_timeout = None, cancellation_is_failure = None, on_state_change = None
    ))]
    fn __init__(
        &self,
        py: Python<'_>,
        max_failures: Option<&Bound<'_, PyAny>>,
        reset_timeout: Option<&Bound<'_, PyAny>>,
        half_open_max_calls: Option<&Bound<'_, PyAny>>,
        excluded_exceptions: Excluded<'_>,
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
            Excluded(None) => PyTuple::empty(py),
            Excluded(Some(given)) => exception_classes(&given)?,
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
        self.make(Made { handle, excluded: excluded.unbind(), callbacks })
    }

    fn _build_named(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        logging::look(py);
        let handle = Handle::named_with(name, |builder| {
            builder.config(&config::of(py, "circuit_breaker")?).build().map_err(errors::build)
        })?;
        self.make(Made { handle, excluded: PyTuple::empty(py).unbind(), callbacks: Callbacks::new() })
    }

    /// Calls `func(*args, **kwargs)` if the breaker lets it pass.
    ///
    /// A coroutine, task, future or generator that it returns is judged when it ends; a task or future comes back itself.
    ///
    /// Raises:
    ///     CircuitOpenError: the breaker is open; `func` was not called.
    ///     BaseException: whatever `func` raises.
    #[pyo3(signature = (func, /, *args, **kwargs))]
    fn call<'py>(
        &self,
        py: Python<'py>,
        func: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let made = self.made()?;
        let permit = made.handle.try_acquire_owned().map_err(|error| rejected(py, &error))?;
        match func.call(args, kwargs) {
            Ok(value) if is_plain(&value) => {
                permit.success();
                interpreter::owed(py)?;
                Ok(value)
            }
            Ok(value) => follow(py, made, permit, value),
            Err(error) => {
                raised(py, permit, &error, made.excluded.bind(py));
                interpreter::owed(py)?;
                Err(error)
            }
        }
    }

    /// Lets one call pass, that reports its end itself.
    fn _admit(&self, py: Python<'_>) -> PyResult<Permit> {
        let made = self.made()?;
        let permit = made.handle.try_acquire_owned().map_err(|error| rejected(py, &error))?;
        Ok(Permit { permit: Mutex::new(Some(permit)), excluded: made.excluded.clone_ref(py) })
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
        let Some(made) = self.0.get() else { return Ok(()) };
        visit.call(&made.excluded)?;
        made.callbacks.traverse(&visit)
    }

    fn __clear__(&self) {
        if let Some(made) = self.0.get() {
            made.callbacks.clear();
        }
    }
}

/// The leave to make one call. Dropped without a word, the call counts as neither success nor failure.
#[pyclass(frozen, module = "backstay._native")]
pub(crate) struct Permit {
    permit: Mutex<Option<OwnedPermit>>,
    excluded: Py<PyTuple>,
}

impl Permit {
    fn take(&self) -> Option<OwnedPermit> {
        self.permit.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[pymethods]
impl Permit {
    /// The call ended well. Whatever is reported after the first report is ignored.
    fn success(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(permit) = self.take() {
            permit.success();
        }
        interpreter::owed(py)
    }

    /// The call was cancelled. Whether that is a failure, the breaker was told.
    fn cancelled(&self, py: Python<'_>) -> PyResult<()> {
        drop(self.take());
        interpreter::owed(py)
    }

    /// The call ended with this exception.
    fn raised(&self, py: Python<'_>, error: Bound<'_, PyAny>) -> PyResult<()> {
        if let Some(permit) = self.take() {
            raised(py, permit, &PyErr::from_value(error), self.excluded.bind(py));
        }
        interpreter::owed(py)
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

fn rejected(py: Python<'_>, error: &backstay::CircuitOpenError) -> PyErr {
    logging::glance(py);
    errors::circuit_open(py, error)
}

/// Whether a result is what it looks like: no promise that is still to be kept. Only the usual types, which is quick;
/// the others are looked at in Python.
#[inline]
fn is_plain(value: &Bound<'_, PyAny>) -> bool {
    value.is_exact_instance_of::<PyNone>()
        || value.is_exact_instance_of::<PyDict>()
        || value.is_exact_instance_of::<PyInt>()
        || value.is_exact_instance_of::<PyString>()
        || value.is_exact_instance_of::<PyList>()
        || value.is_exact_instance_of::<PyBool>()
        || value.is_exact_instance_of::<PyTuple>()
        || value.is_exact_instance_of::<PyFloat>()
}

/// Judges an awaitable or a generator when it ends, and anything else now.
fn follow<'py>(
    py: Python<'py>,
    made: &Made,
    permit: OwnedPermit,
    value: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    static FOLLOW: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let permit = Permit { permit: Mutex::new(Some(permit)), excluded: made.excluded.clone_ref(py) };
    FOLLOW.import(py, "backstay._outcomes", "follow")?.call1((permit, value))
}

/// CB-7: a call ended with an exception. Excluded ones, and those that end a program, say nothing of the service that was
/// called.
fn raised(py: Python<'_>, permit: OwnedPermit, error: &PyErr, excluded: &Bound<'_, PyTuple>) {
    // Listeners and the log may run now.
    match meaning(error.value(py), excluded) {
        Meaning::Nothing => permit.judge(Verdict::Neutral),
        // Whether that is a failure, the breaker was told.
        Meaning::Cancelled => drop(permit),
        Meaning::Failed => permit.failure(),
    }
}

/// What an exception says of the service, and a group of them: as much as the one in it that says most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Meaning {
    Nothing,
    Cancelled,
    Failed,
}

fn meaning(error: &Bound<'_, PyBaseException>, excluded: &Bound<'_, PyTuple>) -> Meaning {
    let is_neutral = error.is_instance(excluded).unwrap_or(false)
        || error.is_instance_of::<PyKeyboardInterrupt>()
        || error.is_instance_of::<PySystemExit>()
        || error.is_instance_of::<PyGeneratorExit>();
    if is_neutral {
        return Meaning::Nothing;
    }
    let mut all = Meaning::Nothing;
    let Some(mut left) = members(error) else {
        let is_cancelled = !error.is_instance_of::<PyException>() && is_cancellation(error);
        return if is_cancelled { Meaning::Cancelled } else { Meaning::Failed };
    };
    // Groups may be as deep as they like.
    while let Some(one) = left.pop() {
        let deeper = if one.is_instance(excluded).unwrap_or(false) { None } else { members(&one) };
        match deeper {
            Some(members) => left.extend(members),
            None => all = all.max(meaning(&one, excluded)),
        }
    }
    all
}

/// The exceptions in a group.
fn members<'py>(error: &Bound<'py, PyBaseException>) -> Option<Vec<Bound<'py, PyBaseException>>> {
    static GROUP: PyOnceLock<Option<Py<PyAny>>> = PyOnceLock::new();
    let py = error.py();
    let own = || -> PyResult<_> { Ok(py.import("builtins")?.getattr_opt("BaseExceptionGroup")?.map(Bound::unbind)) };
    let is_group = match GROUP.get_or_try_init(py, own).ok()? {
        Some(group) => error.is_instance(group.bind(py)).ok()?,
        // Before 3.11: that of the package `exceptiongroup`.
        None => error
            .get_type()
            .mro()
            .iter()
            .any(|class| class.repr().is_ok_and(|name| name == "<class 'exceptiongroup.BaseExceptionGroup'>")),
    };
    if is_group { error.getattr("exceptions").ok()?.extract().ok() } else { None }
}

fn is_cancellation(error: &Bound<'_, PyBaseException>) -> bool {
    let kind = error.get_type();
    let names = kind.mro().iter().filter_map(|class| {
        let class = class.cast_into::<PyType>().ok()?;
        Some((class.module().ok()?.to_string(), class.name().ok()?.to_string()))
    });
    names.into_iter().any(|(module, name)| {
        matches!(
            (module.split('.').next(), name.as_str()),
            (Some("asyncio"), "CancelledError") | (Some("trio"), "Cancelled")
        )
    })
}

/// The argument `excluded_exceptions`, where it is given: `None` is an argument, too, and wrong.
struct Excluded<'py>(Option<Bound<'py, PyAny>>);

impl<'a, 'py> FromPyObject<'a, 'py> for Excluded<'py> {
    type Error = PyErr;

    fn extract(given: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(Some(given.to_owned())))
    }
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
