//! A native function that `inspect` takes for the coroutine function that it stands for, as it takes those of Cython: it
//! has the signature, the documentation and the code flags of a function written in Python, which is never called.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_ulong, c_void};
use std::mem::offset_of;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

use crate::raw::{entered, failed, new_type, slot};

#[repr(C)]
struct Function {
    head: PyObject,
    /// CPython calls it without a tuple of the arguments.
    vectorcall: ffi::vectorcallfunc,
    dict: *mut PyObject,
    weak_references: *mut PyObject,
}

/// What `inspect` looks at.
const TAKEN_OVER: [&str; 8] = [
    "__name__",
    "__qualname__",
    "__module__",
    "__doc__",
    "__code__",
    "__defaults__",
    "__kwdefaults__",
    "__annotations__",
];

/// A function that does what `vectorcall` does and looks like `template`.
pub(crate) fn like<'py>(template: &Bound<'py, PyAny>, vectorcall: ffi::vectorcallfunc) -> PyResult<Bound<'py, PyAny>> {
    let py = template.py();
    let dict = PyDict::new(py);
    for name in TAKEN_OVER {
        dict.set_item(name, template.getattr(name)?)?;
    }
    let class = class(py)?;
    // SAFETY: the class makes instances of this layout, all zero behind the head; nothing has seen this one yet.
    unsafe {
        let function = Bound::from_owned_ptr_or_err(py, ffi::PyType_GenericAlloc(class.as_type_ptr(), 0))?;
        let layout = function.as_ptr().cast::<Function>();
        (*layout).vectorcall = vectorcall;
        (*layout).dict = dict.into_ptr();
        Ok(function)
    }
}

fn class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    /// Public since 3.12; the same bit since 3.8.
    const HAVE_VECTORCALL: c_ulong = 1 << 11;
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let class = CLASS.get_or_try_init(py, || {
        let offset = |name: &'static CStr, offset: usize| ffi::PyMemberDef {
            name: name.as_ptr(),
            type_code: ffi::Py_T_PYSSIZET,
            offset: offset.cast_signed(),
            flags: ffi::Py_READONLY,
            doc: std::ptr::null(),
        };
        let members = [
            offset(c"__vectorcalloffset__", offset_of!(Function, vectorcall)),
            offset(c"__dictoffset__", offset_of!(Function, dict)),
            offset(c"__weaklistoffset__", offset_of!(Function, weak_references)),
            ffi::PyMemberDef::default(),
        ];
        let slots = [
            slot(ffi::Py_tp_call, call as *mut c_void),
            slot(ffi::Py_tp_descr_get, bind as *mut c_void),
            slot(ffi::Py_tp_traverse, traverse as *mut c_void),
            slot(ffi::Py_tp_clear, clear as *mut c_void),
            slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
            // Kept by the class for ever.
            slot(ffi::Py_tp_members, Box::leak(Box::new(members)).as_mut_ptr().cast()),
        ];
        let flags = HAVE_VECTORCALL | ffi::Py_TPFLAGS_METHOD_DESCRIPTOR;
        new_type::<Function>(py, c"backstay._native.Function", flags, &slots)
    })?;
    Ok(class.bind(py))
}

/// `function.__get__`: as a method of `instance`.
unsafe extern "C" fn bind(function: *mut PyObject, instance: *mut PyObject, _class: *mut PyObject) -> *mut PyObject {
    entered(std::ptr::null_mut(), |py| {
        // SAFETY: CPython gives us a function of ours, and an object or null.
        let (function, instance) =
            unsafe { (Bound::from_borrowed_ptr(py, function), Bound::from_borrowed_ptr_or_opt(py, instance)) };
        let Some(instance) = instance.filter(|instance| !instance.is_none()) else { return function.into_ptr() };
        static METHOD: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let method = METHOD.import(py, "types", "MethodType").and_then(|method| method.call1((function, instance)));
        method.map_or_else(|error| failed(py, error), Bound::into_ptr)
    })
}

/// `function.__call__(*arguments, **keywords)`: others call by [`Function::vectorcall`].
unsafe extern "C" fn call(function: *mut PyObject, arguments: *mut PyObject, keywords: *mut PyObject) -> *mut PyObject {
    entered(std::ptr::null_mut(), |py| {
        // SAFETY: CPython gives us a tuple, and a dict or null.
        let (arguments, keywords) = unsafe {
            let keywords = Bound::from_borrowed_ptr_or_opt(py, keywords);
            (
                Bound::from_borrowed_ptr(py, arguments).cast_into_unchecked::<PyTuple>(),
                keywords.map(|keywords| keywords.cast_into_unchecked::<PyDict>()),
            )
        };
        let (names, last): (Vec<_>, Vec<_>) = keywords.iter().flat_map(PyDictMethods::iter).unzip();
        let Ok(names) = PyTuple::new(py, names) else {
            return failed(py, PyTypeError::new_err("the keywords cannot be read"));
        };
        let values: Vec<_> = arguments.iter().chain(last).collect();
        let pointers: Vec<_> = values.iter().map(Bound::as_ptr).collect();
        // SAFETY: it is a function of ours; the vectors keep what the pointers show alive.
        unsafe {
            let vectorcall = (*function.cast::<Function>()).vectorcall;
            vectorcall(function, pointers.as_ptr(), arguments.len(), names.as_ptr())
        }
    })
}

unsafe extern "C" fn traverse(function: *mut PyObject, visit: ffi::visitproc, argument: *mut c_void) -> c_int {
    // SAFETY: CPython gives us a function of ours; a heap type's instances show their class as well.
    unsafe {
        let dict = (*function.cast::<Function>()).dict;
        [ffi::Py_TYPE(function).cast(), dict]
            .into_iter()
            .filter(|object| !object.is_null())
            .map(|object| visit(object, argument))
            .find(|result| *result != 0)
            .unwrap_or(0)
    }
}

unsafe extern "C" fn clear(function: *mut PyObject) -> c_int {
    // SAFETY: CPython gives us a function of ours; the dict is taken out before it is let go.
    unsafe {
        let dict = std::mem::replace(&mut (*function.cast::<Function>()).dict, std::ptr::null_mut());
        ffi::Py_XDECREF(dict);
    }
    0
}

unsafe extern "C" fn dealloc(function: *mut PyObject) {
    // SAFETY: nothing refers to it any more; the class is let go after its instance.
    unsafe {
        ffi::PyObject_GC_UnTrack(function.cast());
        if !(*function.cast::<Function>()).weak_references.is_null() {
            ffi::PyObject_ClearWeakRefs(function);
        }
        clear(function);
        let class = ffi::Py_TYPE(function);
        ffi::PyObject_GC_Del(function.cast());
        ffi::Py_DECREF(class.cast());
    }
}
