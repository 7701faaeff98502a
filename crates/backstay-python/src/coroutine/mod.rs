//! The coroutine that `CircuitBreaker.acall` returns. It begins with the admission when it is first awaited, and passes
//! everything on to the guarded coroutine from then on (`am_send`, without a frame of its own).
//!
//! To the interpreter it is what Cython's coroutines are: `collections.abc.Coroutine` and awaitable, but no
//! `types.CoroutineType`. The attributes that debuggers and loops look at (`cr_frame` ...) are those of the guarded one.

#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};

use arrayvec::ArrayVec;
use backstay::circuit_breaker::{CircuitBreaker as Handle, Outcome, Permit};
use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyTypeError, PyValueError};
use pyo3::ffi::{self, PyObject, PySendResult};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};

use crate::circuit_breaker::{CircuitBreaker, rejected};
use crate::interpreter;
use crate::outcomes::{follow, is_plain};
use crate::raw::{Arguments, attached, failed};

mod class;

use class::class;

#[repr(C)]
struct Coroutine {
    head: PyObject,
    weak_references: *mut PyObject,
    body: Body,
}

/// Objects in it are touched only by threads that are attached, as `Bound` demands: CPython calls us for nothing else.
struct Body {
    breaker: Bound<'static, CircuitBreaker>,
    /// Whether a thread is inside. Acquire where one comes in pairs with release where one leaves: it sees the stage
    /// that the last one left.
    is_running: AtomicBool,
    stage: UnsafeCell<Stage>,
}

enum Stage {
    /// It has not been awaited.
    New(Owned),
    Started(Started),
    Over,
}

struct Started {
    /// Of `Body::breaker`, which lives longer.
    permit: Permit<&'static Handle>,
    /// The guarded coroutine.
    inner: Bound<'static, PyAny>,
}

/// Arguments that are kept for the call: the function first. Few of them need no memory of their own.
struct Owned {
    few: ArrayVec<*mut PyObject, 4>,
    many: Vec<*mut PyObject>,
    positional: usize,
    names: *mut PyObject,
}

impl Owned {
    /// The function is the first positional argument.
    ///
    /// # Safety
    /// All arguments are alive, and the thread is attached, now and when this is dropped.
    unsafe fn new(arguments: Arguments) -> Self {
        // SAFETY: as demanded; names are null or a tuple.
        unsafe {
            let named = if arguments.names.is_null() { 0 } else { ffi::PyTuple_Size(arguments.names).unsigned_abs() };
            let values = std::slice::from_raw_parts(arguments.values, arguments.positional + named);
            values.iter().for_each(|value| ffi::Py_INCREF(*value));
            ffi::Py_XINCREF(arguments.names);
            let few: Option<ArrayVec<_, 4>> = ArrayVec::try_from(values).ok();
            let many = if few.is_some() { Vec::new() } else { values.to_vec() };
            Self { few: few.unwrap_or_default(), many, positional: arguments.positional, names: arguments.names }
        }
    }

    fn values(&self) -> &[*mut PyObject] {
        if self.many.is_empty() { &self.few } else { &self.many }
    }

    /// Calls the function.
    fn call(&self, py: Python<'_>) -> *mut PyObject {
        let all = Arguments { values: self.values().as_ptr(), positional: self.positional, names: self.names };
        match all.shift() {
            // SAFETY: this keeps all of them alive, and the function is before the first value.
            Some((function, arguments)) => unsafe { arguments.call(py, function) },
            None => failed(py, PyTypeError::new_err("func is missing")),
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the references are ours, and `new` demands an attached thread.
        unsafe {
            self.values().iter().for_each(|value| ffi::Py_DECREF(*value));
            ffi::Py_XDECREF(self.names);
        }
    }
}

/// What one step of a coroutine came to. After `Failed` an exception is set.
enum Step {
    Yielded(*mut PyObject),
    Returned(*mut PyObject),
    Failed,
}

/// A thread inside of a coroutine.
struct Turn<'a>(&'a Body);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.is_running.store(false, Ordering::Release);
    }
}

impl Turn<'_> {
    /// Takes the stage out; until another one is set, it is over.
    fn take(&self) -> Stage {
        self.set(Stage::Over)
    }

    fn set(&self, stage: Stage) -> Stage {
        // SAFETY: there is one turn at a time, and no reference into the stage outlives a call of this.
        unsafe { std::mem::replace(&mut *self.0.stage.get(), stage) }
    }
}

/// A coroutine that calls the first of `arguments` with the others.
///
/// # Safety
/// All arguments are alive.
pub(crate) unsafe fn new(breaker: &Bound<'_, CircuitBreaker>, arguments: Arguments) -> *mut PyObject {
    let py = breaker.py();
    let class = match class(py) {
        Ok(class) => class,
        Err(error) => return failed(py, error),
    };
    // SAFETY: the class makes instances of this layout; nothing looks at this one before its body is there, because
    // what comes in between makes no object. A thread that touches the body later is attached.
    unsafe {
        let coroutine = ffi::PyType_GenericAlloc(class.as_type_ptr(), 0);
        if !coroutine.is_null() {
            let breaker = std::mem::transmute::<Bound<'_, CircuitBreaker>, Bound<'static, _>>(breaker.clone());
            let stage = UnsafeCell::new(Stage::New(Owned::new(arguments)));
            let body = Body { breaker, is_running: AtomicBool::new(false), stage };
            (&raw mut (*coroutine.cast::<Coroutine>()).body).write(body);
        }
        coroutine
    }
}

