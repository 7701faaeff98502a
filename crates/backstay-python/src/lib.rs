//! The native half of the Python package `backstay`: handles, and no rules. `python/backstay` is the other half.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

mod arguments;
mod breaker_listeners;
mod built;
mod callbacks;
mod circuit_breaker;
mod config;
mod coroutine;
mod errors;
mod function;
mod guarded;
mod heartbeat;
mod interpreter;
mod json;
mod keyed_rate_limiter;
mod logging;
mod outcomes;
mod rate_limiter;
mod raw;
mod shutdown;
mod signals;
mod waiting;
mod watchdog;

/// How many seconds to wait at most; `None` for ever. For what waits in Python.
#[pyfunction]
fn _patience(name: &str, given: Option<Bound<'_, PyAny>>) -> PyResult<Option<f64>> {
    let patience = arguments::patience(name, given.as_ref())?;
    Ok(patience.map(|patience| patience.as_secs_f64()))
}

/// Runs once per import: again when the package was removed from `sys.modules` in between. A function rather than a
/// declared module, because a sub-interpreter must be rejected before any class is created in it.
#[pymodule(gil_used = false)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    interpreter::reject_sub_interpreter()?;
    // What must not change when the package is imported again: `_shared.py`.
    static SHARED: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    module.add("_shared", SHARED.get_or_init(py, || PyDict::new(py).unbind()))?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    raw::prepare();
    module.add_class::<circuit_breaker::CircuitBreaker>()?;
    module.add_class::<outcomes::Permit>()?;
    module.add_class::<outcomes::PyOutcome>()?;
    module.add_class::<heartbeat::Heartbeat>()?;
    module.add_class::<keyed_rate_limiter::KeyedRateLimiter>()?;
    module.add_class::<rate_limiter::RateLimiter>()?;
    module.add_class::<shutdown::GracefulShutdown>()?;
    module.add_class::<waiting::Pending>()?;
    module.add_class::<watchdog::Watchdog>()?;
    module.add_function(wrap_pyfunction!(_patience, module)?)?;
    module.add_function(wrap_pyfunction!(guarded::_acall, module)?)?;
    module.add_function(wrap_pyfunction!(signals::_hold_at_forks, module)?)?;
    module.add_function(wrap_pyfunction!(signals::_this_process, module)?)?;
    static INSTALLED: PyOnceLock<()> = PyOnceLock::new();
    INSTALLED.get_or_try_init(py, || {
        logging::install();
        interpreter::install(module)
    })?;
    guarded::CALL.install(&py.get_type::<circuit_breaker::CircuitBreaker>())?;
    rate_limiter::TRY_ACQUIRE.install(&py.get_type::<rate_limiter::RateLimiter>())?;
    errors::prepare(py)
}
