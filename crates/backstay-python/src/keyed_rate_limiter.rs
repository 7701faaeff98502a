//! The rate limiter of many keys.

use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::time::Duration;

use backstay::rate_limiter::KeyedRateLimiter as Handle;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFloat, PyInt, PyString, PyTuple};

use crate::arguments::{self, Given, count, number, positive_seconds, text};
use crate::built::Built;
use crate::rate_limiter::rejected;
use crate::{config, errors, logging};

/// The part of `backstay.KeyedRateLimiter` that is not Python.
#[pyclass(frozen, subclass, module = "backstay._native")]
pub(crate) struct KeyedRateLimiter(Built<Made>);

struct Made {
    handle: Handle<u64, BuildHasherDefault<Hashed>>,
    /// Keyed, so that nobody can choose keys that share a bucket.
    hasher: RandomState,
}

impl KeyedRateLimiter {
    fn made(&self) -> PyResult<&Made> {
        self.0.get()
    }
}

#[pymethods]
impl KeyedRateLimiter {
    /// Takes any arguments: those of a subclass may be others.
    #[new]
    #[pyo3(
        signature = (*_args, **_kwargs),
        text_signature = "(rate, per=1.0, *, burst=None, max_keys=None, name=None)"
    )]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self(Built::new("KeyedRateLimiter"))
    }

    #[pyo3(signature = (rate, per = Given(None), *, burst = None, max_keys = None, name = None))]
    fn __init__(
        &self,
        py: Python<'_>,
        rate: &Bound<'_, PyAny>,
        per: Given<'_>,
        burst: Option<&Bound<'_, PyAny>>,
        max_keys: Option<&Bound<'_, PyAny>>,
        name: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        logging::look(py);
        let per = per.0.map_or(Ok(Duration::from_secs(1)), |per| positive_seconds("per", &per))?;
        let mut builder = Handle::<u64>::builder(number("rate", rate)?).per(per).hasher(Default::default());
        if let Some(burst) = burst {
            builder = builder.burst(number("burst", burst)?);
        }
        if let Some(max_keys) = max_keys {
            builder = builder.max_keys(count("max_keys", max_keys)?.try_into().unwrap_or(usize::MAX));
        }
        if let Some(name) = name {
            builder = builder.name(text("name", name)?);
        }
        if burst.is_none() && name.is_some() {
            builder = builder.config(&config::of(py, "rate_limiter")?);
        }
        let handle = builder.build().map_err(errors::build)?;
        self.0.set(Made { handle, hasher: RandomState::new() })
    }

    /// Takes a token of `key`, or as many as `tokens` says, if they are there; never waits.
    #[pyo3(signature = (key, *, tokens = None))]
    fn try_acquire(&self, key: &Bound<'_, PyAny>, tokens: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let made = self.made()?;
        Ok(made.handle.try_acquire_n(&made.hash(key)?, arguments::tokens(tokens)?))
    }

    /// Takes a token of `key`, or as many as `tokens` says, or says when to come back.
    ///
    /// Raises:
    ///     RateLimitExceededError: they are not there.
    #[pyo3(signature = (key, *, tokens = None))]
    fn check(&self, py: Python<'_>, key: &Bound<'_, PyAny>, tokens: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let made = self.made()?;
        let checked = made.handle.check_n(&made.hash(key)?, arguments::tokens(tokens)?);
        checked.map_err(|error| rejected(py, &error))
    }

    /// Tokens that `key` has now.
    fn tokens(&self, key: &Bound<'_, PyAny>) -> PyResult<f64> {
        let made = self.made()?;
        Ok(made.handle.tokens(&made.hash(key)?))
    }

    /// Fills the bucket of `key`.
    fn reset(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        let made = self.made()?;
        made.handle.reset(&made.hash(key)?);
        Ok(())
    }

    /// How many keys are remembered, idle ones included.
    fn __len__(&self) -> PyResult<usize> {
        Ok(self.made()?.handle.len())
    }

    /// A limiter is true, also while it remembers nobody.
    fn __bool__(&self) -> bool {
        true
    }

    /// Tokens per `per`, for each key.
    #[getter]
    fn rate(&self) -> PyResult<f64> {
        Ok(self.made()?.handle.quota().rate())
    }

    /// Seconds to which `rate` refers.
    #[getter]
    fn per(&self) -> PyResult<f64> {
        Ok(self.made()?.handle.quota().per().as_secs_f64())
    }

    /// Tokens that a key can take at once after a pause.
    #[getter]
    fn burst(&self) -> PyResult<f64> {
        Ok(self.made()?.handle.quota().capacity())
    }

    /// How many keys are remembered at most.
    #[getter]
    fn max_keys(&self) -> PyResult<usize> {
        Ok(self.made()?.handle.max_keys())
    }

    /// The name in errors and in the log.
    #[getter]
    fn name(&self) -> PyResult<Option<&str>> {
        Ok(self.made()?.handle.name())
    }

    /// Acquired, rejected; of all keys together.
    fn _stats(&self) -> PyResult<(u64, u64)> {
        let stats = self.made()?.handle.stats();
        Ok((stats.acquired, stats.rejected))
    }
}

