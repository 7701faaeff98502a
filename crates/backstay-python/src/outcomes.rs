//! What became of a guarded call (`backstay._outcomes` is the other half).

use std::borrow::Borrow;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use backstay::circuit_breaker::{CircuitBreaker as Handle, Outcome, Permit as OwnedPermit};
use pyo3::exceptions::{PyBaseException, PyException, PyGeneratorExit, PyKeyboardInterrupt, PySystemExit};
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyModule, PyNone, PyString, PyTuple, PyType};

use crate::arguments::{seconds_within, wrong_kind};
use crate::interpreter;

/// How a guarded call ended: what a classifier returns.
#[pyclass(frozen, eq, hash, from_py_object, name = "Outcome", module = "backstay.circuit_breaker")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PyOutcome(Outcome);

#[pymethods]
impl PyOutcome {
    /// The service worked.
    #[classattr]
    const SUCCESS: Self = Self(Outcome::Success);
    /// The service failed.
    #[classattr]
    const FAILURE: Self = Self(Outcome::Failure);
    /// The call says nothing about the service.
    #[classattr]
    const IGNORED: Self = Self(Outcome::Ignored);

    /// The service failed and asked not to be called for so many seconds: the circuit opens at once. From 1 ms to an hour,
    /// or to `reset_timeout` if that is longer; out-of-range numbers are clamped.
    ///
    /// Raises:
    ///     ValueError: `seconds` is nan.
    #[staticmethod]
    fn failure_for(seconds: &Bound<'_, PyAny>) -> PyResult<Self> {
        let seconds = seconds_within("Outcome", "seconds", seconds, &(Duration::ZERO..=Duration::MAX))?;
        Ok(Self(Outcome::FailureFor(seconds)))
    }

    fn __repr__(&self) -> String {
        match self.0 {
            Outcome::FailureFor(time) => format!("Outcome.failure_for({:?})", time.as_secs_f64()),
            other => format!("Outcome.{}", constant(other)),
        }
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let class = py.get_type::<Self>();
        match self.0 {
            Outcome::FailureFor(time) => Ok((class.getattr("failure_for")?, (time.as_secs_f64(),).into_pyobject(py)?)),
            other => Ok((py.import("builtins")?.getattr("getattr")?, (class, constant(other)).into_pyobject(py)?)),
        }
    }
}

fn constant(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "SUCCESS",
        Outcome::Failure | Outcome::FailureFor(_) => "FAILURE",
        Outcome::Ignored => "IGNORED",
    }
}

/// An outcome for Python's listeners.
pub(crate) fn outcome(outcome: Outcome) -> PyOutcome {
    PyOutcome(outcome)
}

/// How the outcomes of calls are decided.
pub(crate) struct Classifier {
    /// Classes of exceptions that are neither success nor failure.
    excluded: Py<PyTuple>,
    /// `classify(result, exception)`; it runs first.
    function: Option<Py<PyAny>>,
}

impl Classifier {
    pub(crate) fn new(excluded: Bound<'_, PyTuple>, function: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        if let Some(function) = function.filter(|function| !function.is_callable()) {
            return Err(wrong_kind("classify", function, "a function"));
        }
        Ok(Self { excluded: excluded.unbind(), function: function.map(|function| function.clone().unbind()) })
    }

    fn clone_ref(&self, py: Python<'_>) -> Self {
        let function = self.function.as_ref().map(|function| function.clone_ref(py));
        Self { excluded: self.excluded.clone_ref(py), function }
    }

    /// Whether a function decides about results.
    #[inline]
    pub(crate) fn has_function(&self) -> bool {
        self.function.is_some()
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.excluded)?;
        visit.call(&self.function)
    }

    /// Reports a call that returned `value`. What the function raises makes the call a failure.
    pub(crate) fn returned<B: Borrow<Handle>>(
        &self,
        py: Python<'_>,
        permit: OwnedPermit<B>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        match self.ask(py, Some(value), None) {
            Ok(outcome) => permit.report(outcome.unwrap_or(Outcome::Success)),
            Err(error) => {
                permit.failure();
                return Err(error);
            }
        }
        Ok(())
    }

    /// CB-7, CB-16: reports a call that ended with an exception. The function decides first; else excluded ones, and those
    /// that end a program, say nothing of the service that was called.
    pub(crate) fn raised<B: Borrow<Handle>>(
        &self,
        py: Python<'_>,
        permit: OwnedPermit<B>,
        error: &PyErr,
    ) -> PyResult<()> {
        let value = error.value(py);
        // Cancellation, and what ends the program, is not the service's answer.
        let asked = if value.is_instance_of::<PyException>() { self.ask(py, None, Some(value)) } else { Ok(None) };
        // Listeners and the log may run now.
        match asked {
            Ok(Some(outcome)) => permit.report(outcome),
            Ok(None) => match meaning(value, self.excluded.bind(py)) {
                Meaning::Nothing => permit.ignore(),
                // Whether that is a failure, the breaker was told.
                Meaning::Cancelled => drop(permit),
                Meaning::Failed => permit.failure(),
            },
            Err(raised) => {
                permit.failure();
                if raised.value(py).getattr("__context__")?.is_none() && !raised.value(py).is(value) {
                    raised.value(py).setattr("__context__", value)?;
                }
                return Err(raised);
            }
        }
        Ok(())
    }

    fn ask(
        &self,
        py: Python<'_>,
        result: Option<&Bound<'_, PyAny>>,
        error: Option<&Bound<'_, PyBaseException>>,
    ) -> PyResult<Option<Outcome>> {
        let Some(function) = &self.function else { return Ok(None) };
        let answer = function.bind(py).call1((result, error))?;
        if answer.is_none() {
            return Ok(None);
        }
        match answer.cast::<PyOutcome>() {
            Ok(outcome) => Ok(Some(outcome.get().0)),
            Err(_) => Err(wrong_kind("the answer of classify", &answer, "an Outcome or None")),
        }
    }
}

