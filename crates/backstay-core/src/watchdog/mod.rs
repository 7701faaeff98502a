//! The watchdog's rules: when silence is a freeze, who is owed an error for it, and what time does not count.
//!
//! - [`Pulse`] is what a watchdog knows, in one word: its last ping, whether it has fired, whether that is still to be
//!   raised. A ping, a firing and a raising are each one step from a pulse to the next.
//! - [`judge`] says what a look at a pulse means: fire, or look again at a given moment.
//! - [`Holes`] remembers when the whole process did not run, which is nobody's freeze.
//! - [`Runners`] says how many threads the callbacks need.
//! - [`Schedule`] keeps many watchdogs by the moment of their next look.

use core::ops::RangeInclusive;
use core::time::Duration;

use crate::time::{Moment, nanos};

mod holes;
mod pulse;
mod runners;
mod schedule;

pub use holes::{HOLE, Holes};
pub use pulse::Pulse;
pub use runners::{FEW_RUNNERS, MAX_RUNNERS, Runners, STUCK};
pub use schedule::{SLOT, Schedule};

/// How long nobody may ping, unless told otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// What a timeout is clamped to.
pub const TIMEOUT_BOUNDS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// How old a heartbeat file may be, unless told otherwise.
pub const DEFAULT_MAX_AGE: Duration = Duration::from_secs(30);

/// The longest time the monitor sleeps in one go: the finer it naps, the better it knows when it was not run.
pub const NAP: Duration = Duration::from_millis(250);

/// `timeout`, brought into [`TIMEOUT_BOUNDS`].
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

/// How often a heartbeat file is looked at when nobody says: twice in the age it may reach, within [`TIMEOUT_BOUNDS`].
#[must_use]
pub fn default_check_interval(max_age: Duration) -> Duration {
    clamp_timeout(max_age / 2)
}

/// What a watchdog tolerates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How long nobody may ping.
    pub timeout: Duration,
    /// How far behind the true time a ping's may lie: it was read from a coarse clock.
    pub staleness: Duration,
}

/// What a look at a watchdog says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is well, or has been reported: nothing can be wrong before that moment.
    LookAgain(Moment),
    /// Nobody pinged in time, and nobody has been told.
    Fire {
        /// How long nobody had pinged, without the time in which the process did not run.
        inactive: Duration,
    },
}

/// Looks at `pulse` at `now`, which is exact.
///
/// A fired watchdog is looked at again one timeout later: a ping that comes in the meantime cannot be due before that.
#[must_use]
pub fn judge(pulse: Pulse, patience: Patience, holes: &Holes, now: Moment) -> Verdict {
    let since = holes.excused(pulse.last_ping(), patience.timeout);
    let due = since + patience.staleness + patience.timeout;
    if now < due {
        Verdict::LookAgain(due)
    } else if pulse.is_triggered() {
        Verdict::LookAgain(now + patience.timeout)
    } else {
        Verdict::Fire { inactive: now.since(since) }
    }
}

/// Whether `timeout` can be meant: it is not zero, and a clock of nanoseconds can count it.
#[must_use]
pub fn is_sensible(timeout: Duration) -> bool {
    !timeout.is_zero() && nanos(timeout) != u64::MAX
}

#[cfg(test)]
mod tests;
