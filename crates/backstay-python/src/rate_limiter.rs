//! The rate limiter.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use backstay::RateLimitExceededError;
use backstay::rate_limiter::{RateLimiter as Handle, RateLimiterBuilder, Reservation};
use pyo3::exceptions::PyValueError;
use pyo3::ffi::PyObject;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyTuple};

use crate::arguments::{self, number, patience, positive_seconds, text};
use crate::built::Built;
use crate::raw::{Arguments, Method, entered, failed};
use crate::waiting::{self, Outcome, Pending};
use crate::{config, errors, interpreter, logging};

/// The part of `backstay.RateLimiter` that is not Python.
#[pyclass(frozen, subclass, module = "backstay._native")]
pub(crate) struct RateLimiter {
    handle: Built<Handle>,
    /// Whether the log says already that a wait blocked an event loop.
    blocks_loop: AtomicBool,
}

impl RateLimiter {
    #[inline]
    fn handle(&self) -> PyResult<&Handle> {
        self.handle.get()
    }

    /// Waits for tokens in a thread.
    fn wait(&self, py: Python<'_>, tokens: u32, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let timeout = patience("timeout", timeout)?;
        let handle = self.handle()?;
        if handle.take_n(tokens) {
            return Ok(());
        }
        let mut reservation = handle.reserve(tokens, timeout).map_err(|error| rejected(py, &error))?;
        if reservation.remaining().is_zero() {
            return reservation.wait().map_err(|error| rejected(py, &error));
        }
        waiting::warn_in_task(py, &self.blocks_loop, || blocks_loop(handle.name(), reservation.remaining()))?;
        if waiting::in_greenlet(py)? {
            return pending(reservation).wait_in_greenlet(py, None).map(drop);
        }
        match waiting::wait(py, None, |slice| wait_within(&mut reservation, slice))? {
            Some(Err(error)) => Err(rejected(py, &error)),
            Some(Ok(())) | None => Ok(()),
        }
    }
}

#[pymethods]
impl RateLimiter {
    /// Takes any arguments: those of a subclass may be others.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(rate=None, per=None, *, burst=None, name=None)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { handle: Built::new("RateLimiter"), blocks_loop: AtomicBool::new(false) }
    }

    #[pyo3(signature = (rate = None, per = None, *, burst = None, name = None))]
    fn __init__(
        &self,
        py: Python<'_>,
        rate: Option<&Bound<'_, PyAny>>,
        per: Option<&Bound<'_, PyAny>>,
        burst: Option<&Bound<'_, PyAny>>,
        name: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        logging::look(py);
        let mut builder = RateLimiterBuilder::default();
        // Only a named instance can have a configured burst.
        let is_complete = rate.is_some() && (burst.is_some() || name.is_none());
        let has_rate = rate.is_some();
        if let Some(rate) = rate {
            builder = builder.rate(number("rate", rate)?);
        }
        if let Some(per) = per {
            builder = builder.per(positive_seconds("per", per)?);
        } else if has_rate {
            builder = builder.per(Duration::from_secs(1));
        }
        if let Some(burst) = burst {
            builder = builder.burst(number("burst", burst)?);
        }
        if let Some(name) = name {
            builder = builder.name(text("name", name)?);
        }
        if !is_complete {
            builder = builder.config(&config::of(py, "rate_limiter")?);
        }
        let handle = builder.build().map_err(errors::build)?;
        self.handle.set(handle)
    }

    #[staticmethod]
    fn _names() -> Vec<String> {
        Handle::instances().iter().filter_map(|limiter| limiter.name().map(str::to_owned)).collect()
    }

    fn _build_named(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        logging::look(py);
        self.handle.set(Handle::named_with(name, |builder| {
            builder.config(&config::of(py, "rate_limiter")?).build().map_err(errors::build)
        })?)
    }

    /// Waits for a token, or as many as `tokens` says: `True`. With `blocking=False` it does not wait: `False` where
    /// they are not there. In a task it blocks the event loop, which a warning says once: use `acquire_async`.
    ///
    /// Raises:
    ///     RateLimitExceededError: they would come after more than `timeout` seconds, or never, being more than the
    ///         bucket holds.
    #[pyo3(signature = (*, blocking = true, timeout = None, tokens = None))]
    fn acquire(
        &self,
        py: Python<'_>,
        blocking: bool,
        timeout: Option<&Bound<'_, PyAny>>,
        tokens: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        if !blocking {
            return Ok(self.handle()?.try_acquire_n(arguments::tokens(tokens)?));
        }
        self.wait(py, arguments::tokens(tokens)?, timeout).map(|()| true)
    }

    /// Takes a token if there is one, or raises.
    fn _check(&self, py: Python<'_>) -> PyResult<()> {
        self.handle()?.check().map_err(|error| rejected(py, &error))
    }

    /// A place in the line; `None` where there was a token at once.
    fn _reserve(
        &self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
        tokens: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Pending>> {
        let timeout = patience("timeout", timeout)?;
        let (handle, tokens) = (self.handle()?, arguments::tokens(tokens)?);
        if handle.take_n(tokens) {
            return Ok(None);
        }
        let mut reservation = handle.reserve(tokens, timeout).map_err(|error| rejected(py, &error))?;
        if reservation.remaining().is_zero() {
            return reservation.wait().map(|()| None).map_err(|error| rejected(py, &error));
        }
        Ok(Some(pending(reservation)))
    }

    /// Fills the bucket and wakes who may go.
    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        let handle = self.handle()?;
        interpreter::leave(py, || handle.reset());
        interpreter::owed(py)
    }

    /// Changes the rate, from now on: the tokens that there are stay, and those who wait keep their order. `per` is in
    /// seconds, and stays as it is where it is not given.
    ///
    /// Raises:
    ///     ValueError: an invalid number; the rate is unchanged.
    #[pyo3(signature = (rate, per = None))]
    fn set_rate(&self, py: Python<'_>, rate: &Bound<'_, PyAny>, per: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let handle = self.handle()?;
        let rate = number("rate", rate)?;
        let per = per.map_or_else(|| Ok(handle.per()), |per| positive_seconds("per", per))?;
        let changed = interpreter::leave(py, || handle.set_rate(rate, per));
        changed.map_err(|error| PyValueError::new_err(error.to_string()))?;
        interpreter::owed(py)
    }

    /// Seconds until a newcomer would have a token; changes nothing.
    fn time_until_token(&self) -> PyResult<f64> {
        Ok(errors::seconds(self.handle()?.time_until_token()))
    }

    /// Tokens that are there now, as a fraction too; 0 while callers wait.
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
        slf.get().wait(slf.py(), 1, None)?;
        Ok(slf.clone())
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyTuple>) {}
}