impl Body {
    /// # Safety
    /// It is a coroutine of ours, and alive for as long as the reference.
    unsafe fn of<'a>(coroutine: *mut PyObject) -> &'a Self {
        // SAFETY: as demanded; `new` wrote the body before anybody saw it.
        unsafe { &(*coroutine.cast::<Coroutine>()).body }
    }

    fn is_running(&self) -> bool {
        self.is_running.load(Ordering::Relaxed)
    }

    /// The guarded coroutine while this waits for it.
    fn inner<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let _turn = self.enter().ok()?;
        // SAFETY: this is the only turn.
        match unsafe { &*self.stage.get() } {
            Stage::Started(started) => Some(started.inner.clone().unbind().into_bound(py)),
            Stage::New(_) | Stage::Over => None,
        }
    }

    fn enter(&self) -> PyResult<Turn<'_>> {
        if self.is_running.swap(true, Ordering::Acquire) {
            return Err(PyValueError::new_err("coroutine already executing"));
        }
        Ok(Turn(self))
    }

    /// Goes on with `value`.
    fn send(&self, py: Python<'_>, value: *mut PyObject) -> Step {
        let turn = match self.enter() {
            Ok(turn) => turn,
            Err(error) => return self.fail(py, error),
        };
        let (started, value) = match turn.take() {
            Stage::Started(started) => (started, value),
            // SAFETY: asking whether it is `None` reads the pointer alone.
            Stage::New(owned) if value == unsafe { ffi::Py_None() } => match self.start(py, owned) {
                Ok(started) => (started, value),
                Err(step) => return step,
            },
            new @ Stage::New(_) => {
                turn.set(new);
                let message = "can't send non-None value to a just-started coroutine";
                return self.fail(py, PyTypeError::new_err(message));
            }
            Stage::Over => return self.fail(py, PyRuntimeError::new_err("cannot reuse already awaited coroutine")),
        };
        let mut result = std::ptr::null_mut();
        // SAFETY: both are alive, and the result is a new reference or null.
        match unsafe { ffi::PyIter_Send(started.inner.as_ptr(), value, &raw mut result) } {
            PySendResult::PYGEN_NEXT => {
                turn.set(Stage::Started(started));
                Step::Yielded(result)
            }
            PySendResult::PYGEN_RETURN => {
                // SAFETY: a result is a new reference.
                let result = unsafe { Bound::from_owned_ptr(py, result) };
                let reported = self.succeeded(started.permit, &result);
                drop(started.inner);
                match reported {
                    Ok(()) => returned(result),
                    Err(error) => self.fail(py, error),
                }
            }
            PySendResult::PYGEN_ERROR => self.raised(started),
        }
    }

    /// Admits the call and makes it: the coroutine that is to be awaited, or the end.
    fn start(&self, py: Python<'_>, owned: Owned) -> Result<Started, Step> {
        let made = self.breaker.get().made().map_err(|error| self.fail(py, error))?;
        let permit = match made.handle.try_acquire() {
            Ok(permit) => permit,
            Err(error) => return Err(attached(|py| self.fail(py, rejected(py, &error)))),
        };
        // SAFETY: the handle is in the breaker, which the body keeps alive and which never moves or changes it; no permit
        // is kept anywhere but in the stage, which goes before the breaker.
        let permit = unsafe { std::mem::transmute::<Permit<&Handle>, Permit<&'static Handle>>(permit) };
        let value = owned.call(py);
        drop(owned);
        if value.is_null() {
            return Err(self.raised_without_inner(permit));
        }
        // SAFETY: a value is a new reference, and kept where `Body` says.
        let value = unsafe { Bound::from_owned_ptr(Python::assume_attached(), value) };
        if is_coroutine(&value) {
            return Ok(Started { permit, inner: value });
        }
        if is_plain(&value) {
            return Err(match self.succeeded(permit, &value) {
                Ok(()) => returned(value),
                Err(error) => self.fail(py, error),
            });
        }
        self.looked_at(permit, value)
    }

    /// Reports that the call returned `value`.
    #[inline]
    fn succeeded(&self, permit: Permit<&'static Handle>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        match self.breaker.get().made() {
            Ok(made) if made.classifier.has_function() => {
                attached(|_| made.classifier.returned(value.py(), permit, value))
            }
            _ => {
                permit.success();
                Ok(())
            }
        }
    }

    /// The end of a call that returned neither a coroutine nor anything plain.
    #[cold]
    fn looked_at(&self, permit: Permit<&'static Handle>, value: Bound<'static, PyAny>) -> Result<Started, Step> {
        static AWAITED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        attached(|_| {
            let py = value.py();
            let awaited =
                AWAITED.import(py, "backstay._outcomes", "awaited").and_then(|awaited| awaited.call1((&value,)));
            let followed = match awaited {
                Ok(inner) if !inner.is_none() => return Ok(Started { permit, inner }),
                Ok(_) => {
                    self.breaker.get().made().and_then(|made| follow(permit.into_owned(), &made.classifier, value))
                }
                Err(error) => Err(error),
            };
            Err(followed.map_or_else(|error| self.fail(py, error), returned))
        })
    }

    /// The guarded coroutine raised what is set now.
    #[cold]
    fn raised(&self, started: Started) -> Step {
        attached(|py| {
            let error = PyErr::fetch(py);
            drop(started.inner);
            self.judged(py, started.permit, error)
        })
    }

    /// The guarded call raised what is set now.
    #[cold]
    fn raised_without_inner(&self, permit: Permit<&'static Handle>) -> Step {
        attached(|py| {
            let error = PyErr::fetch(py);
            self.judged(py, permit, error)
        })
    }

    fn judged(&self, py: Python<'_>, permit: Permit<&'static Handle>, error: PyErr) -> Step {
        let reported = self.breaker.get().made().and_then(|made| made.classifier.raised(py, permit, &error));
        self.fail(py, interpreter::owed(py).and(reported).err().unwrap_or(error))
    }

    #[cold]
    fn fail(&self, py: Python<'_>, error: PyErr) -> Step {
        error.restore(py);
        Step::Failed
    }

    /// Raises an exception where it waits. `arguments` are those of `throw`.
    fn throw(&self, py: Python<'_>, arguments: &Bound<'_, PyTuple>) -> Step {
        let turn = match self.enter() {
            Ok(turn) => turn,
            Err(error) => return self.fail(py, error),
        };
        match turn.take() {
            Stage::Started(started) => match started.inner.call_method1("throw", arguments) {
                Ok(value) => {
                    turn.set(Stage::Started(started));
                    Step::Yielded(value.into_ptr())
                }
                Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                    let value = error.value(py).getattr("value");
                    match value.and_then(|value| self.succeeded(started.permit, &value).map(|()| value)) {
                        Ok(value) => returned(value),
                        Err(error) => self.fail(py, error),
                    }
                }
                Err(error) => self.judged(py, started.permit, error),
            },
            // As in a coroutine of Python's that has not begun: it is over.
            Stage::New(_) => match arguments.get_item(0) {
                Ok(error) => self.fail(py, PyErr::from_value(error)),
                Err(error) => self.fail(py, error),
            },
            Stage::Over => self.fail(py, PyRuntimeError::new_err("cannot reuse already awaited coroutine")),
        }
    }

    /// Ends it where it waits. The call then says nothing of the service, as with `GeneratorExit`.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let turn = self.enter()?;
        let Stage::Started(started) = turn.take() else { return Ok(()) };
        match started.inner.call_method0("close") {
            Ok(_) => {
                started.permit.report(Outcome::Ignored);
                interpreter::owed(py)
            }
            Err(error) => {
                let reported =
                    self.breaker.get().made().and_then(|made| made.classifier.raised(py, started.permit, &error));
                reported.and(Err(error))
            }
        }
    }

    /// Ends it when nothing can await it any more.
    fn abandon(&self) {
        // SAFETY: CPython clears and frees what nothing uses.
        let stage = unsafe { &*self.stage.get() };
        if matches!(stage, Stage::Over) {
            return;
        }
        attached(|py| {
            let is_new = matches!(stage, Stage::New(_));
            interpreter::beside_errors(py, |py| {
                let ended = self.close(py).and_then(|()| if is_new { warn(py) } else { Ok(()) });
                if let Err(error) = ended {
                    error.write_unraisable(py, None);
                }
            });
        });
    }
}

fn warn(py: Python<'_>) -> PyResult<()> {
    let category = py.get_type::<pyo3::exceptions::PyRuntimeWarning>();
    PyErr::warn(py, &category, c"coroutine 'CircuitBreaker.acall' was never awaited", 1)
}

/// A result, unless a signal handler raised meanwhile.
fn returned(value: Bound<'_, PyAny>) -> Step {
    match interpreter::owed(value.py()) {
        Ok(()) => Step::Returned(value.into_ptr()),
        Err(error) => {
            error.restore(value.py());
            Step::Failed
        }
    }
}

/// Whether it is a coroutine of Python's, or of ours.
fn is_coroutine(value: &Bound<'_, PyAny>) -> bool {
    static COROUTINE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let py = value.py();
    let is = |class: PyResult<&Bound<'_, PyType>>| class.is_ok_and(|class| value.get_type_ptr() == class.as_type_ptr());
    is(COROUTINE.import(py, "types", "CoroutineType")) || is(class(py))
}
