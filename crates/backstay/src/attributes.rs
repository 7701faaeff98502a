//! Code to which the attributes expand. Not for direct use: it may change without notice.

use std::future::Future;

use once_cell::race::OnceBox;

#[cfg(feature = "circuit-breaker")]
use crate::circuit_breaker::{CircuitBreaker, CircuitBreakerBuilder, Outcome};
use crate::error::{CircuitOpenError, RateLimitExceededError};
#[cfg(feature = "rate-limiter")]
use crate::rate_limiter::{RateLimiter, RateLimiterBuilder};
use crate::settings::Fallback;

/// An error type that can hold a circuit breaker's rejection.
#[diagnostic::on_unimplemented(
    message = "`#[circuit_breaker]`: the error type `{Self}` cannot hold the rejection of an open circuit",
    label = "`From<backstay::CircuitOpenError>` is not implemented for `{Self}`",
    note = "implement `From<backstay::CircuitOpenError>` for it, or return `backstay::CallError<{Self}>`"
)]
pub trait HoldsCircuitOpen {
    /// Converts the rejection to this error.
    fn hold(error: CircuitOpenError) -> Self;
}

#[diagnostic::do_not_recommend]
impl<E: From<CircuitOpenError>> HoldsCircuitOpen for E {
    fn hold(error: CircuitOpenError) -> Self {
        error.into()
    }
}

/// An error type that can hold a rate limiter's rejection.
#[diagnostic::on_unimplemented(
    message = "`#[rate_limiter]`: the error type `{Self}` cannot hold the rejection of a rate limiter",
    label = "`From<backstay::RateLimitExceededError>` is not implemented for `{Self}`",
    note = "implement `From<backstay::RateLimitExceededError>` for it, or return `backstay::CallError<{Self}>`"
)]
pub trait HoldsRateLimit {
    /// Converts the rejection to this error.
    fn hold(error: RateLimitExceededError) -> Self;
}

#[diagnostic::do_not_recommend]
impl<E: From<RateLimitExceededError>> HoldsRateLimit for E {
    fn hold(error: RateLimitExceededError) -> Self {
        error.into()
    }
}

/// The breaker or limiter of a function, built at its first call.
///
/// If several first calls run at the same time, each may build one; all use the one that is ready first. Unlike a
/// `LazyLock` it has no lock for which a child, forked during the first call, would wait forever, and a panic of the
/// first call does not make all later calls panic.
#[derive(Debug)]
pub struct BuiltOnce<T>(OnceBox<T>);

impl<T> BuiltOnce<T> {
    /// Creates an empty cell, for a `static`.
    #[must_use]
    pub const fn new() -> Self {
        Self(OnceBox::new())
    }

    /// Returns the value, and builds it if there is none.
    #[inline]
    pub fn get(&self, build: impl FnOnce() -> T) -> &T {
        self.0.get_or_init(|| Box::new(build()))
    }
}

impl<T> Default for BuiltOnce<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Any type but a future. The attribute of a function that only returns a future would guard the wrong code: it would
/// block the executor while the future is created, and miss the outcome of the future.
///
/// Rust has no "is not implemented". This trait is implemented once for each type and a second time for each future, so
/// `<T as ReturnsNoFuture<_>>` is ambiguous for a future alone.
pub trait ReturnsNoFuture<Advice> {
    /// Does nothing: the check is that the path to it is not ambiguous.
    #[inline]
    fn check() {}
}

impl<T: ?Sized> ReturnsNoFuture<()> for T {}

/// Advice that the compiler shows for a function that returns a future.
#[derive(Debug)]
pub struct WriteAnAsyncFnOrEndWithAnAsyncBlock;

impl<T: ?Sized + Future> ReturnsNoFuture<WriteAnAsyncFnOrEndWithAnAsyncBlock> for T {}

/// Builds the breaker of `function`, with the installed configuration.
#[cfg(feature = "circuit-breaker")]
#[must_use]
pub fn breaker(mut builder: CircuitBreakerBuilder, function: &str) -> CircuitBreaker {
    builder.fallback = Fallback::to_installed("function", function);
    builder.build().expect("arguments are checked at compile time, and configured values when they are read")
}

/// Builds the limiter of `function`, with the installed configuration.
#[cfg(feature = "rate-limiter")]
#[must_use]
pub fn limiter(mut builder: RateLimiterBuilder, function: &str) -> RateLimiter {
    builder.fallback = Fallback::to_installed("function", function);
    builder.build_or_default()
}

/// Calls `f` through the breaker of a function.
#[cfg(feature = "circuit-breaker")]
#[inline]
pub fn call<T, E: HoldsCircuitOpen>(
    breaker: &CircuitBreaker,
    excluded: impl Fn(&E) -> bool,
    f: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    breaker.guard(|result| ignoring(&excluded, result), f).unwrap_or_else(|error| Err(E::hold(error)))
}

/// Awaits the future of `f` through the breaker of a function.
#[cfg(feature = "circuit-breaker")]
pub async fn call_async<T, E: HoldsCircuitOpen, F: Future<Output = Result<T, E>>>(
    breaker: &CircuitBreaker,
    excluded: impl Fn(&E) -> bool,
    f: impl FnOnce() -> F,
) -> Result<T, E> {
    breaker.guard_async(|result| ignoring(&excluded, result), f).await.unwrap_or_else(|error| Err(E::hold(error)))
}

#[cfg(feature = "circuit-breaker")]
#[inline]
fn ignoring<T, E>(excluded: impl Fn(&E) -> bool, result: &Result<T, E>) -> Outcome {
    match result {
        Err(error) if excluded(error) => Outcome::Ignored,
        _ => Outcome::from(result),
    }
}

/// Calls `f` through the breaker of a function that has a classifier.
#[cfg(feature = "circuit-breaker")]
#[inline]
pub fn call_classified<T, E: HoldsCircuitOpen>(
    breaker: &CircuitBreaker,
    classify: impl Fn(&Result<T, E>) -> Outcome,
    f: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    breaker.guard(classify, f).unwrap_or_else(|error| Err(E::hold(error)))
}

/// Awaits the future of `f` through the breaker of a function that has a classifier.
#[cfg(feature = "circuit-breaker")]
pub async fn call_classified_async<T, E: HoldsCircuitOpen, F: Future<Output = Result<T, E>>>(
    breaker: &CircuitBreaker,
    classify: impl Fn(&Result<T, E>) -> Outcome,
    f: impl FnOnce() -> F,
) -> Result<T, E> {
    breaker.guard_async(classify, f).await.unwrap_or_else(|error| Err(E::hold(error)))
}

#[cfg(all(test, not(backstay_loom)))]
mod tests {
    use super::*;

    // CB-12: if building panics at the first call, the next call builds.
    #[test]
    fn a_panic_while_building_does_not_break_later_calls() {
        let instance = BuiltOnce::new();
        assert!(crate::callback::caught(|| instance.get(|| panic!("no memory"))).is_err());
        assert_eq!(instance.get(|| 1), &1);
        assert_eq!(instance.get(|| 2), &1);
    }
}
