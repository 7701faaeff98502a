//! A token bucket rate limiter for threads and tasks, served first come, first served.
//!
//! Each limiter counts for itself: it does not share a limit between processes or machines.

mod bucket;
mod builder;
mod keyed;
#[cfg(all(test, backstay_loom))]
mod loom_tests;
mod reservation;
mod shared;
#[cfg(not(backstay_loom))]
mod shared_wake;
#[cfg(all(test, not(backstay_loom)))]
mod tests;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::time::Duration;

pub use backstay_core::rate_limiter::{DEFAULT_PER, DEFAULT_RATE, Quota};
pub use builder::RateLimiterBuilder;
pub use keyed::{DEFAULT_MAX_KEYS, KeyedRateLimiter, KeyedRateLimiterBuilder, KeyedRateLimiterStats};
pub use reservation::Reservation;

use crate::error::{CallError, InvalidArgument, RateLimitExceededError};
use crate::sync::Arc;
use shared::Shared;

/// Limits calls to `rate` per period, with bursts of up to `burst` after a pause.
///
/// Clones share one limiter. Threads and tasks wait in one FIFO queue, and each is woken when its token is due; a
/// waiter for several tokens does not starve. In every window of length `t`, at most `burst + rate * t` tokens are
/// granted, apart from rounding (a quarter of a nanosecond).
///
/// ```
/// use backstay::RateLimiter;
/// use std::time::Duration;
///
/// let limiter = RateLimiter::builder(100).per(Duration::from_secs(60)).burst(5).name("quotes").build()?;
/// limiter.acquire(); // blocks until a token is due
/// if !limiter.try_acquire() { /* retry later */ }
/// # Ok::<(), backstay::BuildError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RateLimiter {
    shared: Arc<Shared>,
}

/// Statistics of a limiter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimiterStats {
    /// The number of tokens granted.
    pub acquired: u64,
    /// The number of rejected requests.
    pub rejected: u64,
    /// The total time that served waiters waited for their tokens.
    pub waited: Duration,
    /// The number of waiters at present.
    pub waiting: usize,
}

impl RateLimiter {
    /// Returns a builder for `rate` tokens per second.
    ///
    /// [`per`](RateLimiterBuilder::per) sets another period.
    pub fn builder(rate: impl Into<f64>) -> RateLimiterBuilder {
        RateLimiterBuilder::default().rate(rate)
    }

    /// Takes a token, if there is one.
    #[inline]
    #[must_use = "without a token the call must not be made"]
    pub fn try_acquire(&self) -> bool {
        self.try_acquire_n(1)
    }

    /// Takes all of `tokens`, or none.
    #[inline]
    #[must_use = "without the tokens the call must not be made"]
    pub fn try_acquire_n(&self, tokens: u32) -> bool {
        let granted = self.shared.take(tokens).is_ok();
        if !granted {
            self.shared.count_rejection();
        }
        granted
    }

    /// Takes a token, or returns an error that computes when to retry.
    ///
    /// # Errors
    /// [`RateLimitExceededError`] with the time until a new waiter would get the token.
    #[inline]
    pub fn check(&self) -> Result<(), RateLimitExceededError> {
        self.check_n(1)
    }

    /// Takes all of `tokens`, or returns an error that computes when to retry.
    ///
    /// # Errors
    /// [`RateLimitExceededError`] with the time until a new waiter would get the tokens. Its `retry_after` is
    /// `Duration::MAX` if the bucket can't hold so many.
    #[inline]
    pub fn check_n(&self, tokens: u32) -> Result<(), RateLimitExceededError> {
        self.shared.take(tokens).map_err(|shortage| self.shared.rejection(shortage))
    }

    /// Waits for a token, blocking the thread.
    ///
    /// In a task use [`acquire_async`](Self::acquire_async).
    pub fn acquire(&self) {
        // One token without a timeout is never rejected.
        let _ = self.acquire_within(1, Duration::MAX);
    }

    /// Waits for `tokens`, blocking the thread.
    ///
    /// # Errors
    /// [`RateLimitExceededError`] at once if the bucket can't hold so many tokens.
    pub fn acquire_n(&self, tokens: u32) -> Result<(), RateLimitExceededError> {
        self.acquire_within(tokens, Duration::MAX)
    }

    /// Waits for a token for at most `timeout`, blocking the thread.
    ///
    /// A timeout of zero does not wait.
    ///
    /// # Errors
    /// [`RateLimitExceededError`] at once if the wait would exceed `timeout`; no token is used.
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<(), RateLimitExceededError> {
        self.acquire_within(1, timeout)
    }

    /// Waits for `tokens` for at most `timeout`, blocking the thread.
    ///
    /// # Errors
    /// [`RateLimitExceededError`] at once if the wait would exceed `timeout`, or if the bucket can't hold so many
    /// tokens. No token is used.
    pub fn acquire_timeout_n(&self, tokens: u32, timeout: Duration) -> Result<(), RateLimitExceededError> {
        self.acquire_within(tokens, timeout)
    }

    /// Waits for a token, in a task of any runtime.
    ///
    /// # Cancel safety
    /// Dropping the future before it completes refunds the token, and later waiters move up.
    pub async fn acquire_async(&self) {
        if self.shared.take(1).is_ok() {
            return;
        }
        // One token without a timeout is never rejected.
        let Ok(mut reservation) = self.reserve(1, None) else { return };
        // Polled in place: `reservation.await` would reserve memory for it twice.
        let _ = poll_fn(|task| Pin::new(&mut reservation).poll(task)).await;
    }

