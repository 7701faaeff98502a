//! Rules of the heartbeat: when beats are due, and whether the service that wrote a beat is alive.

mod liveness;

use core::fmt;
use core::ops::RangeInclusive;
use core::time::Duration;

pub use liveness::{Beat, Conflict, Host, Liveness, ProcessStatus, Timestamps};

use crate::time::{Moment, nanos};

/// Default interval between beats.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);
/// Bounds to which intervals from configuration and from Python are clamped.
pub const INTERVAL_BOUNDS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);
/// Valid intervals: a shorter one is a busy loop, a longer one proves no liveness.
pub const INTERVAL_LIMITS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(86_400);
/// Default maximum age of a live beat.
pub const DEFAULT_MAX_AGE: Duration = Duration::from_secs(30);
/// How far in the future a live beat may be, because clocks of two machines differ.
pub const MAX_AHEAD: Duration = Duration::from_secs(5);
/// Maximum size of a state file, in bytes.
///
/// A larger file is neither read nor written.
pub const MAX_FILE_SIZE: usize = 1 << 20;

/// Returns the default maximum age of a live beat: three times its `interval`.
///
/// It is at least [`DEFAULT_MAX_AGE`]. An interval above [`INTERVAL_BOUNDS`] counts as the upper bound, because a file
/// must not decide that it stays alive for ever.
#[must_use]
pub fn tolerated_age(interval: Option<Duration>) -> Duration {
    let interval = interval.unwrap_or(DEFAULT_INTERVAL).min(*INTERVAL_BOUNDS.end());
    DEFAULT_MAX_AGE.max(interval * 3)
}

/// Status that a service reports in its heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// The service is alive and not ready yet.
    Starting,
    /// The service is alive and ready.
    Ready,
    /// The service is alive, and something that it depends on is not.
    Degraded,
    /// The service is alive and shutting down.
    Stopping,
    /// The service has stopped cleanly.
    Stopped,
}

impl Status {
    const ALL: [Self; 5] = [Self::Starting, Self::Ready, Self::Degraded, Self::Stopping, Self::Stopped];

    /// Returns the word that stands for it in the state file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }

    /// Returns the status for a `word` of the state file.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Returns the status and cause to write.
    ///
    /// `dead` is the worst cause among the dead targets. A service that is stopping keeps its status, because its
    /// targets are expected to die then.
    #[must_use]
    pub const fn with_dead_target(self, dead: Option<DegradedBy>) -> (Self, Option<DegradedBy>) {
        match (self, dead) {
            (Self::Stopping | Self::Stopped, _) | (Self::Starting | Self::Ready, None) => (self, None),
            (Self::Degraded, None) => (Self::Degraded, Some(DegradedBy::Service)),
            (_, Some(cause)) => (Self::Degraded, Some(cause)),
        }
    }
}

/// Why a heartbeat has the status [`Degraded`](Status::Degraded).
///
/// The greater of two causes is the worse one. The worst one is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DegradedBy {
    /// The service set the status itself.
    Service,
    /// A target of the heartbeat is dead.
    Target,
    /// A watchdog that the heartbeat follows has fired, so the service is frozen.
    Watchdog,
}

impl DegradedBy {
    const ALL: [Self; 3] = [Self::Service, Self::Target, Self::Watchdog];

    /// Returns the word that stands for it in the state file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Target => "target",
            Self::Watchdog => "watchdog",
        }
    }

    /// Returns the cause for a `word` of the state file.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == word)
    }
}

impl fmt::Display for DegradedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Times of beats: the first one, then every interval, without drift.
///
/// A late or slow beat does not move later ones. Beats that were missed while the process did not run are skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeatSchedule {
    first: Moment,
    interval: Duration,
}

impl BeatSchedule {
    /// Returns the schedule with the first beat at `first`.
    #[must_use]
    pub const fn new(first: Moment, interval: Duration) -> Self {
        Self { first, interval }
    }

    /// Returns the time of the first beat after `now`.
    #[must_use]
    pub fn next(self, now: Moment) -> Moment {
        if now < self.first {
            return self.first;
        }
        let interval = nanos(self.interval).max(1);
        let slots = now.since(self.first).as_nanos() / u128::from(interval) + 1;
        let since_first = slots.saturating_mul(u128::from(interval));
        self.first + Duration::from_nanos(u64::try_from(since_first).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests;
