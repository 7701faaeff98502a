//! Calls through a breaker: ask, call, report.

use std::future::{Future, poll_fn};
use std::pin::pin;

use super::permit::IfDropped;
use super::{CircuitBreaker, Outcome, Running};
use crate::error::{CallError, CircuitOpenError};

impl CircuitBreaker {
    /// Calls `f`, unless the circuit is open. `Ok` is a success, `Err` a failure; see [`excluding`](Self::excluding)
    /// for errors that are not the service's.
    ///
    /// # Errors
    /// [`CallError::Rejected`] if `f` was not called, else [`CallError::Inner`] with what it returned.
    ///
    /// # Panics
    /// Where `f` does: that is a failure, and goes on unwinding.
    #[inline(always)]
    pub fn call<T, E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<T, CallError<E>> {
        self.excluding(nothing).call(f)
    }

    /// Awaits the future that `f` makes, unless the circuit is open; on any runtime.
    ///
    /// # Errors
    /// [`CallError::Rejected`] if `f` was not called, else [`CallError::Inner`] with what it returned.
    ///
    /// # Panics
    /// Where the future does: that is a failure, and goes on unwinding.
    ///
    /// # Cancel safety
    /// Dropping the future drops the call. That is ignored, and gives its half-open call slot back; or a failure where
    /// [`cancellation_is_failure`](super::CircuitBreakerBuilder::cancellation_is_failure) says so.
    ///
    /// ```
    /// # use backstay::CircuitBreaker;
    /// # async fn ticker(symbol: &str) -> Result<f64, std::io::Error> { Ok(1.0) }
    /// # async fn sample() -> Result<(), Box<dyn std::error::Error>> {
    /// let breaker = CircuitBreaker::builder().max_failures(2).build()?;
    /// let price = breaker.call_async(|| ticker("BTC/USDT")).await?;
    /// # Ok(()) }
    /// ```
    pub fn call_async<T, E, F>(&self, f: impl FnOnce() -> F) -> impl Future<Output = Result<T, CallError<E>>>
    where
        F: Future<Output = Result<T, E>>,
    {
        // One future, not one in another: the result of the inner one would be moved from state to state.
        let call = self.excluding(nothing);
        async move { call.guard_async(f).await?.map_err(CallError::Inner) }
    }

    /// Makes errors for which `predicate` is true ignored: they neither open the circuit nor count as success.
    ///
    /// ```
    /// use backstay::CircuitBreaker;
    /// use std::io::{Error, ErrorKind};
    ///
    /// let breaker = CircuitBreaker::builder().max_failures(1).build()?;
    /// let own_fault = |error: &Error| error.kind() == ErrorKind::InvalidInput;
    /// let _ = breaker.excluding(own_fault).call(|| Err::<(), _>(Error::from(ErrorKind::InvalidInput)));
    /// assert_eq!(breaker.stats().ignored, 1);
    /// # Ok::<(), backstay::BuildError>(())
    /// ```
    #[inline]
    pub fn excluding<P>(&self, predicate: P) -> Excluding<'_, P> {
        Excluding { breaker: self, predicate }
    }
}

#[inline]
fn nothing<E>(_: &E) -> bool {
    false
}

/// Calls through a breaker for which some errors do not count: what [`CircuitBreaker::excluding`] returns.
#[derive(Clone, Copy, Debug)]
#[must_use = "nothing is called yet"]
pub struct Excluding<'a, P> {
    breaker: &'a CircuitBreaker,
    predicate: P,
}

impl<P> Excluding<'_, P> {
    /// [`CircuitBreaker::call`], with these errors excluded.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// Where `f` or the predicate does.
    #[inline(always)]
    pub fn call<T, E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<T, CallError<E>>
    where
        P: Fn(&E) -> bool,
    {
        self.guard(f)?.map_err(CallError::Inner)
    }

    /// [`CircuitBreaker::call_async`], with these errors excluded.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// Where the future or the predicate does.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn call_async<T, E, F>(&self, f: impl FnOnce() -> F) -> Result<T, CallError<E>>
    where
        P: Fn(&E) -> bool,
        F: Future<Output = Result<T, E>>,
    {
        self.guard_async(f).await?.map_err(CallError::Inner)
    }

    /// The rejection outside, the call's own result inside.
    ///
    /// Always inlined, like its two callers: the result then stays in registers, and writing it to memory is half of what a
    /// well call would cost.
    #[inline(always)]
    pub(crate) fn guard<T, E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<Result<T, E>, CircuitOpenError>
    where
        P: Fn(&E) -> bool,
    {
        let running = Running::begin(&self.breaker.0)?;
        let result = f();
        running.end(self.outcome(&result));
        Ok(result)
    }

    pub(crate) async fn guard_async<T, E, F>(&self, f: impl FnOnce() -> F) -> Result<Result<T, E>, CircuitOpenError>
    where
        P: Fn(&E) -> bool,
        F: Future<Output = Result<T, E>>,
    {
        let mut permit = self.breaker.permit(IfDropped::Failed)?;
        let mut future = pin!(f());
        // Dropped inside the poll it panicked, dropped between two it was cancelled, whoever else may be panicking.
        let result = poll_fn(|context| {
            permit.if_dropped(IfDropped::Failed);
            let poll = future.as_mut().poll(context);
            permit.if_dropped(IfDropped::Cancelled);
            poll
        })
        .await;
        permit.if_dropped(IfDropped::Failed);
        permit.report(self.outcome(&result));
        Ok(result)
    }

    #[inline]
    fn outcome<T, E>(&self, result: &Result<T, E>) -> Outcome
    where
        P: Fn(&E) -> bool,
    {
        match result {
            Ok(_) => Outcome::Success,
            Err(error) if (self.predicate)(error) => Outcome::Ignored,
            Err(_) => Outcome::Failure,
        }
    }
}
