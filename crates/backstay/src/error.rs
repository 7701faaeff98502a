//! Errors of protected calls and of builders.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use backstay_core::InvalidArgument;
use backstay_core::rate_limiter::Shortage;

use crate::clock::Clock;

/// The circuit breaker is open, so the call was not made.
///
/// Try again after [`remaining`](Self::remaining).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CircuitOpenError {
    /// The breaker's name, if it has one.
    pub name: Option<Arc<str>>,
    /// The time until the breaker admits a half-open call: until the open period ends, or until the slot of a half-open
    /// call times out. `Duration::MAX` if the breaker is isolated.
    pub remaining: Duration,
}

/// The rate limiter had no token in time.
///
/// Try again after [`retry_after`](Self::retry_after).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitExceededError {
    /// The limiter's name, if it has one.
    pub name: Option<Arc<str>>,
    retry_after: RetryAfter,
}

/// How long a rejected caller has to wait. Computed only when it is read: most callers do not read it.
#[derive(Clone, Debug)]
enum RetryAfter {
    Known(Duration),
    Until(Shortage, Clock),
}

/// Compares the shortages; clocks are not compared.
impl PartialEq for RetryAfter {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Known(one), Self::Known(other)) => one == other,
            (Self::Until(one, _), Self::Until(other, _)) => one == other,
            _ => false,
        }
    }
}

impl Eq for RetryAfter {}

impl CircuitOpenError {
    /// Writes the text of `Display` without a formatter, which is faster.
    ///
    /// ```
    /// # let error = backstay::CircuitOpenError { name: None, remaining: std::time::Duration::from_secs(5) };
    /// let mut text = String::with_capacity(64);
    /// error.write_to(&mut text)?;
    /// assert_eq!(text, "circuit breaker is open for another 5.000 s");
    /// # Ok::<(), std::fmt::Error>(())
    /// ```
    ///
    /// # Errors
    /// The errors of the writer.
    pub fn write_to(&self, to: &mut impl fmt::Write) -> fmt::Result {
        to.write_str("circuit breaker")?;
        write_name(self.name.as_ref(), to)?;
        to.write_str(" is open")?;
        write_wait(" for another ", self.remaining, "", to)
    }
}

impl std::error::Error for CircuitOpenError {}

impl fmt::Display for CircuitOpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_to(f)
    }
}

impl RateLimitExceededError {
    /// Creates the error, for tests and for rate limiters of other kinds.
    ///
    /// ```
    /// use backstay::RateLimitExceededError;
    /// use std::time::Duration;
    ///
    /// let error = RateLimitExceededError::new(Some("api".into()), Duration::from_millis(1500));
    /// assert_eq!(error.to_string(), "rate limit \"api\" exceeded, retry after 1.500 s");
    /// ```
    #[must_use]
    pub fn new(name: Option<Arc<str>>, retry_after: Duration) -> Self {
        Self { name, retry_after: RetryAfter::Known(retry_after) }
    }

    #[cfg(feature = "rate-limiter")]
    pub(crate) fn until(name: Option<Arc<str>>, shortage: Shortage, clock: &Clock) -> Self {
        Self { name, retry_after: RetryAfter::Until(shortage, clock.clone()) }
    }

    /// Returns the time from now until the limiter would have granted the tokens, if it has granted no others since.
    ///
    /// Waiters in the queue at the time of the rejection come first. Returns `Duration::MAX` if the request was for
    /// more tokens than the bucket ever holds. Reads the limiter's clock.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        match &self.retry_after {
            RetryAfter::Known(wait) => *wait,
            RetryAfter::Until(shortage, clock) => shortage.wait(clock.fine().earliest),
        }
    }

    /// Writes the text of `Display` without a formatter, which is faster.
    ///
    /// # Errors
    /// The errors of the writer.
    pub fn write_to(&self, to: &mut impl fmt::Write) -> fmt::Result {
        to.write_str("rate limit")?;
        write_name(self.name.as_ref(), to)?;
        to.write_str(" exceeded")?;
        write_wait(", retry after ", self.retry_after(), ": more than it ever holds", to)
    }
}

