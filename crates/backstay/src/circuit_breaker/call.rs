//! Calls through a breaker: ask for admission, call, report.

use std::future::{Future, poll_fn};
use std::pin::pin;

use super::decision::Running;
use super::permit::IfDropped;
use super::{CircuitBreaker, Outcome};
use crate::error::{CallError, CircuitOpenError};

impl CircuitBreaker {
    /// Calls `f`, unless the circuit is open. `Ok` is a success, `Err` a failure.
    ///
    /// [`excluding`](Self::excluding) ignores some errors, [`classify`](Self::classify) decides for each result.
    ///
    /// # Errors
    /// [`CallError::Rejected`] if `f` was not called, else [`CallError::Inner`] with its error.
    ///
    /// # Panics
    /// If `f` panics: that is a failure, and goes on unwinding.
    #[inline(always)]
    pub fn call<T, E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<T, CallError<E>> {
        self.guard(by_default, f)?.map_err(CallError::Inner)
    }

    /// Awaits the future that `f` makes, unless the circuit is open; on any runtime.
    ///
    /// # Errors
    /// [`CallError::Rejected`] if `f` was not called, else [`CallError::Inner`] with the error of the future.
    ///
    /// # Panics
    /// If the future panics: that is a failure, and goes on unwinding.
    ///
    /// # Cancel safety
    /// Dropping the future drops the call. The call is ignored, and its slot freed; or it is a failure, with
    /// [`cancellation_is_failure`](super::CircuitBreakerBuilder::cancellation_is_failure).
    ///
    /// ```
    /// # use backstay::CircuitBreaker;
    /// # async fn ticker(symbol: &str) -> Result<f64, std::io::Error> { Ok(1.0) }
    /// # async fn sample() -> Result<(), Box<dyn std::error::Error>> {
    /// let breaker = CircuitBreaker::builder().max_failures(2).build()?;
    /// let price = breaker.call_async(|| ticker("BTC/USDT")).await?;
    /// # Ok(()) }
    /// ```
    pub async fn call_async<T, E, F>(&self, f: impl FnOnce() -> F) -> Result<T, CallError<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        self.guard_async(by_default, f).await?.map_err(CallError::Inner)
    }

    /// Ignores errors for which `predicate` is true: they neither open the circuit nor count as successes.
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

    /// Lets `classifier` decide how each call ended, from its result.
    ///
    /// It is called without a lock, on the thread of the call. If it panics, the call is a failure, and the panic goes on
    /// unwinding. [`Outcome::from`] is what holds without a classifier.
    ///
    /// ```
    /// use backstay::CircuitBreaker;
    /// use backstay::circuit_breaker::Outcome;
    /// use std::time::Duration;
    ///
    /// # struct Response { status: u16, retry_after: Option<Duration> }
    /// # fn get(status: u16) -> Result<Response, std::io::Error> { Ok(Response { status, retry_after: None }) }
    /// let breaker = CircuitBreaker::builder().failure_rate(0.5).build()?;
    /// let calls = breaker.classify(|result: &Result<Response, std::io::Error>| match result {
    ///     Ok(Response { status: 422, .. }) => Outcome::Ignored, // an error of the caller
    ///     Ok(Response { status: 429 | 503, retry_after: Some(time) }) => Outcome::FailureFor(*time),
    ///     Ok(Response { status: 500.., .. }) => Outcome::Failure,
    ///     other => Outcome::from(other), // a 404 is an answer, so the service works
    /// });
    /// calls.call(|| get(404))?;
    /// assert_eq!(breaker.stats().successful, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn classify<C>(&self, classifier: C) -> Classifying<'_, C> {
        Classifying { breaker: self, classifier }
    }

    /// The rejection outside, the call's own result inside.
    ///
    /// Always inlined, like its callers: the result then stays in registers, and writing it to memory is half of what a
    /// call of a healthy breaker would cost.
    #[inline(always)]
    pub(crate) fn guard<T, E>(
        &self,
        classify: impl Fn(&Result<T, E>) -> Outcome,
        f: impl FnOnce() -> Result<T, E>,
    ) -> Result<Result<T, E>, CircuitOpenError> {
        let running = Running::begin(&self.0)?;
        let result = f();
        running.end(classify(&result));
        Ok(result)
    }

    pub(crate) async fn guard_async<T, E, F>(
        &self,
        classify: impl Fn(&Result<T, E>) -> Outcome,
        f: impl FnOnce() -> F,
    ) -> Result<Result<T, E>, CircuitOpenError>
    where
        F: Future<Output = Result<T, E>>,
    {
        let mut permit = self.permit(IfDropped::Failed)?;
        let mut future = pin!(f());
        // Dropped inside the poll it panicked, dropped between two it was cancelled, even if another panic drops it.
        let result = poll_fn(|context| {
            permit.if_dropped(IfDropped::Failed);
            let poll = future.as_mut().poll(context);
            permit.if_dropped(IfDropped::Cancelled);
            poll
        })
        .await;
        permit.if_dropped(IfDropped::Failed);
        permit.report(classify(&result));
        Ok(result)
    }
}

