//! The rate limiter: a token bucket for threads and tasks, served first come, first served.
//!
//! Not for sharing a limit between processes or machines: each limiter counts for itself.

#[cfg(not(backstay_loom))]
mod alarm;
mod bucket;
mod builder;
mod keyed;
#[cfg(all(test, backstay_loom))]
mod loom_tests;
mod reservation;
mod shared;
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

/// Lets `rate` calls per time pass, and after a pause up to `burst` at once.
///
/// A clone is the same limiter. Threads and tasks wait in one queue, and each is woken when its token is due; who
/// waits for several tokens does not starve. Rounding aside (a quarter of a nanosecond of time), no window of length
/// `t` sees more than `burst + rate * t` tokens granted.
///
/// ```
/// use backstay::RateLimiter;
/// use std::time::Duration;
///
/// let limiter = RateLimiter::builder(100).per(Duration::from_secs(60)).burst(5).name("quotes").build()?;
/// limiter.acquire(); // waits for its turn
/// if !limiter.try_acquire() { /* come back later */ }
/// # Ok::<(), backstay::BuildError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RateLimiter {
    shared: Arc<Shared>,
}

/// What a limiter has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimiterStats {
    /// Tokens granted.
    pub acquired: u64,
    /// Requests refused.
    pub rejected: u64,
    /// The time that those who got their tokens waited for them, all together.
    pub waited: Duration,
    /// How many wait at this moment.
    pub waiting: usize,
}

impl RateLimiter {
    /// Returns a builder for `rate` tokens per second, or per another [period](RateLimiterBuilder::per).
    pub fn builder(rate: impl Into<f64>) -> RateLimiterBuilder {
        RateLimiterBuilder::default().rate(rate)
    }

    /// Takes a token if there is one.
    #[inline]
    #[must_use = "without a token the call must not be made"]
    pub fn try_acquire(&self) -> bool {
        self.try_acquire_n(1)
    }

    /// Takes `tokens` if they are there, all or none.
    #[inline]
    #[must_use = "without the tokens the call must not be made"]
    pub fn try_acquire_n(&self, tokens: u32) -> bool {
        let granted = self.shared.take(tokens).is_ok();
        if !granted {
            self.shared.rejected();
        }
        granted
    }

    /// Takes a token if there is one, and otherwise says when to come back.
    ///
    /// # Errors
    /// [`RateLimitExceededError`] with the time until a newcomer's token is there.
    #[inline]
    pub fn check(&self) -> Result<(), RateLimitExceededError> {
        self.check_n(1)
    }

    /// Takes `tokens` if they are there, all or none, and otherwise says when to come back.
    ///
    /// # Errors
    /// [`RateLimitExceededError`], `retry_after` being `Duration::MAX` for more tokens than the bucket ever holds.
    #[inline]
    pub fn check_n(&self, tokens: u32) -> Result<(), RateLimitExceededError> {
        self.shared.take(tokens).map_err(|shortage| self.shared.rejection(shortage))
    }

    /// Waits for a token, blocking the thread.
    ///
    /// In a task use [`acquire_async`](Self::acquire_async).
    pub fn acquire(&self) {
        // Without a timeout and within the capacity nothing is refused.
        let _ = self.acquire_within(1, Duration::MAX);
    }

    /// Waits for `tokens`, blocking the thread.
    ///
    /// # Errors
    /// [`RateLimitExceededError`] at once for more tokens than the bucket ever holds.
    pub fn acquire_n(&self, tokens: u32) -> Result<(), RateLimitExceededError> {
        self.acquire_within(tokens, Duration::MAX)
    }

    /// Waits for a token for at most `timeout`, blocking the thread. With a timeout of zero nothing is waited for.
    ///
    /// # Errors
    /// [`RateLimitExceededError`] at once where the wait would outlast `timeout`; no token is used up then.
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<(), RateLimitExceededError> {
        self.acquire_within(1, timeout)
    }

    /// Waits for `tokens` for at most `timeout`, blocking the thread.
    ///
    /// # Errors
    /// [`RateLimitExceededError`] at once where the wait would outlast `timeout`, and for more tokens than the bucket
    /// ever holds.
    pub fn acquire_timeout_n(&self, tokens: u32, timeout: Duration) -> Result<(), RateLimitExceededError> {
        self.acquire_within(tokens, timeout)
    }

    /// Waits for a token, in a task of any runtime.
    ///
    /// # Cancel safety
    /// Dropped, it gives its token back, and those behind it move up.
    pub async fn acquire_async(&self) {
        if self.shared.take(1).is_ok() {
            return;
        }
        // Without a timeout and within the capacity nothing is refused.
        let Ok(mut reservation) = self.reserve(1, None) else { return };
        // Awaited where it lies: `reservation.await` would keep room for it twice.
        let _ = poll_fn(|task| Pin::new(&mut reservation).poll(task)).await;
    }