impl std::error::Error for RateLimitExceededError {}

impl fmt::Display for RateLimitExceededError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_to(f)
    }
}

/// The error of a protected call: the call was rejected, or it was made and failed.
///
/// Nested layers fold into one: `?` converts a `CallError<CallError<E>>` to a `CallError<E>`.
///
/// ```
/// use backstay::{CallError, CircuitBreaker, RateLimiter};
///
/// fn quote(breaker: &CircuitBreaker, limiter: &RateLimiter) -> Result<u32, CallError<std::io::Error>> {
///     Ok(limiter.call(|| breaker.call(|| Ok(42)))?)
/// }
/// # let limiter = RateLimiter::builder(10).build().unwrap();
/// # assert_eq!(quote(&CircuitBreaker::builder().build().unwrap(), &limiter).unwrap(), 42);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError<E> {
    /// The call was not made.
    Rejected(Rejection),
    /// The call was made, and returned this error.
    Inner(E),
}

/// The reason why a call was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// A circuit breaker is open.
    CircuitOpen(CircuitOpenError),
    /// A rate limiter has no token.
    RateLimited(RateLimitExceededError),
}

impl Rejection {
    /// Returns how long to wait before the next try.
    ///
    /// `Duration::MAX`: there is no time after which the call would be admitted.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::CircuitOpen(error) => error.remaining,
            Self::RateLimited(error) => error.retry_after(),
        }
    }
}

impl<E> CallError<E> {
    /// Returns the rejection, if the call was not made.
    #[must_use]
    pub fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            Self::Inner(_) => None,
        }
    }

    /// Returns the call's own error, if it was made.
    #[must_use]
    pub fn into_inner(self) -> Option<E> {
        match self {
            Self::Rejected(_) => None,
            Self::Inner(error) => Some(error),
        }
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejection) => rejection.fmt(f),
            Self::Inner(error) => error.fmt(f),
        }
    }
}

