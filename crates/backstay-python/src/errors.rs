//! Backstay's errors as Python's exceptions. The classes themselves are written in Python, so that they pickle.

use std::time::Duration;

use backstay::config::ConfigError;
use backstay::{BuildError, CircuitOpenError, RateLimitExceededError, WatchdogTimeoutError};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};

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
    fn with_number(&self, py: Python<'_>, message: &str, attribute: &Bound<'_, PyString>, number: f64) -> PyErr {
        let made = || -> PyResult<PyErr> {
            let class = self.of(py)?;
            let error = class.call_method1(pyo3::intern!(py, "__new__"), (class, message))?;
            error.setattr(attribute, number)?;
            Ok(PyErr::from_value(error))
        };
        made().unwrap_or_else(|error| error)
    }
}

pub(crate) static HEARTBEAT: Class = Class::new("HeartbeatError");
pub(crate) static SHUTDOWN: Class = Class::new("ShutdownError");
pub(crate) static WATCHDOG: Class = Class::new("WatchdogError");
static CIRCUIT_OPEN: Class = Class::new("CircuitOpenError");
static RATE_LIMIT_EXCEEDED: Class = Class::new("RateLimitExceededError");
static WATCHDOG_TIMEOUT: Class = Class::new("WatchdogTimeoutError");
static CONFIG: Class = Class::new("ConfigError");

pub(crate) fn circuit_open(py: Python<'_>, error: &CircuitOpenError) -> PyErr {
    let seconds = seconds(error.remaining);
    CIRCUIT_OPEN.with_number(py, &error.to_string(), pyo3::intern!(py, "remaining_seconds"), seconds)
}

pub(crate) fn rate_limit_exceeded(py: Python<'_>, error: &RateLimitExceededError) -> PyErr {
    let seconds = seconds(error.retry_after);
    RATE_LIMIT_EXCEEDED.with_number(py, &error.to_string(), pyo3::intern!(py, "retry_after"), seconds)
}

pub(crate) fn watchdog_timeout(py: Python<'_>, error: &WatchdogTimeoutError) -> PyErr {
    let seconds = seconds(error.inactive);
    WATCHDOG_TIMEOUT.with_number(py, &error.to_string(), pyo3::intern!(py, "seconds_inactive"), seconds)
}

/// What a builder refused: an argument, or the configuration.
pub(crate) fn build(py: Python<'_>, error: BuildError) -> PyErr {
    match error {
        BuildError::Config(error) => config(py, &error),
        BuildError::InvalidArgument(error) => PyValueError::new_err(error.to_string()),
        error => PyRuntimeError::new_err(error.to_string()),
    }
}

pub(crate) fn config(py: Python<'_>, error: &ConfigError) -> PyErr {
    CONFIG.error(py, error.to_string())
}

/// A duration as Python's seconds; "never" as infinity.
pub(crate) fn seconds(duration: Duration) -> f64 {
    if duration == Duration::MAX { f64::INFINITY } else { duration.as_secs_f64() }
}