    /// Waits for `tokens`, in a task of any runtime.
    ///
    /// # Errors
    /// [`RateLimitExceededError`] at once for more tokens than the bucket ever holds.
    ///
    /// # Cancel safety
    /// Dropped, it gives its tokens back, and those behind it move up.
    pub async fn acquire_n_async(&self, tokens: u32) -> Result<(), RateLimitExceededError> {
        self.acquire_within_async(tokens, Duration::MAX).await
    }

    /// Waits for a token for at most `timeout`, in a task of any runtime.
    ///
    /// # Errors
    /// [`RateLimitExceededError`] at once where the wait would outlast `timeout`; no token is used up then.
    ///
    /// # Cancel safety
    /// Dropped, it gives its token back, and those behind it move up.
    pub async fn acquire_timeout_async(&self, timeout: Duration) -> Result<(), RateLimitExceededError> {
        self.acquire_within_async(1, timeout).await
    }

    /// Waits for `tokens` for at most `timeout`, in a task of any runtime.
    ///
    /// # Errors
    /// [`RateLimitExceededError`] at once where the wait would outlast `timeout`, and for more tokens than the bucket
    /// ever holds.
    ///
    /// # Cancel safety
    /// Dropped, it gives its tokens back, and those behind it move up.
    pub async fn acquire_timeout_n_async(&self, tokens: u32, timeout: Duration) -> Result<(), RateLimitExceededError> {
        self.acquire_within_async(tokens, timeout).await
    }

    /// Takes `tokens` now, to be used when they are due: what all the waiting is made of, for event loops that wait
    /// in their own way.
    ///
    /// # Errors
    /// [`RateLimitExceededError`] at once where that would be after `timeout`, and for more tokens than the bucket
    /// ever holds.
    pub fn reserve(&self, tokens: u32, timeout: Option<Duration>) -> Result<Reservation, RateLimitExceededError> {
        let waiter = self.shared.join(tokens, timeout.unwrap_or(Duration::MAX))?;
        Ok(Reservation::new(Arc::clone(&self.shared), waiter))
    }

    /// Calls `f` if there is a token. Does not wait.
    ///
    /// # Errors
    /// [`CallError::Rejected`] if there was none, [`CallError::Inner`] with the error of `f`.
    pub fn call<T, E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<T, CallError<E>> {
        self.check()?;
        f().map_err(CallError::Inner)
    }

    /// Calls `f` and awaits what it returns if there is a token. Does not wait for one.
    ///
    /// # Errors
    /// [`CallError::Rejected`] if there was none, [`CallError::Inner`] with the error of the future.
    ///
    /// # Cancel safety
    /// The token is taken when the call begins, and stays so.
    pub async fn call_async<T, E, F>(&self, f: impl FnOnce() -> F) -> Result<T, CallError<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        self.check()?;
        f().await.map_err(CallError::Inner)
    }

    /// How many tokens there are; a fraction of one counts. Changes nothing.
    #[must_use]
    pub fn tokens(&self) -> f64 {
        self.shared.tokens()
    }

    /// How long a newcomer would have to wait for a token, those in the queue served first. Changes nothing.
    #[must_use]
    pub fn time_until_token(&self) -> Duration {
        self.shared.wait_for(1)
    }

    /// Fills the bucket; those who wait take from it first, in their order.
    pub fn reset(&self) {
        Shared::reset(&self.shared);
    }

    /// Changes the rate. The tokens that there are stay, and those who wait keep their order; a burst that was not
    /// given follows the rate. A limiter that comes to hold fewer tokens than a waiter asked for still serves that
    /// waiter, once, when so many have come: it asked while they could be had.
    ///
    /// # Errors
    /// [`InvalidArgument`] as at building; the rate is as before then.
    pub fn set_rate(&self, rate: impl Into<f64>, per: Duration) -> Result<(), InvalidArgument> {
        Shared::set_rate(&self.shared, rate.into(), per)
    }

    /// A snapshot of what the limiter has done so far.
    #[must_use]
    pub fn stats(&self) -> RateLimiterStats {
        self.shared.stats()
    }

    /// Tokens per [`per`](Self::per).
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.shared.quota().rate()
    }

    /// The time to which the rate refers.
    #[must_use]
    pub fn per(&self) -> Duration {
        self.shared.quota().per()
    }

    /// How many tokens the bucket holds. [`set_rate`](Self::set_rate) may change it; a waiter that asked for more than
    /// it then holds is served all the same.
    #[must_use]
    pub fn burst(&self) -> f64 {
        self.shared.quota().capacity()
    }

    /// The limiter's name, where it has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.shared.name()
    }

    /// As [`try_acquire_n`](Self::try_acquire_n), for who will wait where it is refused: that counts as no rejection.
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
        // Where it lies, as above.
        poll_fn(|task| Pin::new(&mut reservation).poll(task)).await
    }
}