/// `RateLimiter.try_acquire`, the hottest of all methods.
pub(crate) static TRY_ACQUIRE: Method = Method::new(
    c"try_acquire",
    try_acquire,
    c"try_acquire($self, *, tokens=None)\n--\n\n\
      Takes a token, or as many as `tokens` says, if they are there; never waits.",
);

#[allow(unsafe_code)]
unsafe extern "C" fn try_acquire(
    slf: *mut PyObject,
    values: *const *mut PyObject,
    positional: isize,
    names: *mut PyObject,
) -> *mut PyObject {
    entered(std::ptr::null_mut(), |py| {
        // SAFETY: the caller of a method holds its object, and CPython has checked the class.
        let limiter = unsafe { Borrowed::from_ptr(py, slf).cast_unchecked::<RateLimiter>() };
        let arguments = Arguments { values, positional: positional.unsigned_abs(), names };
        let acquired = limiter.get().handle().and_then(|handle| {
            // SAFETY: the caller holds all arguments.
            match unsafe { arguments.only(py, "tokens")? } {
                None => Ok(handle.try_acquire()),
                Some(tokens) => {
                    Ok(handle.try_acquire_n(arguments::tokens(Some(&tokens).filter(|given| !given.is_none()))?))
                }
            }
        });
        acquired.map_or_else(|error| failed(py, error), |acquired| PyBool::new(py, acquired).to_owned().into_ptr())
    })
}

pub(crate) fn rejected(py: Python<'_>, error: &RateLimitExceededError) -> PyErr {
    logging::glance(py);
    errors::rate_limit_exceeded(py, error)
}

/// A reservation for Python to wait for.
fn pending(reservation: Reservation) -> Pending {
    Pending::new(async move {
        let outcome = reservation.await;
        Box::new(move |py: Python<'_>| match outcome {
            Ok(()) => Ok(py.None()),
            Err(error) => Err(rejected(py, &error)),
        }) as Outcome
    })
}

fn blocks_loop(name: Option<&str>, wait: Duration) -> String {
    let name = name.map_or_else(String::new, |name| format!(" '{name}'"));
    format!(
        "rate limiter{name}: acquire() blocks the event loop for {:.3} s; in a task use `await limiter.acquire_async()` \
         or `async with limiter`, and decorate an `async def`",
        wait.as_secs_f64()
    )
}

fn wait_within(reservation: &mut Reservation, slice: Duration) -> Option<Result<(), RateLimitExceededError>> {
    if slice == Duration::MAX { Some(reservation.wait()) } else { reservation.wait_timeout(slice) }
}
