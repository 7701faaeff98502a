//! Numbers from Python: a clear error for what makes no sense, and otherwise brought into the bounds (CF-5).

use std::ops::RangeInclusive;
use std::time::Duration;

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;

/// Seconds within bounds. Infinity and all that is out of bounds is brought to the bound.
pub(crate) fn seconds_within(name: &str, seconds: f64, bounds: &RangeInclusive<Duration>) -> PyResult<Duration> {
    if seconds.is_nan() {
        return Err(not_a_number(name));
    }
    let wanted = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
    Ok(wanted.clamp(*bounds.start(), *bounds.end()))
}

/// How long to wait at most: zero or more; `None` and infinity for ever.
pub(crate) fn patience(name: &str, seconds: Option<f64>) -> PyResult<Option<Duration>> {
    match seconds {
        None => Ok(None),
        Some(seconds) if seconds.is_nan() => Err(not_a_number(name)),
        Some(seconds) if seconds < 0.0 => {
            Err(PyValueError::new_err(format!("{name} is {seconds}, allowed is 0 or more seconds, or None")))
        }
        Some(seconds) => Ok(Duration::try_from_secs_f64(seconds).ok()),
    }
}

/// A time that must be more than nothing.
pub(crate) fn positive_seconds(name: &str, seconds: f64) -> PyResult<Duration> {
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(PyValueError::new_err(format!("{name} is {seconds}, allowed is a finite number of seconds above 0"))),
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
fn integer(name: &str, number: &Bound<'_, PyAny>) -> PyResult<i64> {
    if !number.hasattr("__index__")? {
        let found = number.get_type();
        return Err(PyTypeError::new_err(format!("{name} is a {}, allowed is an integer", found.name()?)));
    }
    match number.extract::<i64>() {
        Ok(number) => Ok(number),
        Err(error) if error.is_instance_of::<PyOverflowError>(number.py()) => {
            Ok(if number.lt(0)? { i64::MIN } else { i64::MAX })
        }
        Err(error) => Err(error),
    }
}

fn not_a_number(name: &str) -> PyErr {
    PyValueError::new_err(format!("{name} is nan, allowed is a number of seconds"))
}
