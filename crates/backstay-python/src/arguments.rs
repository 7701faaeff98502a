//! Numbers from Python: a clear error for what makes no sense, and otherwise brought into the bounds (CF-5).

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;

/// A number, however large; an integer beyond all floats is as good as infinite.
pub(crate) fn number(name: &str, given: &Bound<'_, PyAny>) -> PyResult<f64> {
    given.extract::<f64>().or_else(|error| {
        if error.is_instance_of::<PyOverflowError>(given.py()) {
            Ok(if given.lt(0)? { f64::NEG_INFINITY } else { f64::INFINITY })
        } else if error.is_instance_of::<PyTypeError>(given.py()) {
            Err(wrong_kind(name, given, "a number"))
        } else {
            Err(error)
        }
    })
}

/// A text that is UTF-8.
pub(crate) fn text(name: &str, given: &Bound<'_, PyAny>) -> PyResult<String> {
    match given.cast::<PyString>() {
        Ok(text) => Ok(text.to_str()?.to_owned()),
        Err(_) => Err(wrong_kind(name, given, "a str")),
    }
}

/// Where a file is.
pub(crate) fn path(name: &str, given: &Bound<'_, PyAny>) -> PyResult<PathBuf> {
    let is_wrong = |error: &PyErr| error.is_instance_of::<PyTypeError>(given.py());
    given.extract().map_err(|error| if is_wrong(&error) { wrong_kind(name, given, "a str or a path") } else { error })
}

/// Seconds within bounds. Infinity and all that is out of bounds is brought to the bound.
pub(crate) fn seconds_within(
    name: &str,
    given: &Bound<'_, PyAny>,
    bounds: &RangeInclusive<Duration>,
) -> PyResult<Duration> {
    Ok(seconds(name, given)?.clamp(*bounds.start(), *bounds.end()))
}

/// Seconds; below zero none, and infinitely many are as many as there can be.
pub(crate) fn seconds(name: &str, given: &Bound<'_, PyAny>) -> PyResult<Duration> {
    match number(name, given)? {
        seconds if seconds.is_nan() => {
            Err(PyValueError::new_err(format!("{name} is nan, allowed is a number of seconds")))
        }
        seconds => Ok(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)),
    }
}

/// How long to wait at most: zero or more; `None` and infinity for ever.
pub(crate) fn patience(name: &str, given: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Duration>> {
    let Some(given) = given else { return Ok(None) };
    match number(name, given)? {
        seconds if seconds >= 0.0 => Ok(Duration::try_from_secs_f64(seconds).ok()),
        seconds => Err(PyValueError::new_err(format!("{name} is {seconds:?}, allowed is 0 or more seconds, or None"))),
    }
}

/// A time that must be more than nothing.
pub(crate) fn positive_seconds(name: &str, given: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let seconds = number(name, given)?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => {
            Err(PyValueError::new_err(format!("{name} is {seconds:?}, allowed is a finite number of seconds above 0")))
        }
    }
}

/// An integer within bounds, however large it is.
pub(crate) fn integer_within(name: &str, number: &Bound<'_, PyAny>, bounds: &RangeInclusive<u32>) -> PyResult<u32> {
    let number = integer(name, number)?.clamp((*bounds.start()).into(), (*bounds.end()).into());
    Ok(number.try_into().unwrap_or(u32::MAX))
}

/// How many, one at least; one where nobody says. More than fits is as much as fits.
pub(crate) fn count(name: &str, number: Option<&Bound<'_, PyAny>>) -> PyResult<u32> {
    let Some(number) = number else { return Ok(1) };
    match integer(name, number)? {
        number if number < 1 => Err(PyValueError::new_err(format!("{name} is {number}, allowed is 1 or more"))),
        number => Ok(number.try_into().unwrap_or(u32::MAX)),
    }
}

/// An integer; one of more than 64 bits is brought into them.
pub(crate) fn integer(name: &str, number: &Bound<'_, PyAny>) -> PyResult<i64> {
    if !number.hasattr("__index__")? {
        return Err(wrong_kind(name, number, "an integer"));
    }
    match number.extract::<i64>() {
        Ok(number) => Ok(number),
        Err(error) if error.is_instance_of::<PyOverflowError>(number.py()) => {
            Ok(if number.lt(0)? { i64::MIN } else { i64::MAX })
        }
        Err(error) => Err(error),
    }
}

/// What is said of an argument of another kind.
pub(crate) fn wrong_kind(name: &str, given: &Bound<'_, PyAny>, allowed: &str) -> PyErr {
    let found = given.get_type();
    match found.name() {
        Ok(found) => PyTypeError::new_err(format!("{name} is a {found}, allowed is {allowed}")),
        Err(error) => error,
    }
}
