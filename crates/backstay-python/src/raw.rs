//! Being called, and calling, as CPython itself does it: the arguments stay where the caller has them ("vectorcall").
//!
//! PyO3 makes a tuple and a dict for a function that takes any arguments, copies the tuple without its first element, and
//! hands both to `PyObject_Call`: that is half of what a guarded call costs.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_ulong, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::exceptions::PyTypeError;
use pyo3::ffi::{self, PyObject};
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

/// Borrowed arguments: the positional ones, then the values of keywords, whose names are a tuple, or null where there is
/// none.
#[derive(Clone, Copy)]
pub(crate) struct Arguments {
    pub(crate) values: *const *mut PyObject,
    pub(crate) positional: usize,
    pub(crate) names: *mut PyObject,
}

/// `PyObject_Vectorcall`. `positional` may have [`OFFSET`].
type Vectorcall = unsafe extern "C" fn(
    function: *mut PyObject,
    values: *const *mut PyObject,
    positional: usize,
    names: *mut PyObject,
) -> *mut PyObject;

/// The callee may overwrite the value before the first one while it runs: so a bound method needs no copy of them.
pub(crate) const OFFSET: usize = 1 << (usize::BITS - 1);

/// `PyObject_Vectorcall` where this CPython exports it, which is from 3.11 on. It has been part of the stable ABI since
/// 3.12 only, so the module cannot be linked to it. Relaxed: it is written before the module has a function to be called.
static VECTORCALL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

/// Looks up what this CPython has.
pub(crate) fn prepare() {
    #[cfg(unix)]
    {
        // SAFETY: the name ends with a zero byte; asking has no other precondition.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"PyObject_Vectorcall".as_ptr()) };
        VECTORCALL.store(found, Ordering::Relaxed);
    }
}

impl Arguments {
    /// Takes the first positional one off.
    pub(crate) fn shift(self) -> Option<(*mut PyObject, Self)> {
        if self.positional == 0 {
            return None;
        }
        // SAFETY: there is at least one value, so that the next address is inside of them or just behind them.
        unsafe { Some((*self.values, Self { values: self.values.add(1), positional: self.positional - 1, ..self })) }
    }

    /// The value of the keyword `name`, the only argument that there may be.
    ///
    /// # Safety
    /// The values are alive.
    #[inline]
    pub(crate) unsafe fn only<'py>(self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        if self.positional == 0 && self.names.is_null() {
            return Ok(None);
        }
        // SAFETY: names are null or a tuple.
        let names = unsafe { Bound::from_borrowed_ptr_or_opt(py, self.names) };
        let names = names.map_or_else(|| Ok(PyTuple::empty(py)), Bound::cast_into::<PyTuple>)?;
        match names.iter().map(|given| given.to_string()).find(|given| given != name) {
            _ if self.positional > 0 => {
                let message = format!("takes 0 positional arguments but {} were given", self.positional);
                Err(PyTypeError::new_err(message))
            }
            Some(other) => Err(PyTypeError::new_err(format!("got an unexpected keyword argument '{other}'"))),
            None if names.is_empty() => Ok(None),
            // SAFETY: there is a value for the name.
            None => Ok(Some(unsafe { Bound::from_borrowed_ptr(py, *self.values) })),
        }
    }

    /// Calls `function`: a new reference, or null with an exception set.
    ///
    /// # Safety
    /// The function and all values are alive; before the first value there is another one.
    #[inline]
    pub(crate) unsafe fn call(self, py: Python<'_>, function: *mut PyObject) -> *mut PyObject {
        let known = VECTORCALL.load(Ordering::Relaxed);
        if known.is_null() {
            return self.call_with_tuple(py, function).map_or_else(|error| failed(py, error), Bound::into_ptr);
        }
        // SAFETY: the symbol of this name has this type, and what it demands is demanded of our caller.
        unsafe {
            let call = std::mem::transmute::<*mut c_void, Vectorcall>(known);
            call(function, self.values, self.positional | OFFSET, self.names)
        }
    }

    /// [`call`](Self::call) for CPython 3.10, by the stable ABI alone.
    #[cold]
    fn call_with_tuple<'py>(self, py: Python<'py>, function: *mut PyObject) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: the caller of `call` said that all of them are alive.
        let alive = |object: &*mut PyObject| unsafe { Bound::from_borrowed_ptr(py, *object) };
        // SAFETY: as above; names are null or a tuple.
        let names = unsafe { Bound::from_borrowed_ptr_or_opt(py, self.names) };
        let names = names.map(Bound::cast_into::<PyTuple>).transpose()?;
        let all = self.positional + names.as_ref().map_or(0, PyTupleMethods::len);
        // SAFETY: there are as many values.
        let values = unsafe { std::slice::from_raw_parts(self.values, all) };
        let (positional, rest) = values.split_at(self.positional);
        let keywords = names.map(|names| -> PyResult<_> {
            let keywords = PyDict::new(py);
            names.iter().zip(rest).try_for_each(|(name, value)| keywords.set_item(name, alive(value)))?;
            Ok(keywords)
        });
        let positional = PyTuple::new(py, positional.iter().map(alive))?;
        alive(&function).call(positional, keywords.transpose()?.as_ref())
    }
}

