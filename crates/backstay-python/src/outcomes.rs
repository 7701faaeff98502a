//! What became of a guarded call (`backstay._outcomes` is the other half).

use std::borrow::Borrow;
use std::sync::{Mutex, PoisonError};

use backstay::circuit_breaker::{CircuitBreaker as Handle, Outcome, Permit as OwnedPermit};
use pyo3::exceptions::{PyBaseException, PyException, PyGeneratorExit, PyKeyboardInterrupt, PySystemExit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyNone, PyString, PyTuple, PyType};

use crate::interpreter;

/// The leave to make one call. Dropped without a word, the call counts as neither success nor failure.
#[pyclass(frozen, module = "backstay._native")]
pub(crate) struct Permit {
    permit: Mutex<Option<OwnedPermit>>,
    excluded: Py<PyTuple>,
}

impl Permit {
    pub(crate) fn new(permit: OwnedPermit, excluded: &Bound<'_, PyTuple>) -> Self {
        Self { permit: Mutex::new(Some(permit)), excluded: excluded.clone().unbind() }
    }

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
    excluded: &Bound<'py, PyTuple>,
    value: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    static FOLLOW: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    FOLLOW.import(value.py(), "backstay._outcomes", "follow")?.call1((Permit::new(permit, excluded), value))
}

/// CB-7: a call ended with an exception. Excluded ones, and those that end a program, say nothing of the service that was
/// called.
pub(crate) fn raised<B: Borrow<Handle>>(
    py: Python<'_>,
    permit: OwnedPermit<B>,
    error: &PyErr,
    excluded: &Bound<'_, PyTuple>,
) {
    // Listeners and the log may run now.
    match meaning(error.value(py), excluded) {
        Meaning::Nothing => permit.report(Outcome::Ignored),
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
