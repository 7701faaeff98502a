//! Circuit breaker: which calls pass, and what their verdicts change.
//!
//! A [`Phase`] owns what belongs to it, [`Policy`] moves it, and [`Phase::pack`] makes one word of it, so that a handle
//! can keep it in one atomic and apply these functions with compare-and-swap. The trials of a half-open breaker stand
//! in places, a word each ([`Place`]).

mod buckets;
mod cause;
mod place;
mod rates;
#[cfg(test)]
mod tests;

use core::ops::RangeInclusive;
use core::time::Duration;

pub use buckets::Buckets;
pub use cause::Cause;
pub use place::Place;
pub use rates::{
    DEFAULT_MINIMUM_CALLS, DEFAULT_SLOW_CALL_RATE, DEFAULT_WINDOW, MINIMUM_CALLS_BOUNDS, RatePolicy, Rates,
    SLOW_CALL_BOUNDS, WINDOW_BOUNDS, WINDOW_CALLS_BOUNDS, Window, WindowCounts,
};

use crate::InvalidArgument;
use crate::time::{Moment, Reading, nanos};

/// Consecutive failures that open a breaker, where nothing else is said.
pub const DEFAULT_MAX_FAILURES: u32 = 5;
/// What configuration may set `max_failures` to.
pub const MAX_FAILURES_BOUNDS: RangeInclusive<u32> = 1..=100;
/// How long a breaker stays open, where nothing else is said.
pub const DEFAULT_RESET_TIMEOUT: Duration = Duration::from_secs(60);
/// What configuration may set `reset_timeout` and `half_open_timeout` to.
pub const RESET_TIMEOUT_BOUNDS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
/// Trials at once in half-open, where nothing else is said.
pub const DEFAULT_HALF_OPEN_MAX_CALLS: u32 = 1;
/// What configuration may set `half_open_max_calls` to.
pub const HALF_OPEN_MAX_CALLS_BOUNDS: RangeInclusive<u32> = 1..=10;

/// What a builder in code may go up to: what still fits into the word.
const MAX_FAILURES_LIMIT: u32 = (1 << Phase::FAILURE_BITS) - 1;
const HALF_OPEN_MAX_CALLS_LIMIT: u32 = 100;
/// Shorter than a microsecond is no wait, and would not keep half-open periods apart (see [`Phase::HalfOpen`]); longer
/// than a century does not fit into a word.
const TIMEOUT_LIMITS: RangeInclusive<Duration> = Duration::from_micros(1)..=Duration::from_secs(100 * 365 * 86_400);

/// The state of a breaker, as everyone sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CircuitState {
    /// Calls pass.
    Closed,
    /// Calls are turned away.
    Open,
    /// A few trials pass, to see whether the service has recovered.
    HalfOpen,
}

impl core::fmt::Display for CircuitState {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        })
    }
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The service did its work.
    Success,
    /// It did not.
    Failure,
    /// The call says nothing about the service: an excluded error, or cancelled.
    Neutral,
}

/// The state of a breaker with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Calls pass.
    Closed {
        /// No other closed period of this breaker has the same.
        generation: u64,
        /// Failures since the last success.
        failures: u32,
    },
    /// Calls are turned away until a moment.
    Open {
        /// When trials may begin.
        until: Moment,
    },
    /// Calls are turned away until `reset`.
    Isolated,
    /// Trials pass, as many at once as there are places.
    HalfOpen {
        /// When the open period before this one ended, in steps of 64 ns. An open period lasts a whole
        /// `reset_timeout`, so no other half-open period has the same, and every earlier trial was admitted before.
        since: Moment,
        /// Trials that succeeded.
        successes: u32,
    },
}

impl Phase {
    /// How a breaker starts.
    pub const START: Self = Self::Closed { generation: 0, failures: 0 };

    const TAG_BITS: u32 = 2;
    const FAILURE_BITS: u32 = 20;
    const SUCCESS_BITS: u32 = 7;
    /// `since` loses so many bits at its low end for the successes and the tag.
    const SINCE_SHIFT: u32 = Self::SUCCESS_BITS - 1;

    const CLOSED: u64 = 0;
    const OPEN: u64 = 1;
    const HALF_OPEN: u64 = 2;
    const ISOLATED: u64 = 3;

    /// The phase as one word: the tag in the lowest two bits, then the count, then generation or time.
    ///
    /// Times keep 62 bits of nanoseconds, 146 years; generations 42 bits.
    #[inline]
    #[must_use]
    pub const fn pack(self) -> u64 {
        match self {
            Self::Closed { generation, failures } => {
                (generation << Self::FAILURE_BITS | failures as u64) << Self::TAG_BITS | Self::CLOSED
            }
            Self::Open { until } => until.as_nanos() << Self::TAG_BITS | Self::OPEN,
            Self::HalfOpen { since, successes } => {
                (since.as_nanos() >> Self::SINCE_SHIFT << Self::SUCCESS_BITS | successes as u64) << Self::TAG_BITS
                    | Self::HALF_OPEN
            }
            Self::Isolated => Self::ISOLATED,
        }
    }

