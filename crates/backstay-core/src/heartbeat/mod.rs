//! Rules of the heartbeat: when the next beat is due, and whether what a beat left behind is a sign of life.

mod liveness;

use core::fmt;
use core::ops::RangeInclusive;
use core::time::Duration;

pub use liveness::{Beat, Host, Liveness, Process, Rival, Stamp};

use crate::time::{Moment, nanos};

/// The interval where none is given.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);
/// To what an interval from configuration or from Python is brought.
pub const INTERVAL_BOUNDS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);
/// What an interval can be at all: shorter is a busy loop, longer no sign of life.
pub const INTERVAL_LIMITS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(86_400);
/// How old a beat may be where nothing else is said.
pub const DEFAULT_MAX_AGE: Duration = Duration::from_secs(30);
/// How far a beat may lie in the future: two machines' clocks never quite agree.
pub const MAX_AHEAD: Duration = Duration::from_secs(5);
/// The size of a state file in bytes, at most. Readers read no more, writers refuse to write more.
pub const MAX_FILE_SIZE: usize = 1 << 20;

/// How old a beat may be where the reader does not say: three of the writer's `interval`s, [`DEFAULT_MAX_AGE`] at least.
/// One that lies outside its bounds counts as the longest: a file does not decide to be alive for ever.
#[must_use]
pub fn tolerated_age(interval: Option<Duration>) -> Duration {
    let interval = interval.unwrap_or(DEFAULT_INTERVAL).min(*INTERVAL_BOUNDS.end());
    DEFAULT_MAX_AGE.max(interval * 3)
}

/// How the service says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// It lives, and does not serve yet.
    Starting,
    /// It serves.
    Ready,
    /// It lives, and something that it depends on does not.
    Degraded,
    /// It lives, and is about to stop.
    Stopping,
    /// It stopped as it was meant to.
    Stopped,
}

impl Status {
    const ALL: [Self; 5] = [Self::Starting, Self::Ready, Self::Degraded, Self::Stopping, Self::Stopped];

    /// The word in the state file.
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

    /// The status that the state file's `word` stands for.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// The status and cause to write for a service of this status while `dead` names the worst of its dead targets.
    /// A service that stops keeps its status: its parts are expected to die then.
    #[must_use]
    pub const fn with_dead_target(self, dead: Option<DegradedBy>) -> (Self, Option<DegradedBy>) {
        match (self, dead) {
            (Self::Stopping | Self::Stopped, _) | (Self::Starting | Self::Ready, None) => (self, None),
            (Self::Degraded, None) => (Self::Degraded, Some(DegradedBy::Service)),
            (_, Some(cause)) => (Self::Degraded, Some(cause)),
        }
    }
}

/// Why a heartbeat says [`Degraded`](Status::Degraded). The greater of two causes is the worse one, and is the one
/// written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DegradedBy {
    /// The service set the status itself.
    Service,
    /// A target of the heartbeat is dead.
    Target,
    /// A watchdog that the heartbeat follows has fired: the service is frozen.
    Watchdog,
}

impl DegradedBy {
    const ALL: [Self; 3] = [Self::Service, Self::Target, Self::Watchdog];

    /// The word in the state file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Target => "target",
            Self::Watchdog => "watchdog",
        }
    }

    /// The cause that the state file's `word` stands for.
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

/// When beats are due: at the first one, and whole intervals after it. How long a beat takes, or how late it was,
/// moves none of the others; those that were slept through are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    first: Moment,
    interval: Duration,
}

impl Schedule {
    /// The first beat is due at `first`.
    #[must_use]
    pub const fn new(first: Moment, interval: Duration) -> Self {
        Self { first, interval }
    }

    /// The first beat due after `now`.
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
