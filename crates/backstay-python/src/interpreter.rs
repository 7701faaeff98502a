//! Coming into the interpreter from threads that are not its own, and leaving it to wait; around its end and around
//! forks, when either is dangerous.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, ThreadId};
use std::time::Duration;

use pyo3::exceptions::{PyImportError, PyKeyboardInterrupt, PySystemExit};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use crate::{callbacks, signals};

/// How long the end of a program waits for callbacks. Threads that are still in Python after that may be cut off in
/// the middle, with whatever lock they hold.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// Bytes of stack for threads that run Python: as much as its own have, and its limit of recursion counts on.
const STACK: usize = 16 << 20;

/// The thread that ended the program, once it has: from then on the door is closed to guests, except while that thread
/// itself waits for what they do, in an exit handler of the program's.
static ENDED_BY: OnceLock<ThreadId> = OnceLock::new();
static WAITS: AtomicUsize = AtomicUsize::new(0);
/// Threads that have come in.
static GUESTS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// How often this thread has come in.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Calls `function` with the interpreter, from any thread; `None` when it is ending or has ended.
pub(crate) fn enter<T>(function: impl FnOnce(Python<'_>) -> T) -> Option<T> {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            if DEPTH.replace(DEPTH.get() - 1) == 1 {
                GUESTS.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }
    let is_new = DEPTH.replace(DEPTH.get() + 1) == 0;
    if is_new {
        GUESTS.fetch_add(1, Ordering::SeqCst);
    }
    let _leave = Leave;
    let is_closed = is_new && ENDED_BY.get().is_some() && WAITS.load(Ordering::SeqCst) == 0;
    if is_closed { None } else { Python::try_attach(|py| beside_errors(py, function)) }
}

/// Lets go of Python's objects, from any thread. Where the interpreter has ended they stay.
///
/// Dropped by a thread that is not attached, they would wait in a list of PyO3's under a lock that a fork may catch held.
pub(crate) fn drop_inside<T>(objects: Option<T>) {
    let mut objects = objects;
    if objects.is_some() && enter(|_| drop(objects.take())).is_none() {
        std::mem::forget(objects);
    }
}

/// Calls `function` as if no exception were on its way, as one may be where a destructor calls us.
#[allow(unsafe_code)]
pub(crate) fn beside_errors<T>(py: Python<'_>, function: impl FnOnce(Python<'_>) -> T) -> T {
    let (mut kind, mut error, mut trace) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: we are attached; three references or nulls are taken out, and the same three put back.
    unsafe { ffi::PyErr_Fetch(&raw mut kind, &raw mut error, &raw mut trace) };
    let value = function(py);
    // SAFETY: as above.
    unsafe { ffi::PyErr_Restore(kind, error, trace) };
    value
}

thread_local! {
    /// What [`raise_later`] was given.
    static OWED: Cell<Option<PyErr>> = const { Cell::new(None) };
}
/// Whether anything was ever owed: looking a thread's own value up costs more than all else that a guarded call does here.
/// Relaxed, because a thread asks for nothing but what it has set itself.
static EVER_OWED: AtomicBool = AtomicBool::new(false);

/// Keeps `error` for the main thread where it is a signal handler's, which ran while that thread was in a callback: nobody
/// in our place may take it for the callback's own. It is raised by whoever asks whether something is [`owed`], or else
/// as soon as the interpreter looks for pending calls. Others are left alone.
#[allow(unsafe_code)]
pub(crate) fn raise_later(py: Python<'_>, error: PyErr) {
    extern "C" fn raise(_: *mut c_void) -> c_int {
        // Pending calls are made by the main thread, attached.
        Python::try_attach(|py| match owed(py) {
            Err(error) => {
                error.restore(py);
                -1
            }
            Ok(()) => 0,
        })
        .unwrap_or(0)
    }
    let ends = error.is_instance_of::<PyKeyboardInterrupt>(py) || error.is_instance_of::<PySystemExit>(py);
    if ends && is_main_thread(py).unwrap_or(false) {
        OWED.set(Some(error));
        EVER_OWED.store(true, Ordering::Relaxed);
        // SAFETY: the function takes nothing. Where there are too many of them, who asks next raises it.
        unsafe { ffi::Py_AddPendingCall(Some(raise), std::ptr::null_mut()) };
    }
}