    /// The phase that [`pack`](Self::pack) made `word` of.
    #[inline]
    #[must_use]
    #[allow(clippy::cast_possible_truncation)]
    pub const fn unpack(word: u64) -> Self {
        let rest = word >> Self::TAG_BITS;
        match word & 3 {
            Self::CLOSED => Self::Closed {
                generation: rest >> Self::FAILURE_BITS,
                failures: (rest & ((1 << Self::FAILURE_BITS) - 1)) as u32,
            },
            Self::OPEN => Self::Open { until: Moment::from_nanos(rest) },
            Self::HALF_OPEN => Self::HalfOpen {
                since: Moment::from_nanos(rest >> Self::SUCCESS_BITS << Self::SINCE_SHIFT),
                successes: (rest & ((1 << Self::SUCCESS_BITS) - 1)) as u32,
            },
            _ => Self::Isolated,
        }
    }

    /// The half-open period after an open one that ended at `until`, before any trial.
    #[must_use]
    pub const fn half_open(until: Moment) -> Self {
        let since = Moment::from_nanos(until.as_nanos() >> Self::SINCE_SHIFT << Self::SINCE_SHIFT);
        Self::HalfOpen { since, successes: 0 }
    }

    /// What everyone sees of it.
    #[must_use]
    pub const fn state(self) -> CircuitState {
        match self {
            Self::Closed { .. } => CircuitState::Closed,
            Self::Open { .. } | Self::Isolated => CircuitState::Open,
            Self::HalfOpen { .. } => CircuitState::HalfOpen,
        }
    }

    /// The ticket of a call that needs neither time nor place: what [`Policy::admit`] gives while it is closed.
    #[inline]
    #[must_use]
    pub const fn pass(self) -> Option<Ticket> {
        match self {
            Self::Closed { generation, .. } => Some(Ticket::Closed { generation }),
            _ => None,
        }
    }

    /// Whether it is closed and nothing has failed: then the success of a call that it passed changes nothing.
    #[inline]
    #[must_use]
    pub const fn is_well(self) -> bool {
        matches!(self, Self::Closed { failures: 0, .. })
    }

    /// The last moment that fits into the word.
    const LAST: u64 = u64::MAX >> Self::TAG_BITS;
}

/// What a breaker says to a call that asks to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may be made; its verdict will count in this closed generation.
    Pass(Ticket),
    /// It may be made as a trial, if a place is free.
    Trial {
        /// The half-open period in which the place must be free, and in which the verdict will count.
        since: Moment,
    },
    /// Not before this moment.
    Reject {
        /// When trials may begin; `Moment::NEVER` for an isolated breaker.
        until: Moment,
    },
    /// The open period is over: move to this phase, then ask again.
    Recover(Phase),
    /// The reading is too stale to tell: ask again with an exact one.
    Unclear,
}

/// Where the verdict of an admitted call counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ticket {
    /// In this closed generation.
    Closed {
        /// The generation in which the call was admitted.
        generation: u64,
    },
    /// In this half-open period, as a trial.
    Trial {
        /// The half-open period in which the call was admitted.
        since: Moment,
    },
}

/// The numbers by which a breaker moves; valid once built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    max_failures: u32,
    half_open_max_calls: u16,
    cancellation_is_failure: bool,
    /// Nanoseconds: a breaker is small.
    reset_timeout: u64,
    half_open_timeout: u64,
}

impl Policy {
    /// Checks the numbers and makes a policy of them.
    ///
    /// # Errors
    /// [`InvalidArgument`] for a number that makes no sense: no failure at all, no place at all, no time at all.
    pub fn new(
        max_failures: u32,
        reset_timeout: Duration,
        half_open_max_calls: u32,
        half_open_timeout: Duration,
    ) -> Result<Self, InvalidArgument> {
        let count = |argument, given: u32, limit| {
            let error = || InvalidArgument::new(argument, given, alloc::format!("a whole number from 1 to {limit}"));
            if (1..=limit).contains(&given) { Ok(()) } else { Err(error()) }
        };
        let time = |argument, given: Duration| {
            let error = || InvalidArgument::new(argument, alloc::format!("{given:?}"), "from 1 µs to 100 years");
            if TIMEOUT_LIMITS.contains(&given) { Ok(()) } else { Err(error()) }
        };
        count("max_failures", max_failures, MAX_FAILURES_LIMIT)?;
        count("half_open_max_calls", half_open_max_calls, HALF_OPEN_MAX_CALLS_LIMIT)?;
        time("reset_timeout", reset_timeout)?;
        time("half_open_timeout", half_open_timeout)?;
        let (reset_timeout, half_open_timeout) = (nanos(reset_timeout), nanos(half_open_timeout));
        let half_open_max_calls = u16::try_from(half_open_max_calls).unwrap_or(u16::MAX);
        let cancellation_is_failure = false;
        Ok(Self { max_failures, half_open_max_calls, cancellation_is_failure, reset_timeout, half_open_timeout })
    }