/// A method that takes its arguments as they are. The first parameter of a native method of PyO3's class is an object of
/// that class: CPython checks it.
pub(crate) struct Method(ffi::PyMethodDef);

// SAFETY: nothing writes it.
unsafe impl Sync for Method {}

impl Method {
    pub(crate) const fn new(
        name: &'static CStr,
        function: ffi::PyCFunctionFastWithKeywords,
        documentation: &'static CStr,
    ) -> Self {
        Self(ffi::PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: function },
            ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
            ml_doc: documentation.as_ptr(),
        })
    }

    /// Gives the method to `class`.
    pub(crate) fn install(&'static self, class: &Bound<'_, PyType>) -> PyResult<()> {
        // SAFETY: the class is alive, and the definition is for ever; CPython does not write it.
        let method = unsafe {
            let method = ffi::PyDescr_NewMethod(class.as_type_ptr(), (&raw const self.0).cast_mut());
            Bound::from_owned_ptr_or_err(class.py(), method)?
        };
        class.setattr(method.getattr("__name__")?.cast_into::<PyString>()?, method)
    }
}

/// Sets `error`; null.
#[cold]
pub(crate) fn failed(py: Python<'_>, error: PyErr) -> *mut PyObject {
    error.restore(py);
    std::ptr::null_mut()
}

/// Runs `body`, which CPython has called; a panic becomes an exception, and `broken` is returned.
#[inline]
pub(crate) fn entered<T>(broken: T, body: impl FnOnce(Python<'_>) -> T) -> T {
    // SAFETY: a thread that calls a function of an extension module is attached.
    let py = unsafe { Python::assume_attached() };
    catch_unwind(AssertUnwindSafe(|| body(py))).unwrap_or_else(|_| {
        PanicException::new_err(("panic from Rust code",)).restore(py);
        broken
    })
}

/// [`Python::attach`], for what may let go of objects that are not bound to it: PyO3 does not know yet that this thread
/// is attached, and would keep them in a list of its own.
#[cold]
pub(crate) fn attached<T>(body: impl FnOnce(Python<'_>) -> T) -> T {
    Python::attach(body)
}

/// One entry of a class's description.
pub(crate) fn slot(slot: c_int, pfunc: *mut c_void) -> ffi::PyType_Slot {
    ffi::PyType_Slot { slot, pfunc }
}

/// A class that CPython's garbage collector knows, with instances laid out as `T`, which begins with a `PyObject`. It has
/// no constructor.
pub(crate) fn new_type<T>(
    py: Python<'_>,
    name: &'static CStr,
    flags: c_ulong,
    slots: &[ffi::PyType_Slot],
) -> PyResult<Py<PyType>> {
    let mut slots: Vec<_> = slots.iter().copied().chain([ffi::PyType_Slot::default()]).collect();
    let flags = flags
        | ffi::Py_TPFLAGS_DEFAULT
        | ffi::Py_TPFLAGS_HAVE_GC
        | ffi::Py_TPFLAGS_IMMUTABLETYPE
        | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION;
    let mut spec = ffi::PyType_Spec {
        name: name.as_ptr(),
        basicsize: size_of::<T>().try_into()?,
        itemsize: 0,
        flags: flags.try_into()?,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the description ends with an empty slot and lives through the call; what CPython keeps of it is static.
    let class = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&raw mut spec))? };
    Ok(class.cast_into::<PyType>()?.unbind())
}
