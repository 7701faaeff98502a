//! The configuration of the process: read when a value is first needed, then kept.

use backstay::config::{Config, Sources};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use crate::errors;

/// The configuration for `component`.
///
/// It is kept once all of it is valid. Until then each call reads anew, and raises the errors of this component and of
/// whole files only.
pub(crate) fn of(py: Python<'_>, component: &str) -> PyResult<Config> {
    static CURRENT: PyOnceLock<Config> = PyOnceLock::new();
    if let Some(config) = CURRENT.get(py) {
        return Ok(config.clone());
    }
    let config = match Config::check(&Sources::of_process()) {
        Ok(config) => CURRENT.get_or_init(py, || config).clone(),
        Err(invalid) => {
            let affects = |of: Option<&str>| of.is_none_or(|of| of == component);
            if let Some(error) = invalid.errors.iter().find(|error| affects(error.component())) {
                return Err(errors::config(py, error));
            }
            invalid.valid
        }
    };
    log_warnings(py, &config)?;
    Ok(config)
}

/// Logs each warning once, however often it is found.
fn log_warnings(py: Python<'_>, config: &Config) -> PyResult<()> {
    // Python's own dict: a lock of ours could be held in a process that is forked from another thread.
    static LOGGED: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let logged = LOGGED.get_or_init(py, || PyDict::new(py).unbind()).bind(py);
    for warning in config.warnings() {
        let (text, this) = (warning.to_string(), PyDict::new(py));
        if logged.call_method1("setdefault", (&text, &this))?.is(&this) {
            tracing::warn!(target: "backstay", "{text}");
        }
    }
    Ok(())
}
