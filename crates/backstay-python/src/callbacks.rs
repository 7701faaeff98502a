//! Python functions that are called from threads of Rust's.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use backstay::clock::{Clock, Moment};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

use crate::interpreter;

/// The monotonic time.
pub(crate) fn now() -> Moment {
    static CLOCK: OnceLock<Clock> = OnceLock::new();
    CLOCK.get_or_init(Clock::system).now()
}

/// A Python function, plain or async, and the loop on which what it returns is awaited.
///
/// Shared between the object that was given it, which shows it to Python's garbage collector, and the closure that
/// calls it.
pub(crate) struct Callback {
    target: Mutex<Option<Target>>,
    /// Whose it is: what runs in it may ask that component for something that waits for callbacks.
    component: usize,
}

struct Target {
    function: Py<PyAny>,
    /// The loop that ran when the component was started from a task.
    event_loop: Option<Py<PyAny>>,
}

static RUN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// A number for a component that no other has.
pub(crate) fn new_component() -> usize {
    static LAST: AtomicUsize = AtomicUsize::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}

impl Callback {
    pub(crate) fn new(function: &Bound<'_, PyAny>, component: usize) -> PyResult<Arc<Self>> {
        // Imported now, and not by a thread that a fork may catch half way.
        RUN.import(function.py(), "backstay._callbacks", "run")?;
        let target = Target { function: function.clone().unbind(), event_loop: None };
        Ok(Arc::new(Self { target: Mutex::new(Some(target)), component }))
    }

    /// What it returns that can be awaited is from now on awaited there; `None`: on a loop of its own. Where it was until
    /// now.
    pub(crate) fn on_loop(&self, event_loop: Option<Py<PyAny>>) -> Option<Py<PyAny>> {
        std::mem::replace(&mut self.target().as_mut()?.event_loop, event_loop)
    }

    /// Calls the function with `arguments` to its end. An exception comes back as its text. Nothing happens once the
    /// interpreter is ending.
    pub(crate) fn run(
        &self,
        arguments: impl for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyTuple>>,
    ) -> Result<(), String> {
        match self.call(arguments) {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(interpreter::enter(move |py| described(py, &error)).unwrap_or_default()),
            None => Err("the interpreter has ended".to_owned()),
        }
    }

    /// `None` where the interpreter is ending.
    fn call(
        &self,
        arguments: impl for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyTuple>>,
    ) -> Option<PyResult<()>> {
        let process = backstay::fork::this_process();
        interpreter::enter(|py| -> PyResult<()> {
            let target = self.target();
            let Some(Target { function, event_loop }) = &*target else { return Ok(()) };
            let (function, event_loop) = (function.clone_ref(py), event_loop.as_ref().map(|known| known.clone_ref(py)));
            drop(target);
            let run = RUN.import(py, "backstay._callbacks", "run")?;
            let ran = run.call1((function, arguments(py)?, event_loop, self.component)).map(drop);
            if backstay::fork::this_process() != process {
                // It forked, and the child came back: its only thread is one of ours, with nothing to go on to.
                py.import("os")?.call_method1("_exit", (i32::from(ran.is_err()),))?;
            }
            ran
        })
    }

    /// What `ask` makes of it, where it was not forgotten and the interpreter has not ended.
    pub(crate) fn ask<T>(&self, ask: impl FnOnce(&Bound<'_, PyAny>) -> T) -> Option<T> {
        interpreter::enter(|py| {
            let function = self.target().as_ref().map(|target| target.function.clone_ref(py));
            function.map(|function| ask(function.bind(py)))
        })?
    }

    /// As [`run`](Self::run); an exception is logged, as that of `who`'s `what`.
    pub(crate) fn run_logged(
        &self,
        who: &str,
        what: &str,
        arguments: impl for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyTuple>>,
    ) {
        if let Some(Err(raised)) = self.call(arguments) {
            let error = interpreter::enter(|py| described(py, &raised)).unwrap_or_default();
            tracing::error!(target: "backstay", error, "{who}'s {what} raised");
            interpreter::enter(|py| interpreter::raise_later(py, raised));
        }
    }

    /// Shows the function to the garbage collector.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Held only for moments; a collector must not wait, and may come back.
        let Ok(target) = self.target.try_lock() else { return Ok(()) };
        let Some(target) = &*target else { return Ok(()) };
        visit.call(&target.function)?;
        visit.call(&target.event_loop)
    }

    /// Forgets the function: the garbage collector found that nobody can reach it any more.
    pub(crate) fn clear(&self) {
        let target = self.target().take();
        drop(target);
    }

    fn target(&self) -> MutexGuard<'_, Option<Target>> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Callback {
    fn drop(&mut self) {
        interpreter::drop_inside(self.target().take());
    }
}

/// The functions that one component was given.
#[derive(Clone)]
pub(crate) struct Callbacks {
    pub(crate) component: usize,
    given: Vec<Arc<Callback>>,
}

impl Callbacks {
    pub(crate) fn new() -> Self {
        Self::of(new_component())
    }

    /// None yet, of a component that is known.
    pub(crate) fn of(component: usize) -> Self {
        Self { component, given: Vec::new() }
    }

    pub(crate) fn append(&mut self, mut added: Self) {
        self.given.append(&mut added.given);
    }

    /// Takes one more, where there is one; checked, so that the mistake is seen where it was made.
    pub(crate) fn add(&mut self, name: &str, function: Option<Bound<'_, PyAny>>) -> PyResult<Option<Arc<Callback>>> {
        let Some(function) = function else { return Ok(None) };
        if !function.is_callable() {
            let found = function.get_type();
            return Err(PyTypeError::new_err(format!("{name} is a {}, allowed is a function", found.name()?)));
        }
        self.hold(&function).map(Some)
    }

    /// Takes what is no function, to be asked now and then.
    pub(crate) fn hold(&mut self, object: &Bound<'_, PyAny>) -> PyResult<Arc<Callback>> {
        let callback = Callback::new(object, self.component)?;
        self.given.push(Arc::clone(&callback));
        Ok(callback)
    }

    /// What they return that can be awaited is from now on awaited there; where it was until now.
    pub(crate) fn on_loop(&self, py: Python<'_>, event_loop: Option<Py<PyAny>>) -> Option<Py<PyAny>> {
        let clone = || event_loop.as_ref().map(|known| known.clone_ref(py));
        self.given.iter().map(|callback| callback.on_loop(clone())).fold(None, Option::or)
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.given.iter().try_for_each(|callback| callback.traverse(visit))
    }

    pub(crate) fn clear(&self) {
        self.given.iter().for_each(|callback| callback.clear());
    }
}

/// What `on_alert` is called with.
pub(crate) fn alert<'py>(py: Python<'py>, alert: &backstay::Alert) -> PyResult<Bound<'py, PyTuple>> {
    let context = crate::json::to_python(py, &serde_json::Value::Object(alert.context.clone()))?;
    (alert.channel, &alert.message, context).into_pyobject(py)
}

/// An exception as one line, as the last one of a traceback.
pub(crate) fn described(py: Python<'_>, error: &PyErr) -> String {
    let kind = error.get_type(py);
    let kind = kind.qualname().map_or_else(|_| "an exception".to_owned(), |name| name.to_string());
    match error.value(py).str().map(|text| text.to_string()) {
        Ok(text) if text.is_empty() => kind,
        Ok(text) => format!("{kind}: {text}"),
        Err(_) => kind,
    }
}
