//! The calls that a circuit breaker guards.

#![allow(unsafe_code)]

use backstay::circuit_breaker::{CircuitBreaker as Handle, Permit};
use pyo3::exceptions::PyTypeError;
use pyo3::ffi::PyObject;
use pyo3::prelude::*;

use crate::circuit_breaker::{CircuitBreaker, Made, rejected};
use crate::interpreter;
use crate::outcomes::{follow, is_plain};
use crate::raw::{Arguments, Method, OFFSET, attached, entered, failed};
use crate::{coroutine, function};

/// `CircuitBreaker.call`.
pub(crate) static CALL: Method = Method::new(
    c"call",
    call,
    c"call($self, func, /, *args, **kwargs)\n--\n\n\
      Calls `func(*args, **kwargs)` if the breaker admits it.\n\n\
      A coroutine, task, future or generator that it returns is judged when it ends; a task or future comes back itself.\n\n\
      Raises:\n    CircuitOpenError: the breaker is open; `func` was not called.\n    BaseException: whatever `func` raises.",
);

unsafe extern "C" fn call(
    slf: *mut PyObject,
    values: *const *mut PyObject,
    positional: isize,
    names: *mut PyObject,
) -> *mut PyObject {
    entered(std::ptr::null_mut(), |py| {
        // SAFETY: the caller of a method holds its object, and CPython has checked the class.
        let breaker = unsafe { Borrowed::from_ptr(py, slf).cast_unchecked::<CircuitBreaker>() };
        let made = match breaker.get().made() {
            Ok(made) => made,
            Err(error) => return failed(py, error),
        };
        let arguments = Arguments { values, positional: positional.unsigned_abs(), names };
        let Some((function, arguments)) = arguments.shift() else { return without_function(py, "call") };
        let permit = match made.handle.try_acquire() {
            Ok(permit) => permit,
            Err(error) => return attached(|py| failed(py, rejected(py, &error))),
        };
        // SAFETY: the caller holds all arguments; before the values there is the function.
        let value = unsafe { Bound::from_owned_ptr_or_opt(py, arguments.call(py, function)) };
        match value {
            Some(value) if is_plain(&value) && !made.classifier.has_function() => {
                permit.success();
                match interpreter::owed(py) {
                    Ok(()) => value.into_ptr(),
                    Err(error) => failed(py, error),
                }
            }
            value => attached(|py| ended(py, made, permit, value)),
        }
    })
}

/// The end of a call that raised, or returned something that has to be looked at.
fn ended<'py>(py: Python<'py>, made: &Made, permit: Permit<&Handle>, value: Option<Bound<'_, PyAny>>) -> *mut PyObject {
    let value = value.map(|value| value.unbind().into_bound(py));
    let result: PyResult<Bound<'py, PyAny>> = match value {
        Some(value) if is_plain(&value) => {
            let reported = made.classifier.returned(py, permit, &value);
            interpreter::owed(py).and(reported).map(|()| value)
        }
        Some(value) => follow(permit.into_owned(), &made.classifier, value),
        None => {
            let error = PyErr::fetch(py);
            let reported = made.classifier.raised(py, permit, &error);
            interpreter::owed(py).and(reported).and(Err(error))
        }
    };
    result.map_or_else(|error| failed(py, error), Bound::into_ptr)
}

/// `CircuitBreaker.acall`, with the signature and the documentation of `template`.
#[pyfunction]
pub(crate) fn _acall<'py>(template: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    function::like(template, acall)
}

unsafe extern "C" fn acall(
    _: *mut PyObject,
    values: *const *mut PyObject,
    positional: usize,
    names: *mut PyObject,
) -> *mut PyObject {
    entered(std::ptr::null_mut(), |py| {
        let all = Arguments { values, positional: positional & !OFFSET, names };
        // SAFETY: the caller holds all arguments.
        let breaker = all.shift().map(|(breaker, rest)| (unsafe { Bound::from_borrowed_ptr(py, breaker) }, rest));
        let Some((Ok(breaker), rest)) = breaker.as_ref().map(|(breaker, rest)| (breaker.cast(), *rest)) else {
            return failed(py, PyTypeError::new_err("CircuitBreaker.acall() requires a CircuitBreaker"));
        };
        if rest.positional == 0 {
            return without_function(py, "acall");
        }
        // SAFETY: as above.
        unsafe { coroutine::new(breaker, rest) }
    })
}

#[cold]
fn without_function(py: Python<'_>, method: &str) -> *mut PyObject {
    let message = format!("CircuitBreaker.{method}() missing 1 required positional argument: 'func'");
    failed(py, PyTypeError::new_err(message))
}
