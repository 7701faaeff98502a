//! Rules of the watchdog.
//!
//! - [`PingState`] packs the last ping and two flags into one word: "has fired" and "an error is pending".
//! - [`check`] decides whether a watchdog fires now, or when to check it next.
//! - [`ClockGaps`] records when the whole process did not run. That time does not count as inactivity.
//! - [`PoolLoad`] decides how many threads the callbacks need.
//! - [`DeadlineQueue`] orders many watchdogs by the time of their next check.

use core::ops::RangeInclusive;
use core::time::Duration;

use crate::time::{Moment, nanos};

mod callback_pool;
mod clock_gaps;
mod deadline_queue;
mod ping_state;

pub use callback_pool::{BASE_POOL_SIZE, MAX_POOL_SIZE, PoolLoad, STALL_THRESHOLD};
pub use clock_gaps::{ClockGaps, MIN_CLOCK_GAP};
pub use deadline_queue::{DeadlineQueue, SLOT_LENGTH};
pub use ping_state::PingState;

/// Default timeout: the longest time without a ping.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Bounds to which timeouts are clamped.
pub const TIMEOUT_BOUNDS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// Default maximum age of a heartbeat file.
pub const DEFAULT_MAX_AGE: Duration = Duration::from_secs(30);

/// Longest single sleep of the monitor thread.
///
/// Shorter sleeps detect clock gaps more precisely.
pub const MAX_SLEEP: Duration = Duration::from_millis(250);

/// Clamps `timeout` to [`TIMEOUT_BOUNDS`].
///
/// ```
/// use backstay_core::watchdog::clamp_timeout;
/// use std::time::Duration;
///
/// assert_eq!(clamp_timeout(Duration::ZERO), Duration::from_secs(1));
/// assert_eq!(clamp_timeout(Duration::MAX), Duration::from_secs(3600));
/// ```
#[must_use]
pub fn clamp_timeout(timeout: Duration) -> Duration {
    timeout.clamp(*TIMEOUT_BOUNDS.start(), *TIMEOUT_BOUNDS.end())
}

/// Returns the default interval between checks of a heartbeat file.
///
/// It is `max_age` / 2, clamped to [`TIMEOUT_BOUNDS`].
#[must_use]
pub fn default_check_interval(max_age: Duration) -> Duration {
    clamp_timeout(max_age / 2)
}

/// How much inactivity and clock error a watchdog tolerates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tolerance {
    /// The longest time without a ping.
    pub timeout: Duration,
    /// How far a ping's coarse clock reading can be behind the true time.
    pub staleness: Duration,
}

/// Result of checking a watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckResult {
    /// The watchdog does not fire before this time: check again then.
    WaitUntil(Moment),
    /// The timeout has passed and the watchdog has not fired for it yet.
    Fire {
        /// Time without a ping, excluding clock gaps.
        inactive: Duration,
    },
}

/// Checks a watchdog at `now`, an exact time.
///
/// A watchdog that has fired is checked again one timeout later, because a ping in between cannot expire earlier.
#[must_use]
pub fn check(state: PingState, tolerance: Tolerance, gaps: &ClockGaps, now: Moment) -> CheckResult {
    let since = gaps.inactive_since(state.last_ping(), tolerance.timeout);
    let deadline = since + tolerance.staleness + tolerance.timeout;
    if now < deadline {
        CheckResult::WaitUntil(deadline)
    } else if state.is_triggered() {
        CheckResult::WaitUntil(now + tolerance.timeout)
    } else {
        CheckResult::Fire { inactive: now.since(since) }
    }
}

/// Returns whether `timeout` is positive and fits into 64-bit nanoseconds.
#[must_use]
pub fn is_valid_timeout(timeout: Duration) -> bool {
    !timeout.is_zero() && nanos(timeout) != u64::MAX
}

#[cfg(test)]
mod tests;
