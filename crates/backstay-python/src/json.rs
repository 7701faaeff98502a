//! JSON between Python's objects and ours, by Python's own `json`.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use serde_json::{Map, Value};

use crate::arguments::wrong_kind;

/// A dictionary as JSON.
///
/// # Errors
/// `TypeError` or `ValueError` of Python's `json`: what is in it is no JSON, or contains itself.
pub(crate) fn from_python(mapping: &Bound<'_, PyAny>) -> PyResult<Map<String, Value>> {
    static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if !mapping.is_instance_of::<PyDict>() {
        return Err(wrong_kind("metadata", mapping, "a dict"));
    }
    let text: String = DUMPS.import(mapping.py(), "backstay._json", "dumps")?.call1((mapping,))?.extract()?;
    serde_json::from_str(&text).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// JSON as Python's objects.
pub(crate) fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    LOADS.import(py, "json", "loads")?.call1((value.to_string(),))
}
