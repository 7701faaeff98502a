//! Numbers from Python: a clear error for what makes no sense, and otherwise clamped to the bounds, with a warning (CF-5).

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString};

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

/// Seconds, clamped to the bounds; infinity is allowed. `whose` argument it is, the warning says.
pub(crate) fn seconds_within(
    whose: &str,
    name: &str,
    given: &Bound<'_, PyAny>,
    bounds: &RangeInclusive<Duration>,
) -> PyResult<Duration> {
    let wanted = match number(name, given)? {
        seconds if seconds.is_nan() => {
            return Err(PyValueError::new_err(format!("{name} is nan, allowed is a number of seconds")));
        }
        seconds => seconds,
    };
    let (least, most) = (*bounds.start(), *bounds.end());
    let applied = match Duration::try_from_secs_f64(wanted) {
        Ok(seconds) if bounds.contains(&seconds) => return Ok(seconds),
        _ if wanted < least.as_secs_f64() => least,
        _ if most == Duration::MAX => return Ok(most),
        _ => most,
    };
    clamped(whose, name, given, applied.as_secs_f64(), least.as_secs_f64(), most.as_secs_f64());
    Ok(applied)
}

/// Logs what an argument that is out of range was clamped to.
fn clamped<T: Display>(whose: &str, name: &str, given: &Bound<'_, PyAny>, applied: T, least: T, most: T) {
    let given = shown(name, given);
    tracing::warn!(
        target: "backstay",
        "{whose}: {name}={given} is out of range and was clamped to {applied} (allowed are {least} to {most})"
    );
}

/// A number for a line of the log: as Python writes it, or the nearest float where that is long, more than one word, or
/// an error.
fn shown(name: &str, given: &Bound<'_, PyAny>) -> String {
    const LONGEST: usize = 40;
    let is_word = |text: &String| text.len() <= LONGEST && text.bytes().all(|byte| byte.is_ascii_graphic());
    let text = given.str().ok().map(|text| text.to_string()).filter(is_word);
    text.unwrap_or_else(|| number(name, given).map_or_else(|_| "?".to_owned(), |number| format!("{number:?}")))
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

/// An integer, clamped to the bounds.
pub(crate) fn integer_within<T: TryFrom<i64> + Into<i64> + Copy>(
    whose: &str,
    name: &str,
    given: &Bound<'_, PyAny>,
    bounds: &RangeInclusive<T>,
) -> PyResult<T> {
    let number = integer(name, given)?;
    let (least, most) = (*bounds.start(), *bounds.end());
    let applied = match T::try_from(number) {
        Ok(applied) if (least.into()..=most.into()).contains(&number) => return Ok(applied),
        _ if number < least.into() => least,
        _ => most,
    };
    clamped(whose, name, given, applied.into(), least.into(), most.into());
    Ok(applied)
}

/// How many tokens, one at least; one where nothing is given. More than fits is more than any bucket holds.
pub(crate) fn tokens(given: Option<&Bound<'_, PyAny>>) -> PyResult<u32> {
    let Some(given) = given else { return Ok(1) };
    Ok(count("tokens", given)?.try_into().unwrap_or(u32::MAX))
}

/// How many, one at least. More than 64 bits hold is as much as they hold.
pub(crate) fn count(name: &str, given: &Bound<'_, PyAny>) -> PyResult<u64> {
    match integer(name, given)? {
        number if number < 1 => Err(PyValueError::new_err(format!("{name} is {number}, allowed is 1 or more"))),
        number => Ok(number.unsigned_abs()),
    }
}

/// An integer; one of more than 64 bits becomes the nearest that has them.
pub(crate) fn integer(name: &str, number: &Bound<'_, PyAny>) -> PyResult<i64> {
    if !number.is_exact_instance_of::<PyInt>() && !number.hasattr(intern!(number.py(), "__index__"))? {
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

/// An argument for which `None` is no way to leave it out.
pub(crate) struct Given<'py>(pub(crate) Option<Bound<'py, PyAny>>);

impl<'a, 'py> FromPyObject<'a, 'py> for Given<'py> {
    type Error = PyErr;

    fn extract(given: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(Some(given.to_owned())))
    }
}
