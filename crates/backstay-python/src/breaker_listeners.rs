//! Python functions that are told of a circuit breaker's changes and calls.

use std::sync::Arc;

use backstay::circuit_breaker::{Cause, CompletedCall, Transition};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::callbacks::Callback;
use crate::circuit_breaker::state;
use crate::outcomes::outcome;

/// Calls `callback` with the states, and with the cause if it requires a third argument.
pub(crate) fn listener(
    py: Python<'_>,
    callback: Arc<Callback>,
) -> PyResult<impl Fn(&Transition) + Send + Sync + 'static> {
    let required = |function: &Bound<'_, PyAny>| -> PyResult<bool> {
        py.import("backstay._functions")?.call_method1("requires_three", (function,))?.extract()
    };
    let takes_cause = callback.ask(required).unwrap_or(Ok(false))?;
    Ok(move |transition: &Transition| {
        callback.run_logged("a circuit breaker", "on_state_change", |py| {
            let (old, new) = (state(py, transition.from)?, state(py, transition.to)?);
            if takes_cause {
                return (old, new, cause(py, transition.cause)?).into_pyobject(py);
            }
            (old, new).into_pyobject(py)
        });
    })
}

pub(crate) fn call_listener(callback: Arc<Callback>) -> impl Fn(&CompletedCall<'_>) + Send + Sync + 'static {
    move |call: &CompletedCall<'_>| {
        let (ended, seconds) = (outcome(call.outcome), call.duration.as_secs_f64());
        callback.run_logged("a circuit breaker", "on_call", |py| (ended, seconds).into_pyobject(py));
    }
}

fn cause(py: Python<'_>, cause: Cause) -> PyResult<Bound<'_, PyAny>> {
    static CAUSE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let (count, calls, seconds) = match cause {
        Cause::ConsecutiveFailures(count) | Cause::Successes(count) => (Some(u64::from(count)), None, None),
        Cause::FailureRate { failed: count, calls } | Cause::SlowCallRate { slow: count, calls } => {
            (Some(count), Some(calls), None)
        }
        Cause::RetryAfter(time) => (None, None, Some(time.as_secs_f64())),
        _ => (None, None, None),
    };
    let class = CAUSE.import(py, "backstay._values", "CircuitCause")?;
    class.call1((cause.as_str(), cause.to_string(), count, calls, seconds))
}
