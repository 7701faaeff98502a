//! The class of [`Coroutine`], and the functions by which CPython reaches a [`Body`].

use std::ffi::{CStr, c_int, c_void};
use std::mem::offset_of;

use pyo3::exceptions::PyStopIteration;
use pyo3::ffi::{self, PyObject, PySendResult};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};

use super::{Body, Coroutine, Stage, Step};
use crate::raw::{attached, entered, failed, new_type, slot};

const NULL: *mut PyObject = std::ptr::null_mut();

/// The class.
pub(super) fn class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    Ok(CLASS.get_or_try_init(py, || make(py))?.bind(py))
}

#[cold]
fn make(py: Python<'_>) -> PyResult<Py<PyType>> {
    let method = |name: &'static CStr, function, flags, doc: &'static CStr| ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: function },
        ml_flags: flags,
        ml_doc: doc.as_ptr(),
    };
    let methods = [
        method(c"send", send, ffi::METH_O, c"Goes on with a value, to the next one that it yields."),
        method(c"throw", throw, ffi::METH_VARARGS, c"Raises an exception where it waits."),
        method(c"close", close, ffi::METH_NOARGS, c"Ends it where it waits."),
        ffi::PyMethodDef::zeroed(),
    ];
    let getter = |name: &'static CStr, get, closure: Option<&'static CStr>| ffi::PyGetSetDef {
        name: name.as_ptr(),
        get: Some(get),
        set: None,
        doc: std::ptr::null(),
        closure: closure.map_or(std::ptr::null_mut(), |closure| closure.as_ptr().cast_mut().cast()),
    };
    let getters = [
        getter(c"__name__", constant, Some(c"acall")),
        getter(c"__qualname__", constant, Some(c"CircuitBreaker.acall")),
        getter(c"cr_running", is_running, None),
        getter(c"cr_suspended", is_suspended, None),
        getter(c"cr_frame", of_inner, Some(c"cr_frame")),
        getter(c"cr_await", of_inner, Some(c"cr_await")),
        getter(c"cr_code", of_inner, Some(c"cr_code")),
        getter(c"cr_origin", of_inner, Some(c"cr_origin")),
        ffi::PyGetSetDef::default(),
    ];
    let members = [
        ffi::PyMemberDef {
            name: c"__weaklistoffset__".as_ptr(),
            type_code: ffi::Py_T_PYSSIZET,
            offset: offset_of!(Coroutine, weak_references).cast_signed(),
            flags: ffi::Py_READONLY,
            doc: std::ptr::null(),
        },
        ffi::PyMemberDef::default(),
    ];
    // The tables are kept by the class, which is for ever.
    let slots = [
        slot(ffi::Py_am_send, am_send as *mut c_void),
        slot(ffi::Py_am_await, itself as *mut c_void),
        slot(ffi::Py_tp_iternext, next as *mut c_void),
        slot(ffi::Py_tp_repr, repr as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse as *mut c_void),
        slot(ffi::Py_tp_clear, clear as *mut c_void),
        slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        slot(ffi::Py_tp_methods, Box::leak(Box::new(methods)).as_mut_ptr().cast()),
        slot(ffi::Py_tp_getset, Box::leak(Box::new(getters)).as_mut_ptr().cast()),
        slot(ffi::Py_tp_members, Box::leak(Box::new(members)).as_mut_ptr().cast()),
    ];
    new_type::<Coroutine>(py, c"backstay._native.Coroutine", 0, &slots)
}

unsafe extern "C" fn am_send(
    coroutine: *mut PyObject,
    value: *mut PyObject,
    result: *mut *mut PyObject,
) -> PySendResult {
    let step = entered(Step::Failed, |py| {
        // SAFETY: CPython gives us a coroutine of ours, which it keeps through the call.
        unsafe { Body::of(coroutine) }.send(py, value)
    });
    let (how, object) = match step {
        Step::Yielded(object) => (PySendResult::PYGEN_NEXT, object),
        Step::Returned(object) => (PySendResult::PYGEN_RETURN, object),
        Step::Failed => (PySendResult::PYGEN_ERROR, NULL),
    };
    // SAFETY: the place is the caller's, for the result.
    unsafe { *result = object };
    how
}

/// A step as the older protocol has it: a value that is returned is in a `StopIteration`.
fn by_exception(py: Python<'_>, step: Step) -> *mut PyObject {
    match step {
        Step::Yielded(object) => object,
        Step::Failed => NULL,
        Step::Returned(object) => attached(|_| {
            // SAFETY: it is a new reference.
            let value = unsafe { Bound::from_owned_ptr(py, object) };
            let made = py.get_type::<PyStopIteration>().call1((value,));
            failed(py, made.map_or_else(|error| error, PyErr::from_value))
        }),
    }
}

unsafe extern "C" fn itself(coroutine: *mut PyObject) -> *mut PyObject {
    // SAFETY: CPython gives us a coroutine of ours.
    unsafe { ffi::Py_NewRef(coroutine) }
}

