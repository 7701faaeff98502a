//! Backstay's errors as Python's exceptions. The classes themselves are written in Python, so that they pickle.

use std::time::Duration;

use arrayvec::ArrayString;
use backstay::config::ConfigError;
use backstay::{BuildError, CircuitOpenError, RateLimitExceededError, WatchdogTimeoutError};
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};

/// A class of `backstay.exceptions`, looked up once.
pub(crate) struct Class {
    name: &'static str,
    class: PyOnceLock<Py<PyType>>,
}

impl Class {
    pub(crate) const fn new(name: &'static str) -> Self {
        Self { name, class: PyOnceLock::new() }
    }

    fn of<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyType>> {
        self.class.import(py, "backstay.exceptions", self.name)
    }

    /// The exception with `message`.
    pub(crate) fn error(&self, py: Python<'_>, message: impl Into<String>) -> PyErr {
        match self.of(py) {
            Ok(class) => PyErr::from_type(class.clone(), message.into()),
            Err(error) => error,
        }
    }

    /// The exception with `message` and a number, made without running its Python constructor, which costs more than
    /// all the rest of a refusal.
    fn with_number(&self, py: Python<'_>, message: &str, number: f64) -> PyErr {
        let made = self.of(py).and_then(|class| new_runtime_error(class, (message, number).into_pyobject(py)?));
        made.map_or_else(|error| error, PyErr::from_value)
    }

    /// As [`with_number`](Self::with_number), with a name.
    fn with_name(&self, py: Python<'_>, message: &str, number: f64, name: &str) -> PyErr {
        let made = self.of(py).and_then(|class| {
            let error = new_runtime_error(class, (message, number).into_pyobject(py)?)?;
            error.setattr(intern!(py, "name"), name)?;
            Ok(error)
        });
        made.map_or_else(|error| error, PyErr::from_value)
    }
}

/// An instance of a class that derives from `RuntimeError`, as `RuntimeError.__new__` makes it; its context is what is
/// being handled at this moment, as that of any exception.
#[allow(unsafe_code)]
fn new_runtime_error<'py>(class: &Bound<'py, PyType>, arguments: Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    // SAFETY: `RuntimeError` has a `tp_new`, whose type is `newfunc`; it takes a class that derives from it, which all
    // of `backstay.exceptions` do, and a tuple, and returns a new reference, or null with an exception set.
    // `PyErr_GetExcInfo` gives three references or nulls, all to be given back, but for the one that
    // `PyException_SetContext` keeps; a new exception is in nobody's context yet, so no circle comes about.
    unsafe {
        let new = ffi::PyType_GetSlot(ffi::PyExc_RuntimeError.cast(), ffi::Py_tp_new);
        let new: ffi::newfunc = std::mem::transmute(new);
        let made = new(class.as_type_ptr(), arguments.as_ptr(), std::ptr::null_mut());
        let made = Bound::from_owned_ptr_or_err(py, made)?;
        let (mut kind, mut handled, mut trace) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
        ffi::PyErr_GetExcInfo(&raw mut kind, &raw mut handled, &raw mut trace);
        ffi::Py_XDECREF(kind);
        ffi::Py_XDECREF(trace);
        if !handled.is_null() && handled != ffi::Py_None() {
            ffi::PyException_SetContext(made.as_ptr(), handled);
        } else {
            ffi::Py_XDECREF(handled);
        }
        Ok(made)
    }
}

pub(crate) static HEARTBEAT: Class = Class::new("HeartbeatError");
pub(crate) static SHUTDOWN: Class = Class::new("ShutdownError");
pub(crate) static WATCHDOG: Class = Class::new("WatchdogError");
static CIRCUIT_OPEN: Class = Class::new("CircuitOpenError");
static RATE_LIMIT_EXCEEDED: Class = Class::new("RateLimitExceededError");
static WATCHDOG_TIMEOUT: Class = Class::new("WatchdogTimeoutError");
static CONFIG: Class = Class::new("ConfigError");

/// Looks the classes up that hot paths raise: at the first refusal there may be no memory for an import.
pub(crate) fn prepare(py: Python<'_>) -> PyResult<()> {
    [&CIRCUIT_OPEN, &RATE_LIMIT_EXCEEDED, &WATCHDOG_TIMEOUT].iter().try_for_each(|class| class.of(py).map(drop))
}

pub(crate) fn circuit_open(py: Python<'_>, error: &CircuitOpenError) -> PyErr {
    let seconds = seconds(error.remaining);
    let mut short = Short::new();
    let long = error.write_to(&mut short).is_err().then(|| error.to_string());
    let message = long.as_deref().unwrap_or(&short);
    match &error.name {
        Some(name) => CIRCUIT_OPEN.with_name(py, message, seconds, name),
        None => CIRCUIT_OPEN.with_number(py, message, seconds),
    }
}

pub(crate) fn rate_limit_exceeded(py: Python<'_>, error: &RateLimitExceededError) -> PyErr {
    // Computed once, so that the message and the number agree.
    let error = RateLimitExceededError::new(error.name.clone(), error.retry_after());
    let seconds = seconds(error.retry_after());
    let mut short = Short::new();
    match error.write_to(&mut short) {
        Ok(()) => RATE_LIMIT_EXCEEDED.with_number(py, &short, seconds),
        Err(_) => RATE_LIMIT_EXCEEDED.with_number(py, &error.to_string(), seconds),
    }
}

pub(crate) fn watchdog_timeout(py: Python<'_>, error: &WatchdogTimeoutError) -> PyErr {
    WATCHDOG_TIMEOUT.with_number(py, &error.to_string(), seconds(error.inactive))
}

/// Room for most messages, without memory of their own.
type Short = ArrayString<160>;

/// An invalid argument of a builder.
pub(crate) fn build(error: BuildError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

pub(crate) fn config(py: Python<'_>, error: &ConfigError) -> PyErr {
    CONFIG.error(py, error.to_string())
}

/// A duration as Python's seconds; "never" as infinity.
pub(crate) fn seconds(duration: Duration) -> f64 {
    if duration == Duration::MAX { f64::INFINITY } else { duration.as_secs_f64() }
}