    /// Waits for `tokens`, in a task of any runtime.
    ///
    /// # Errors
    /// [`RateLimitExceededError`] at once if the bucket can't hold so many tokens.
    ///
    /// # Cancel safety
    /// Dropping the future before it completes refunds the tokens, and later waiters move up.
    pub async fn acquire_n_async(&self, tokens: u32) -> Result<(), RateLimitExceededError> {
        self.acquire_within_async(tokens, Duration::MAX).await
    }

    /// Waits for a token for at most `timeout`, in a task of any runtime.
    ///
    /// # Errors
    /// [`RateLimitExceededError`] at once if the wait would exceed `timeout`; no token is used.
    ///
    /// # Cancel safety
    /// Dropping the future before it completes refunds the token, and later waiters move up.
    pub async fn acquire_timeout_async(&self, timeout: Duration) -> Result<(), RateLimitExceededError> {
        self.acquire_within_async(1, timeout).await
    }

    /// Waits for `tokens` for at most `timeout`, in a task of any runtime.
    ///
    /// # Errors
    /// [`RateLimitExceededError`] at once if the wait would exceed `timeout`, or if the bucket can't hold so many
    /// tokens. No token is used.
    ///
    /// # Cancel safety
    /// Dropping the future before it completes refunds the tokens, and later waiters move up.
    pub async fn acquire_timeout_n_async(&self, tokens: u32, timeout: Duration) -> Result<(), RateLimitExceededError> {
        self.acquire_within_async(tokens, timeout).await
    }

    /// Reserves `tokens` now, to be used when they are due.
    ///
    /// All waiting methods are built on it. Use it in event loops that wait in their own way.
    ///
    /// # Errors
    /// [`RateLimitExceededError`] at once if the wait would exceed `timeout`, or if the bucket can't hold so many
    /// tokens.
    pub fn reserve(&self, tokens: u32, timeout: Option<Duration>) -> Result<Reservation, RateLimitExceededError> {
        let waiter = self.shared.join(tokens, timeout.unwrap_or(Duration::MAX))?;
        Ok(Reservation::new(Arc::clone(&self.shared), waiter))
    }

    /// Calls `f` if there is a token. Does not wait for one.
    ///
    /// # Errors
    /// [`CallError::Rejected`] if there was no token, [`CallError::Inner`] with the error of `f`.
    pub fn call<T, E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<T, CallError<E>> {
        self.check()?;
        f().map_err(CallError::Inner)
    }

    /// Calls `f` and awaits its future if there is a token. Does not wait for one.
    ///
    /// # Errors
    /// [`CallError::Rejected`] if there was no token, [`CallError::Inner`] with the error of the future.
    ///
    /// # Cancel safety
    /// The token is taken when the future is first polled. Dropping the future after that does not refund it.
    pub async fn call_async<T, E, F>(&self, f: impl FnOnce() -> F) -> Result<T, CallError<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        self.check()?;
        f().await.map_err(CallError::Inner)
    }

    /// Returns the number of tokens, fractions included. Changes nothing.
    #[must_use]
    pub fn tokens(&self) -> f64 {
        self.shared.tokens()
    }

    /// Returns how long a new waiter would wait for a token.
    ///
    /// Waiters in the queue are served first. Changes nothing.
    #[must_use]
    pub fn time_until_token(&self) -> Duration {
        self.shared.wait_for(1)
    }

    /// Fills the bucket. Waiters take from it first, in their order.
    pub fn reset(&self) {
        Shared::reset(&self.shared);
    }

    /// Changes the rate. The bucket keeps its tokens, and waiters keep their order.
    ///
    /// A burst that was not given follows the rate. If the bucket then holds fewer tokens than a waiter asked for,
    /// that waiter is still served, once enough tokens have come.
    ///
    /// # Errors
    /// [`InvalidArgument`] names a rate or period that is invalid; the rate stays unchanged.
    pub fn set_rate(&self, rate: impl Into<f64>, per: Duration) -> Result<(), InvalidArgument> {
        Shared::set_rate(&self.shared, rate.into(), per)
    }

    /// Returns a snapshot of the statistics.
    #[must_use]
    pub fn stats(&self) -> RateLimiterStats {
        self.shared.stats()
    }

    /// Returns the tokens per [`per`](Self::per).
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.shared.quota().rate()
    }

    /// Returns the period of the rate.
    #[must_use]
    pub fn per(&self) -> Duration {
        self.shared.quota().per()
    }

    /// Returns how many tokens the bucket holds.
    ///
    /// [`set_rate`](Self::set_rate) may change it; a waiter that asked for more than it then holds is still served.
    #[must_use]
    pub fn burst(&self) -> f64 {
        self.shared.quota().capacity()
    }

    /// Returns the limiter's name, if it has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.shared.name()
    }

    /// Takes all of `tokens`, or none, and does not count a rejection.
    ///
    /// For callers that then wait.
    #[doc(hidden)]
    #[must_use = "without the tokens the call must not be made"]
    pub fn take_n(&self, tokens: u32) -> bool {
        self.shared.take(tokens).is_ok()
    }

    fn acquire_within(&self, tokens: u32, timeout: Duration) -> Result<(), RateLimitExceededError> {
        if self.shared.take(tokens).is_ok() {
            return Ok(());
        }
        self.reserve(tokens, Some(timeout))?.wait()
    }

    async fn acquire_within_async(&self, tokens: u32, timeout: Duration) -> Result<(), RateLimitExceededError> {
        if self.shared.take(tokens).is_ok() {
            return Ok(());
        }
        let mut reservation = self.reserve(tokens, Some(timeout))?;
        // Polled in place, as in `acquire_async`.
        poll_fn(|task| Pin::new(&mut reservation).poll(task)).await
    }
}