unsafe extern "C" fn next(coroutine: *mut PyObject) -> *mut PyObject {
    // SAFETY: as in `am_send`; `None` is for ever.
    entered(NULL, |py| by_exception(py, unsafe { Body::of(coroutine).send(py, ffi::Py_None()) }))
}

unsafe extern "C" fn send(coroutine: *mut PyObject, value: *mut PyObject) -> *mut PyObject {
    // SAFETY: as in `am_send`.
    entered(NULL, |py| by_exception(py, unsafe { Body::of(coroutine) }.send(py, value)))
}

unsafe extern "C" fn throw(coroutine: *mut PyObject, arguments: *mut PyObject) -> *mut PyObject {
    entered(NULL, |_| {
        attached(|py| {
            // SAFETY: as in `am_send`; the arguments are a tuple.
            let (body, arguments) = unsafe {
                (Body::of(coroutine), Bound::from_borrowed_ptr(py, arguments).cast_into_unchecked::<PyTuple>())
            };
            by_exception(py, body.throw(py, &arguments))
        })
    })
}

unsafe extern "C" fn close(coroutine: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    entered(NULL, |_| {
        // SAFETY: as in `am_send`.
        attached(|py| match unsafe { Body::of(coroutine) }.close(py) {
            Ok(()) => py.None().into_ptr(),
            Err(error) => failed(py, error),
        })
    })
}

unsafe extern "C" fn repr(coroutine: *mut PyObject) -> *mut PyObject {
    entered(NULL, |py| {
        let text = format!("<coroutine object CircuitBreaker.acall at {coroutine:p}>");
        pyo3::types::PyString::new(py, &text).into_any().into_ptr()
    })
}

unsafe extern "C" fn constant(_: *mut PyObject, text: *mut c_void) -> *mut PyObject {
    // SAFETY: the getter was defined with a text of C's.
    unsafe { ffi::PyUnicode_FromString(text.cast_const().cast()) }
}

unsafe extern "C" fn is_running(coroutine: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: as in `am_send`.
    entered(NULL, |_| unsafe { ffi::PyBool_FromLong(Body::of(coroutine).is_running().into()) })
}

unsafe extern "C" fn is_suspended(coroutine: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: as in `am_send`.
    entered(NULL, |py| unsafe { ffi::PyBool_FromLong(Body::of(coroutine).inner(py).is_some().into()) })
}

/// An attribute of the guarded coroutine; `None` while there is none.
unsafe extern "C" fn of_inner(coroutine: *mut PyObject, name: *mut c_void) -> *mut PyObject {
    entered(NULL, |py| {
        // SAFETY: as in `am_send`; the getter was defined with a text of C's.
        let (body, name) = unsafe { (Body::of(coroutine), CStr::from_ptr(name.cast_const().cast())) };
        let Some(inner) = body.inner(py) else { return py.None().into_ptr() };
        attached(|_| {
            let found = name.to_str().ok().and_then(|name| inner.getattr(name).ok());
            found.unwrap_or_else(|| py.None().into_bound(py)).into_ptr()
        })
    })
}

unsafe extern "C" fn traverse(coroutine: *mut PyObject, visit: ffi::visitproc, argument: *mut c_void) -> c_int {
    // SAFETY: CPython gives us a coroutine of ours, and nothing else runs. A heap type's instances show their class as well.
    unsafe {
        let body = &(*coroutine.cast::<Coroutine>()).body;
        let class = ffi::Py_TYPE(coroutine).cast();
        let mut shown = |object: *mut PyObject| if object.is_null() { 0 } else { visit(object, argument) };
        let both = [class, body.breaker.as_ptr()].into_iter().map(&mut shown).find(|result| *result != 0);
        if let Some(result) = both {
            return result;
        }
        match &*body.stage.get() {
            Stage::New(owned) => {
                let all = owned.values().iter().copied().chain([owned.names]);
                all.map(&mut shown).find(|result| *result != 0).unwrap_or(0)
            }
            Stage::Started(started) => shown(started.inner.as_ptr()),
            Stage::Over => 0,
        }
    }
}

unsafe extern "C" fn clear(coroutine: *mut PyObject) -> c_int {
    // SAFETY: as in `am_send`.
    entered((), |_| unsafe { Body::of(coroutine).abandon() });
    0
}

unsafe extern "C" fn dealloc(coroutine: *mut PyObject) {
    // SAFETY: nothing refers to it any more; the body goes before its memory, and the class after its instance.
    unsafe {
        ffi::PyObject_GC_UnTrack(coroutine.cast());
        let layout = coroutine.cast::<Coroutine>();
        if !(*layout).weak_references.is_null() {
            ffi::PyObject_ClearWeakRefs(coroutine);
        }
        clear(coroutine);
        (&raw mut (*layout).body).drop_in_place();
        let class = ffi::Py_TYPE(coroutine);
        ffi::PyObject_GC_Del(coroutine.cast());
        ffi::Py_DECREF(class.cast());
    }
}
