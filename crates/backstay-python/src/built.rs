//! What the `__init__` of a native class makes.

use std::sync::OnceLock;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// The parts of an object: none before `__init__`, and the same from then on. `__new__` takes any arguments and makes
/// none, so that a subclass may have arguments of its own.
pub(crate) struct Built<T> {
    class: &'static str,
    parts: OnceLock<T>,
}

impl<T> Built<T> {
    pub(crate) const fn new(class: &'static str) -> Self {
        Self { class, parts: OnceLock::new() }
    }

    #[inline]
    pub(crate) fn get(&self) -> PyResult<&T> {
        self.known().ok_or_else(|| PyRuntimeError::new_err(format!("{}.__init__ was not called", self.class)))
    }

    /// `None` before `__init__`.
    #[inline]
    pub(crate) fn known(&self) -> Option<&T> {
        self.parts.get()
    }

    pub(crate) fn set(&self, parts: T) -> PyResult<()> {
        let twice = |_| PyRuntimeError::new_err(format!("{}.__init__ was called twice", self.class));
        self.parts.set(parts).map_err(twice)
    }

    pub(crate) fn take(&mut self) -> Option<T> {
        self.parts.take()
    }
}