/// Transparent: text and source are those of the rejection or the call's own error.
impl<E: std::error::Error> std::error::Error for CallError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Rejected(rejection) => rejection.source(),
            Self::Inner(error) => error.source(),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CircuitOpen(error) => error.fmt(f),
            Self::RateLimited(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Rejection {}

impl From<CircuitOpenError> for Rejection {
    fn from(error: CircuitOpenError) -> Self {
        Self::CircuitOpen(error)
    }
}

impl From<RateLimitExceededError> for Rejection {
    fn from(error: RateLimitExceededError) -> Self {
        Self::RateLimited(error)
    }
}

impl<E> From<CallError<CallError<E>>> for CallError<E> {
    fn from(layered: CallError<CallError<E>>) -> Self {
        match layered {
            CallError::Rejected(rejection) => Self::Rejected(rejection),
            CallError::Inner(inner) => inner,
        }
    }
}

impl<E> From<CircuitOpenError> for CallError<E> {
    fn from(error: CircuitOpenError) -> Self {
        Self::Rejected(error.into())
    }
}

impl<E> From<RateLimitExceededError> for CallError<E> {
    fn from(error: RateLimitExceededError) -> Self {
        Self::Rejected(error.into())
    }
}

/// A builder's settings are invalid.
#[derive(Clone)]
#[non_exhaustive]
pub enum BuildError {
    /// An argument is invalid.
    InvalidArgument(InvalidArgument),
}

impl From<InvalidArgument> for BuildError {
    fn from(error: InvalidArgument) -> Self {
        Self::InvalidArgument(error)
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::InvalidArgument(error) = self;
        error.fmt(f)
    }
}

impl std::error::Error for BuildError {}

/// Shows the text of `Display`, so that `unwrap` and `main` print it.
impl fmt::Debug for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn write_name(name: Option<&Arc<str>>, to: &mut impl fmt::Write) -> fmt::Result {
    name.map_or(Ok(()), |name| write!(to, " {name:?}"))
}

/// Writes `text` and the seconds, nothing if `wait` is zero, or `never` if it is `Duration::MAX`.
fn write_wait(text: &str, wait: Duration, never: &str, to: &mut impl fmt::Write) -> fmt::Result {
    if wait == Duration::MAX {
        return to.write_str(never);
    }
    if wait.is_zero() {
        return Ok(());
    }
    // In integers and few writes: for a program that formats each rejection, this is a hot path.
    let wait = wait.saturating_add(Duration::from_micros(500));
    let digit = |unit| b'0' + (wait.subsec_millis() / unit % 10) as u8;
    let fraction = [b'.', digit(100), digit(10), digit(1), b' ', b's'];
    to.write_str(text)?;
    to.write_str(itoa::Buffer::new().format(wait.as_secs()))?;
    to.write_str(str::from_utf8(&fraction).map_err(|_| fmt::Error)?)
}

#[cfg(all(test, not(backstay_loom)))]
mod tests {
    use super::*;

    // ALL-2: three layers have the error type of one, by `?` alone, which says how long to wait.
    #[test]
    fn layers_fold_into_one() {
        type Layered<E> = Result<(), CallError<E>>;
        fn fold(inner: Layered<&'static str>) -> Layered<&'static str> {
            let twice: Layered<CallError<&'static str>> = inner.map_err(CallError::Inner);
            let thrice: Layered<CallError<CallError<&'static str>>> = twice.map_err(CallError::Inner);
            fn once_less<E>(layered: Layered<CallError<E>>) -> Layered<E> {
                Ok(layered?)
            }
            once_less(once_less(thrice))
        }
        let rejected = RateLimitExceededError::new(Some("api".into()), Duration::from_millis(1500));
        let error = fold(Err(rejected.into())).unwrap_err();
        assert_eq!(error.rejection().map(Rejection::retry_after), Some(Duration::from_millis(1500)));
        assert_eq!(fold(Err(CallError::Inner("down"))).unwrap_err().into_inner(), Some("down"));
    }

    // ALL-2: a protected call's error has the text and the source of the error that it holds.
    #[test]
    fn a_protected_calls_error_is_transparent() {
        use std::error::Error;

        #[derive(Debug)]
        struct Failed(fmt::Error);
        impl Error for Failed {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        impl fmt::Display for Failed {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("failed")
            }
        }

        let call = CallError::Inner(Failed(fmt::Error));
        assert_eq!(call.to_string(), "failed");
        assert_eq!(call.source().map(ToString::to_string), Some(fmt::Error.to_string()));
        let open = CircuitOpenError { name: None, remaining: Duration::from_secs(5) };
        let call = CallError::<std::io::Error>::from(open.clone());
        assert_eq!(call.to_string(), open.to_string());
        assert!(call.source().is_none());
    }

    // ALL-2: `Debug`, which `unwrap` prints, shows the text of `Display`.
    #[test]
    fn build_errors_have_one_text() {
        let error = BuildError::from(InvalidArgument::new("max_failures", 0, "1 or more"));
        assert_eq!(format!("{error:?}"), error.to_string());
        assert!(error.to_string().starts_with("`max_failures` is 0"), "{error}");
        #[cfg(feature = "config")]
        {
            use crate::config::{Config, Sources};
            let sources = Sources::none().variable("BACKSTAY_WATCHDOG__TIMEOUT", "soon");
            let error = Config::from_sources(&sources).unwrap_err();
            assert_eq!(format!("{error:?}"), error.to_string());
        }
    }

    // ALL-2: each message names the instance, and how long to wait if that helps.
    #[test]
    fn messages_name_the_instance_and_the_wait() {
        let rejected = RateLimitExceededError::new(Some("api".into()), Duration::from_millis(1500));
        assert_eq!(rejected.to_string(), "rate limit \"api\" exceeded, retry after 1.500 s");
        let isolated = CircuitOpenError { name: None, remaining: Duration::MAX };
        assert_eq!(isolated.to_string(), "circuit breaker is open");
    }
}