impl Made {
    fn hash(&self, key: &Bound<'_, PyAny>) -> PyResult<u64> {
        let mut hasher = self.hasher.build_hasher();
        feed(&mut hasher, key, MOST_NESTED)?;
        Ok(hasher.finish())
    }
}

/// Deeper than any key is meant.
const MOST_NESTED: u32 = 16;

/// Hashes a key by what is in it. Python's own `hash()` would not do: that of -1 is that of -2, for numbers and what is
/// made of them anybody can find a second one, and objects without one of their own are known by where they lie.
fn feed(hasher: &mut impl Hasher, key: &Bound<'_, PyAny>, depth: u32) -> PyResult<()> {
    if let Ok(text) = key.cast::<PyString>() {
        // A text with half a surrogate is no UTF-8.
        match text.to_cow() {
            Ok(text) => (0_u8, text).hash(hasher),
            Err(_) => {
                let bytes: Vec<u8> = text.call_method1("encode", ("utf-8", "surrogatepass"))?.extract()?;
                (1_u8, bytes).hash(hasher);
            }
        }
    } else if let Ok(bytes) = key.cast::<PyBytes>() {
        (2_u8, bytes.as_bytes()).hash(hasher);
    } else if key.is_instance_of::<PyInt>() {
        // Most have 64 bits, and are quick.
        match key.extract::<i64>().map(i128::from).or_else(|_| key.extract::<i128>()) {
            Ok(number) => (3_u8, number).hash(hasher),
            Err(_) => (4_u8, key.call_method1("__format__", ("x",))?.extract::<String>()?).hash(hasher),
        }
    } else if let Ok(number) = key.cast::<PyFloat>() {
        // One that equals an integer is the same key.
        match number.call_method0("is_integer")?.is_truthy()? {
            true => return feed(hasher, &number.call_method0("__int__")?, depth),
            false => (5_u8, number.value().to_bits()).hash(hasher),
        }
    } else if key.is_none() {
        6_u8.hash(hasher);
    } else if let Ok(parts) = key.cast::<PyTuple>() {
        if depth == 0 {
            return Err(PyValueError::new_err(format!("a key is nested deeper than {MOST_NESTED}")));
        }
        (7_u8, parts.len()).hash(hasher);
        parts.iter().try_for_each(|part| feed(hasher, &part, depth - 1))?;
    } else {
        let found = key.get_type();
        let allowed = "allowed are str, bytes, int, float, None and tuples of them: str(key) may do";
        return Err(PyTypeError::new_err(format!("a key is a {}, {allowed}", found.name()?)));
    }
    Ok(())
}

/// What was hashed already.
#[derive(Default)]
pub(crate) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
