//! The rate limiter.

use std::sync::OnceLock;
use std::time::Duration;

use backstay::RateLimitExceededError;
use backstay::rate_limiter::{RateLimiter as Handle, Reservation};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::arguments::{patience, positive_seconds};
use crate::waiting::{self, Outcome, Pending};
use crate::{errors, interpreter, logging};

/// The part of `backstay.RateLimiter` that is not Python.
#[pyclass(frozen, subclass, module = "backstay._native")]
pub(crate) struct RateLimiter(OnceLock<Handle>);

impl RateLimiter {
    #[inline]
    fn handle(&self) -> PyResult<&Handle> {
        self.0.get().ok_or_else(|| PyRuntimeError::new_err("RateLimiter.__init__ was not called"))
    }

    /// Waits for a token in a thread.
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let timeout = patience("timeout", timeout)?;
        let handle = self.handle()?;
        let mut reservation = handle.reserve(1, timeout).map_err(|error| rejected(py, &error))?;
        if reservation.remaining().is_zero() {
            return reservation.wait().map_err(|error| rejected(py, &error));
        }
        match waiting::wait(py, None, |slice| wait_within(&mut reservation, slice))? {
            Some(Err(error)) => Err(rejected(py, &error)),
            Some(Ok(())) | None => Ok(()),
        }
    }
}

#[pymethods]
impl RateLimiter {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self(OnceLock::new())
    }

    fn _build(
        &self,
        py: Python<'_>,
        rate: Option<f64>,
        per: Option<f64>,
        burst: Option<f64>,
        name: Option<String>,
    ) -> PyResult<()> {
        logging::look(py);
        let mut builder = Handle::configured();
        if let Some(rate) = rate {
            builder = builder.rate(rate);
        }
        if let Some(per) = per {
            builder = builder.per(positive_seconds("per", per)?);
        } else if rate.is_some() {
            builder = builder.per(Duration::from_secs(1));
        }
        if let Some(burst) = burst {
            builder = builder.burst(burst);
        }
        if let Some(name) = name {
            builder = builder.name(name);
        }
        let handle = builder.build().map_err(|error| errors::build(py, error))?;
        self.0.set(handle).map_err(|_| PyRuntimeError::new_err("RateLimiter.__init__ was called twice"))
    }

    /// Takes a token if there is one; never waits.
    fn try_acquire(&self) -> PyResult<bool> {
        Ok(self.handle()?.try_acquire())
    }

    /// Waits for a token: `True`. With `blocking=False` it does not wait: `False` where there is none.
    ///
    /// Raises:
    ///     RateLimitExceededError: the token would come after more than `timeout` seconds; nobody waits in vain.
    #[pyo3(signature = (*, blocking = true, timeout = None))]
    fn acquire(&self, py: Python<'_>, blocking: bool, timeout: Option<f64>) -> PyResult<bool> {
        if !blocking {
            return self.try_acquire();
        }
        self.wait(py, timeout).map(|()| true)
    }

    /// Takes a token if there is one, or raises.
    fn _check(&self, py: Python<'_>) -> PyResult<()> {
        self.handle()?.check().map_err(|error| rejected(py, &error))
    }

    /// A place in the line; `None` where there was a token at once.
    fn _reserve(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Pending>> {
        let timeout = patience("timeout", timeout)?;
        let handle = self.handle()?;
        let mut reservation = handle.reserve(1, timeout).map_err(|error| rejected(py, &error))?;
        if reservation.remaining().is_zero() {
            return reservation.wait().map(|()| None).map_err(|error| rejected(py, &error));
        }
        Ok(Some(Pending::new(async move {
            let outcome = reservation.await;
            Box::new(move |py: Python<'_>| match outcome {
                Ok(()) => Ok(py.None()),
                Err(error) => Err(rejected(py, &error)),
            }) as Outcome
        })))
    }

    /// Fills the bucket and wakes who may go.
    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        let handle = self.handle()?;
        interpreter::leave(py, || handle.reset());
        Ok(())
    }

    /// Seconds until a newcomer would have a token; changes nothing.
    fn time_until_token(&self) -> PyResult<f64> {
        Ok(errors::seconds(self.handle()?.time_until_token()))
    }

    /// Tokens that are there now; below zero while some wait.
    #[getter]
    fn tokens(&self) -> PyResult<f64> {
        Ok(self.handle()?.tokens())
    }

    /// Tokens per `per`.
    #[getter]
    fn rate(&self) -> PyResult<f64> {
        Ok(self.handle()?.rate())
    }

    /// Seconds to which `rate` refers.
    #[getter]
    fn per(&self) -> PyResult<f64> {
        Ok(self.handle()?.per().as_secs_f64())
    }

    /// Tokens that can be taken at once after a pause.
    #[getter]
    fn burst(&self) -> PyResult<f64> {
        Ok(self.handle()?.burst())
    }

    /// The name in errors and in the log.
    #[getter]
    fn name(&self) -> PyResult<Option<&str>> {
        Ok(self.handle()?.name())
    }

    /// Acquired, rejected, seconds waited.
    fn _stats(&self) -> PyResult<(u64, u64, f64)> {
        let stats = self.handle()?.stats();
        Ok((stats.acquired, stats.rejected, stats.waited.as_secs_f64()))
    }

    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        slf.get().wait(slf.py(), None)?;
        Ok(slf.clone())
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyTuple>) {}
}

fn rejected(py: Python<'_>, error: &RateLimitExceededError) -> PyErr {
    logging::glance(py);
    errors::rate_limit_exceeded(py, error)
}

fn wait_within(reservation: &mut Reservation, slice: Duration) -> Option<Result<(), RateLimitExceededError>> {
    if slice == Duration::MAX { Some(reservation.wait()) } else { reservation.wait_timeout(slice) }
}