/// What a signal handler raised in this thread while it was in a callback.
#[inline]
pub(crate) fn owed(_: Python<'_>) -> PyResult<()> {
    if EVER_OWED.load(Ordering::Relaxed) { OWED.take().map_or(Ok(()), Err) } else { Ok(()) }
}

/// Lets the interpreter go while `function` runs.
pub(crate) fn leave<T: Send>(py: Python<'_>, function: impl FnOnce() -> T + Send) -> T {
    waiting(py, || py.detach(function))
}

/// Runs `function`, which may wait for guests: after the program's end, too.
pub(crate) fn waiting<T>(py: Python<'_>, function: impl FnOnce() -> T) -> T {
    if ENDED_BY.get().is_none_or(|main| *main != thread::current().id()) {
        return function();
    }
    WAITS.fetch_add(1, Ordering::SeqCst);
    let value = function();
    // The outermost wait closes the door again.
    if WAITS.fetch_sub(1, Ordering::SeqCst) == 1 {
        py.detach(see_off);
    }
    value
}

/// Whether this is the thread that runs Python's signal handlers.
pub(crate) fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    static IS_MAIN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let is_main = IS_MAIN.import(py, "backstay._threads", "is_main_thread")?;
    is_main.call0()?.extract()
}

/// Raises `ImportError` in any interpreter but the main one. Threads of ours enter the interpreter through
/// `PyGILState_Ensure`, which knows the main one alone, and the objects that this module keeps belong to it.
#[allow(unsafe_code)]
pub(crate) fn reject_sub_interpreter() -> PyResult<()> {
    // SAFETY: we are attached, so there is a current interpreter; asking for its number has no other precondition.
    let number = unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) };
    if number == 0 {
        return Ok(());
    }
    Err(PyImportError::new_err(
        "backstay works in the main interpreter only, and this is a sub-interpreter; \
         under mod_wsgi set 'WSGIApplicationGroup %{GLOBAL}'",
    ))
}

/// Has the interpreter tell of its end and of forks. Only once per process.
pub(crate) fn install(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    backstay::threads::set_stack_size(STACK);
    py.import("atexit")?.call_method1("register", (wrap_pyfunction!(end, module)?,))?;
    let os = py.import("os")?;
    if os.hasattr("register_at_fork")? {
        backstay::fork::watch(pause);
        let hooks = PyDict::new(py);
        hooks.set_item("before", wrap_pyfunction!(before_fork, module)?)?;
        hooks.set_item("after_in_parent", wrap_pyfunction!(after_fork_in_parent, module)?)?;
        hooks.set_item("after_in_child", wrap_pyfunction!(after_fork_in_child, module)?)?;
        os.call_method("register_at_fork", (), Some(&hooks))?;
    }
    Ok(())
}

/// Waits a moment for another thread's fork, without the interpreter: hooks of others may have let it go, and the
/// forking thread wants it back.
fn pause() {
    if Python::try_attach(|py| py.detach(thread::yield_now)).is_none() {
        thread::yield_now();
    }
}

/// Lets nobody in any more, and waits for those who are.
#[pyfunction]
fn end(py: Python<'_>) {
    let _ = ENDED_BY.set(thread::current().id());
    py.detach(see_off);
}

/// Waits for the guests to leave.
fn see_off() {
    let start = callbacks::now();
    while GUESTS.load(Ordering::SeqCst) > own() && callbacks::now().since(start) < LAST_WAIT {
        thread::park_timeout(Duration::from_millis(1));
    }
}

#[pyfunction]
fn before_fork() {
    backstay::fork::before();
    signals::hold();
}

#[pyfunction]
fn after_fork_in_parent() {
    signals::release();
    backstay::fork::after_in_parent();
}

/// In the child no shutdown is installed. Its handlers are in place again before a pending signal is delivered.
#[pyfunction]
fn after_fork_in_child(py: Python<'_>) {
    GUESTS.store(own(), Ordering::SeqCst);
    backstay::fork::after_in_child();
    if !signals::are_held() {
        return;
    }
    let put_back = || py.import("backstay._signals")?.call_method0("after_fork_in_child").map(drop);
    if let Err(error) = put_back() {
        error.write_unraisable(py, None);
    }
    signals::release();
}

fn own() -> usize {
    DEPTH.with(|depth| depth.get().min(1))
}