#[inline]
fn by_default<T, E>(result: &Result<T, E>) -> Outcome {
    Outcome::from(result)
}

/// Calls through a breaker that ignores some errors: what [`CircuitBreaker::excluding`] returns.
#[derive(Clone, Copy, Debug)]
#[must_use = "nothing is called yet"]
pub struct Excluding<'a, P> {
    breaker: &'a CircuitBreaker,
    predicate: P,
}

impl<P> Excluding<'_, P> {
    /// Calls `f`, unless the circuit is open.
    ///
    /// # Errors
    /// [`CallError::Rejected`] if `f` was not called, else [`CallError::Inner`] with its error.
    ///
    /// # Panics
    /// If `f` or the predicate panics: that is a failure.
    #[inline(always)]
    pub fn call<T, E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<T, CallError<E>>
    where
        P: Fn(&E) -> bool,
    {
        self.breaker.guard(|result| self.outcome(result), f)?.map_err(CallError::Inner)
    }

    /// Awaits the future that `f` makes, unless the circuit is open.
    ///
    /// # Errors
    /// [`CallError::Rejected`] if `f` was not called, else [`CallError::Inner`] with the error of the future.
    ///
    /// # Panics
    /// If the future or the predicate panics: that is a failure.
    ///
    /// # Cancel safety
    /// Dropping the future drops the call, which is ignored unless cancelled calls are failures.
    pub async fn call_async<T, E, F>(&self, f: impl FnOnce() -> F) -> Result<T, CallError<E>>
    where
        P: Fn(&E) -> bool,
        F: Future<Output = Result<T, E>>,
    {
        self.breaker.guard_async(|result| self.outcome(result), f).await?.map_err(CallError::Inner)
    }

    #[inline]
    fn outcome<T, E>(&self, result: &Result<T, E>) -> Outcome
    where
        P: Fn(&E) -> bool,
    {
        match result {
            Err(error) if (self.predicate)(error) => Outcome::Ignored,
            _ => Outcome::from(result),
        }
    }
}

/// Calls through a breaker whose outcomes a classifier decides: what [`CircuitBreaker::classify`] returns.
#[derive(Clone, Copy, Debug)]
#[must_use = "nothing is called yet"]
pub struct Classifying<'a, C> {
    breaker: &'a CircuitBreaker,
    classifier: C,
}

impl<C> Classifying<'_, C> {
    /// Calls `f`, unless the circuit is open.
    ///
    /// # Errors
    /// [`CallError::Rejected`] if `f` was not called, else [`CallError::Inner`] with its error.
    ///
    /// # Panics
    /// If `f` or the classifier panics: that is a failure.
    #[inline(always)]
    pub fn call<T, E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<T, CallError<E>>
    where
        C: Fn(&Result<T, E>) -> Outcome,
    {
        self.breaker.guard(&self.classifier, f)?.map_err(CallError::Inner)
    }

    /// Awaits the future that `f` makes, unless the circuit is open.
    ///
    /// # Errors
    /// [`CallError::Rejected`] if `f` was not called, else [`CallError::Inner`] with the error of the future.
    ///
    /// # Panics
    /// If the future or the classifier panics: that is a failure.
    ///
    /// # Cancel safety
    /// Dropping the future drops the call, which is ignored unless cancelled calls are failures.
    pub async fn call_async<T, E, F>(&self, f: impl FnOnce() -> F) -> Result<T, CallError<E>>
    where
        C: Fn(&Result<T, E>) -> Outcome,
        F: Future<Output = Result<T, E>>,
    {
        self.breaker.guard_async(&self.classifier, f).await?.map_err(CallError::Inner)
    }
}