/// An admitted call, whose outcome its holder reports. In a `with` or `async with` block, an exception is reported as that
/// of a call, and a block that ends without a report is a success. Without a block, a permit that is dropped is ignored.
#[pyclass(frozen, module = "backstay.circuit_breaker")]
pub(crate) struct Permit {
    permit: Mutex<Option<OwnedPermit>>,
    classifier: Classifier,
}

impl Permit {
    pub(crate) fn new(py: Python<'_>, permit: OwnedPermit, classifier: &Classifier) -> Self {
        Self { permit: Mutex::new(Some(permit)), classifier: classifier.clone_ref(py) }
    }

    fn take(&self) -> Option<OwnedPermit> {
        self.permit.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn report_once(&self, py: Python<'_>, outcome: Outcome) -> PyResult<()> {
        if let Some(permit) = self.take() {
            permit.report(outcome);
        }
        interpreter::owed(py)
    }
}

fn half(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import("backstay._outcomes")
}

#[pymethods]
impl Permit {
    /// Reports that the call succeeded. The first report counts, later ones have no effect.
    fn success(&self, py: Python<'_>) -> PyResult<()> {
        self.report_once(py, Outcome::Success)
    }

    /// Reports that the call failed.
    fn failure(&self, py: Python<'_>) -> PyResult<()> {
        self.report_once(py, Outcome::Failure)
    }

    /// Reports that the call says nothing about the service.
    fn ignore(&self, py: Python<'_>) -> PyResult<()> {
        self.report_once(py, Outcome::Ignored)
    }

    /// Reports an `Outcome`.
    fn report(&self, py: Python<'_>, outcome: PyOutcome) -> PyResult<()> {
        self.report_once(py, outcome.0)
    }

    /// Reports a cancelled call: a failure if the breaker has `cancellation_is_failure`.
    fn cancelled(&self, py: Python<'_>) -> PyResult<()> {
        drop(self.take());
        interpreter::owed(py)
    }

    /// Reports the result of the call, for the classifier to decide.
    fn returned(&self, py: Python<'_>, result: &Bound<'_, PyAny>) -> PyResult<()> {
        let reported = self.take().map_or(Ok(()), |permit| self.classifier.returned(py, permit, result));
        interpreter::owed(py).and(reported)
    }

    /// Reports the exception with which the call ended, for the classifier and the exclusions to decide.
    fn raised(&self, py: Python<'_>, error: Bound<'_, PyAny>) -> PyResult<()> {
        let error = PyErr::from_value(error);
        let reported = self.take().map_or(Ok(()), |permit| self.classifier.raised(py, permit, &error));
        interpreter::owed(py).and(reported)
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: &Bound<'_, PyAny>,
        error: Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if error.is_none() { self.success(py) } else { self.raised(py, error) }
    }

    fn __aenter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, PyAny>> {
        half(slf.py())?.call_method1("entered", (slf,))
    }

    fn __aexit__<'py>(
        slf: Bound<'py, Self>,
        _kind: &Bound<'py, PyAny>,
        error: Bound<'py, PyAny>,
        _traceback: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        half(slf.py())?.call_method1("left", (slf, error))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.classifier.traverse(&visit)
    }
}

/// Whether a result is what it looks like: no promise that is still to be kept. Only the usual types, which is quick;
/// the others are looked at in Python.
#[inline]
pub(crate) fn is_plain(value: &Bound<'_, PyAny>) -> bool {
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
pub(crate) fn follow<'py>(
    permit: OwnedPermit,
    classifier: &Classifier,
    value: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    static FOLLOW: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = value.py();
    FOLLOW.import(py, "backstay._outcomes", "follow")?.call1((Permit::new(py, permit, classifier), value))
}

/// What an exception says of the service, and a group of them: as much as the one in it that says most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Meaning {
    Nothing,
    Cancelled,
    Failed,
}

fn meaning(error: &Bound<'_, PyBaseException>, excluded: &Bound<'_, PyTuple>) -> Meaning {
    let is_ignored = error.is_instance(excluded).unwrap_or(false)
        || error.is_instance_of::<PyKeyboardInterrupt>()
        || error.is_instance_of::<PySystemExit>()
        || error.is_instance_of::<PyGeneratorExit>();
    if is_ignored {
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
