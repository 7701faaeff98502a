use core::fmt;
use core::time::Duration;

/// Why a breaker changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// So many calls in a row failed.
    ConsecutiveFailures(u32),
    /// Too large a share of the window's calls failed.
    FailureRate {
        /// Failed calls in the window.
        failed: u64,
        /// Calls in the window.
        calls: u64,
    },
    /// Too large a share of the window's calls was slow.
    SlowCallRate {
        /// Slow calls in the window.
        slow: u64,
        /// Calls in the window.
        calls: u64,
    },
    /// A call ended as a failure for so long: the service asked not to be called meanwhile.
    RetryAfter(Duration),
    /// A half-open call failed, or was slow.
    HalfOpenFailure,
    /// The open period ended.
    ResetTimeout,
    /// So many half-open calls succeeded.
    Successes(u32),
    /// The program called `reset` or `isolate`.
    Manual,
}

impl Cause {
    /// A name for metrics and logs: `failure_rate`, `retry_after`, ...
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::ConsecutiveFailures(_) => "consecutive_failures",
            Self::FailureRate { .. } => "failure_rate",
            Self::SlowCallRate { .. } => "slow_call_rate",
            Self::RetryAfter(_) => "retry_after",
            Self::HalfOpenFailure => "half_open_failure",
            Self::ResetTimeout => "reset_timeout",
            Self::Successes(_) => "successes",
            Self::Manual => "manual",
        }
    }
}

/// A phrase with the numbers: "12 of 20 calls failed".
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConsecutiveFailures(failures) => write!(f, "{failures} consecutive failures"),
            Self::FailureRate { failed, calls } => write!(f, "{failed} of {calls} calls failed"),
            Self::SlowCallRate { slow, calls } => write!(f, "{slow} of {calls} calls were slow"),
            Self::RetryAfter(time) => write!(f, "the service asked to retry after {time:?}"),
            Self::HalfOpenFailure => f.write_str("a half-open call failed"),
            Self::ResetTimeout => f.write_str("the open period ended"),
            Self::Successes(calls) => write!(f, "{calls} half-open calls succeeded"),
            Self::Manual => f.write_str("manual"),
        }
    }
}
