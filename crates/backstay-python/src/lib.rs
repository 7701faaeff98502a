//! The native half of the Python package `backstay`: handles, and no rules. `python/backstay` is the other half.

use pyo3::prelude::*;

mod arguments;
mod callbacks;
mod circuit_breaker;
mod errors;
mod heartbeat;
mod interpreter;
mod json;
mod keyed_rate_limiter;
mod logging;
mod rate_limiter;
mod shutdown;
mod waiting;
mod watchdog;

#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use crate::circuit_breaker::{CircuitBreaker, Permit};
    #[pymodule_export]
    use crate::heartbeat::Heartbeat;
    #[pymodule_export]
    use crate::keyed_rate_limiter::KeyedRateLimiter;
    #[pymodule_export]
    use crate::rate_limiter::RateLimiter;
    #[pymodule_export]
    use crate::shutdown::GracefulShutdown;
    #[pymodule_export]
    use crate::waiting::Pending;
    #[pymodule_export]
    use crate::watchdog::Watchdog;

    use pyo3::prelude::*;

    /// How many seconds to wait at most; `None` for ever. For what waits in Python.
    #[pyfunction]
    fn _patience(name: &str, given: Option<Bound<'_, PyAny>>) -> PyResult<Option<f64>> {
        let patience = crate::arguments::patience(name, given.as_ref())?;
        Ok(patience.map(|patience| patience.as_secs_f64()))
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::logging::install();
        crate::interpreter::install(module)?;
        crate::errors::prepare(module.py())?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