    /// Consecutive failures that open the breaker.
    #[must_use]
    pub const fn max_failures(&self) -> u32 {
        self.max_failures
    }

    /// How long the breaker stays open.
    #[must_use]
    pub const fn reset_timeout(&self) -> Duration {
        Duration::from_nanos(self.reset_timeout)
    }

    /// Trials at once in half-open, and successes that close the breaker.
    #[must_use]
    pub const fn half_open_max_calls(&self) -> u32 {
        self.half_open_max_calls as u32
    }

    /// The same, but a cancelled call is a failure, or not.
    #[must_use]
    pub const fn with_cancellation_as_failure(mut self, is_failure: bool) -> Self {
        self.cancellation_is_failure = is_failure;
        self
    }

    /// The verdict on a cancelled call.
    #[inline]
    #[must_use]
    pub const fn on_cancellation(&self) -> Verdict {
        if self.cancellation_is_failure { Verdict::Failure } else { Verdict::Neutral }
    }

    /// How long a half-open call keeps its slot without an outcome.
    #[must_use]
    pub const fn half_open_timeout(&self) -> Duration {
        Duration::from_nanos(self.half_open_timeout)
    }

    /// Whether a call may be made. The clock is asked only where the answer depends on it.
    #[inline]
    pub fn admit(&self, phase: Phase, now: impl FnOnce() -> Reading) -> Admission {
        match phase {
            Phase::Closed { generation, .. } => Admission::Pass(Ticket::Closed { generation }),
            Phase::Open { until } => match now().reached(until) {
                Some(true) => Admission::Recover(Phase::half_open(until)),
                Some(false) => Admission::Reject { until },
                None => Admission::Unclear,
            },
            Phase::HalfOpen { since, .. } => Admission::Trial { since },
            Phase::Isolated => Admission::Reject { until: Moment::NEVER },
        }
    }

    /// The phase after a verdict: the same one where the verdict is neutral, or of another generation.
    ///
    /// `fresh` is the generation of the closed period that may begin.
    #[inline]
    pub fn judge(
        &self,
        phase: Phase,
        ticket: Ticket,
        verdict: Verdict,
        now: impl FnOnce() -> Moment,
        fresh: impl FnOnce() -> u64,
    ) -> Phase {
        match (phase, ticket) {
            (Phase::Closed { generation, failures }, Ticket::Closed { generation: admitted })
                if generation == admitted =>
            {
                match verdict {
                    Verdict::Neutral => phase,
                    Verdict::Success => Phase::Closed { generation, failures: 0 },
                    Verdict::Failure if failures + 1 < self.max_failures => {
                        Phase::Closed { generation, failures: failures + 1 }
                    }
                    Verdict::Failure => self.open(now()),
                }
            }
            (Phase::HalfOpen { since, successes }, Ticket::Trial { since: admitted }) if since == admitted => {
                match verdict {
                    Verdict::Neutral => phase,
                    Verdict::Success if successes + 1 < self.half_open_max_calls() => {
                        Phase::HalfOpen { since, successes: successes + 1 }
                    }
                    Verdict::Success => Phase::Closed { generation: fresh(), failures: 0 },
                    Verdict::Failure => self.open(now()),
                }
            }
            _ => phase,
        }
    }

    /// How long a call that is turned away until `until` has to wait: never longer than a whole `reset_timeout`, however
    /// stale `now` is; `Duration::MAX` where nobody knows.
    #[inline]
    #[must_use]
    pub fn remaining(&self, until: Moment, now: Moment) -> Duration {
        if until == Moment::NEVER { Duration::MAX } else { until.since(now).min(self.reset_timeout()) }
    }

    /// Takes a trial place, if it is free: its holder was admitted before this half-open period, or has lost it by now.
    #[inline]
    #[must_use]
    pub fn take(&self, place: Place, since: Moment, now: Moment) -> Option<Place> {
        place.is_free(self.half_open_timeout(), since, now).then(|| Place::until(now + self.half_open_timeout()))
    }

    fn open(&self, now: Moment) -> Phase {
        let until = (now + self.reset_timeout()).as_nanos().min(Phase::LAST);
        Phase::Open { until: Moment::from_nanos(until) }
    }
}
