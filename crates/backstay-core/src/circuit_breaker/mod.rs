//! Circuit breaker: which calls are admitted, and what their outcomes change.
//!
//! A [`BreakerState`] holds what belongs to it, [`Policy`] computes the next one, and [`BreakerState::pack`] makes one word
//! of it, so that a handle can keep it in one atomic and apply these functions with compare-and-swap. Half-open calls have
//! slots, a word each ([`HalfOpenSlot`]).

mod buckets;
mod cause;
mod rates;
mod slot;
#[cfg(test)]
mod tests;

use core::ops::RangeInclusive;
use core::time::Duration;

pub use buckets::Buckets;
pub use cause::Cause;
pub use rates::{
    DEFAULT_MINIMUM_CALLS, DEFAULT_SLOW_CALL_RATE, DEFAULT_WINDOW, MINIMUM_CALLS_BOUNDS, RatePolicy, Rates,
    SLOW_CALL_BOUNDS, WINDOW_BOUNDS, WINDOW_CALLS_BOUNDS, Window, WindowCounts,
};
pub use slot::HalfOpenSlot;

use crate::InvalidArgument;
use crate::time::{Moment, Reading, nanos};

/// Default of `max_failures`.
pub const DEFAULT_MAX_FAILURES: u32 = 5;
/// Bounds of `max_failures` in configuration.
pub const MAX_FAILURES_BOUNDS: RangeInclusive<u32> = 1..=100;
/// Default of `reset_timeout`.
pub const DEFAULT_RESET_TIMEOUT: Duration = Duration::from_secs(60);
/// Bounds of `reset_timeout` and `half_open_timeout` in configuration.
pub const RESET_TIMEOUT_BOUNDS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
/// Default of `half_open_max_calls`.
pub const DEFAULT_HALF_OPEN_MAX_CALLS: u32 = 1;
/// Bounds of `half_open_max_calls` in configuration.
pub const HALF_OPEN_MAX_CALLS_BOUNDS: RangeInclusive<u32> = 1..=10;

/// The largest number that fits into the word; the bound for builders in code.
const MAX_FAILURES_LIMIT: u32 = (1 << BreakerState::FAILURE_BITS) - 1;
const HALF_OPEN_MAX_CALLS_LIMIT: u32 = 100;
/// Periods shorter than a microsecond would not keep half-open periods apart (see [`BreakerState::HalfOpen`]), and longer
/// ones than a century do not fit into a word.
const TIMEOUT_LIMITS: RangeInclusive<Duration> = Duration::from_micros(1)..=Duration::from_secs(100 * 365 * 86_400);

/// The state of a breaker, as its users see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CircuitState {
    /// Calls are admitted.
    Closed,
    /// Calls are rejected.
    Open,
    /// A few calls are admitted, to see whether the service has recovered.
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

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The service worked.
    Success,
    /// The service failed.
    Failure,
    /// The call says nothing about the service: an excluded error, a cancelled call.
    Ignored,
}

/// The state of a breaker with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls are admitted.
    Closed {
        /// No other closed period of this breaker has the same.
        generation: u64,
        /// Failures since the last success.
        failures: u32,
    },
    /// Calls are rejected until a moment.
    Open {
        /// When half-open calls may begin.
        until: Moment,
    },
    /// Calls are rejected until `reset`.
    Isolated,
    /// As many calls at once are admitted as there are slots.
    HalfOpen {
        /// When the open period before this one ended, in steps of 64 ns. An open period lasts a whole
        /// `reset_timeout`, so no other half-open period has the same, and the calls of earlier ones were admitted before.
        since: Moment,
        /// Half-open calls that succeeded.
        successes: u32,
    },
}

impl BreakerState {
    /// The state of a new breaker.
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

    /// The state as one word: the tag in the lowest two bits, then the count, then generation or time.
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

    /// The state that [`pack`](Self::pack) made `word` of.
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

    /// The half-open period after an open one that ended at `until`, before any half-open call.
    #[must_use]
    pub const fn half_open(until: Moment) -> Self {
        let since = Moment::from_nanos(until.as_nanos() >> Self::SINCE_SHIFT << Self::SINCE_SHIFT);
        Self::HalfOpen { since, successes: 0 }
    }

    /// The state as users see it.
    #[must_use]
    pub const fn state(self) -> CircuitState {
        match self {
            Self::Closed { .. } => CircuitState::Closed,
            Self::Open { .. } | Self::Isolated => CircuitState::Open,
            Self::HalfOpen { .. } => CircuitState::HalfOpen,
        }
    }

    /// The ticket of a call that needs neither the time nor a slot: what [`Policy::admit`] gives while it is closed.
    #[inline]
    #[must_use]
    pub const fn pass(self) -> Option<Ticket> {
        match self {
            Self::Closed { generation, .. } => Some(Ticket::Closed { generation }),
            _ => None,
        }
    }

    /// Whether it is closed and nothing has failed: then the success of a call that it admitted changes nothing.
    #[inline]
    #[must_use]
    pub const fn is_healthy(self) -> bool {
        matches!(self, Self::Closed { failures: 0, .. })
    }

    /// The last moment that fits into the word.
    const LAST: u64 = u64::MAX >> Self::TAG_BITS;
}

/// The answer to a call that asks to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may be made; its outcome will count in this closed generation.
    Pass(Ticket),
    /// It may be made as a half-open call, if a slot is free.
    HalfOpen {
        /// The half-open period in which the slot must be free, and in which the outcome will count.
        since: Moment,
    },
    /// It is rejected until this moment.
    Reject {
        /// When half-open calls may begin; `Moment::NEVER` for an isolated breaker.
        until: Moment,
    },
    /// The open period is over: move to this state, then ask again.
    Recover(BreakerState),
    /// The reading is too stale to tell: ask again with an exact one.
    Unclear,
}

/// The period in which the outcome of an admitted call counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ticket {
    /// In this closed generation.
    Closed {
        /// The generation in which the call was admitted.
        generation: u64,
    },
    /// In this half-open period.
    HalfOpen {
        /// The half-open period in which the call was admitted.
        since: Moment,
    },
}

/// The arguments of a breaker; valid once built.
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
    /// Checks the arguments.
    ///
    /// # Errors
    /// [`InvalidArgument`] for a number out of range.
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

    /// Half-open calls at once, and successes that close the breaker.
    #[must_use]
    pub const fn half_open_max_calls(&self) -> u32 {
        self.half_open_max_calls as u32
    }

    /// The same policy, under which a cancelled call is a failure, or not.
    #[must_use]
    pub const fn with_cancellation_as_failure(mut self, is_failure: bool) -> Self {
        self.cancellation_is_failure = is_failure;
        self
    }

    /// The outcome of a cancelled call.
    #[inline]
    #[must_use]
    pub const fn on_cancellation(&self) -> Outcome {
        if self.cancellation_is_failure { Outcome::Failure } else { Outcome::Ignored }
    }

    /// How long a half-open call keeps its slot without an outcome.
    #[must_use]
    pub const fn half_open_timeout(&self) -> Duration {
        Duration::from_nanos(self.half_open_timeout)
    }

    /// Whether a call may be made. The clock is asked only where the answer depends on it.
    #[inline]
    pub fn admit(&self, state: BreakerState, now: impl FnOnce() -> Reading) -> Admission {
        match state {
            BreakerState::Closed { generation, .. } => Admission::Pass(Ticket::Closed { generation }),
            BreakerState::Open { until } => match now().reached(until) {
                Some(true) => Admission::Recover(BreakerState::half_open(until)),
                Some(false) => Admission::Reject { until },
                None => Admission::Unclear,
            },
            BreakerState::HalfOpen { since, .. } => Admission::HalfOpen { since },
            BreakerState::Isolated => Admission::Reject { until: Moment::NEVER },
        }
    }

    /// The state after an outcome: the same one if the call is ignored, or was admitted in another generation.
    ///
    /// `fresh` is the generation of the closed period that may begin.
    #[inline]
    pub fn judge(
        &self,
        state: BreakerState,
        ticket: Ticket,
        outcome: Outcome,
        now: impl FnOnce() -> Moment,
        fresh: impl FnOnce() -> u64,
    ) -> BreakerState {
        match (state, ticket) {
            (BreakerState::Closed { generation, failures }, Ticket::Closed { generation: admitted })
                if generation == admitted =>
            {
                match outcome {
                    Outcome::Ignored => state,
                    Outcome::Success => BreakerState::Closed { generation, failures: 0 },
                    Outcome::Failure if failures + 1 < self.max_failures => {
                        BreakerState::Closed { generation, failures: failures + 1 }
                    }
                    Outcome::Failure => self.open(now()),
                }
            }
            (BreakerState::HalfOpen { since, successes }, Ticket::HalfOpen { since: admitted })
                if since == admitted =>
            {
                match outcome {
                    Outcome::Ignored => state,
                    Outcome::Success if successes + 1 < self.half_open_max_calls() => {
                        BreakerState::HalfOpen { since, successes: successes + 1 }
                    }
                    Outcome::Success => BreakerState::Closed { generation: fresh(), failures: 0 },
                    Outcome::Failure => self.open(now()),
                }
            }
            _ => state,
        }
    }

    /// How long a call that is rejected until `until` has to wait: never longer than a whole `reset_timeout`, however
    /// stale `now` is; `Duration::MAX` if it was isolated.
    #[inline]
    #[must_use]
    pub fn remaining(&self, until: Moment, now: Moment) -> Duration {
        if until == Moment::NEVER { Duration::MAX } else { until.since(now).min(self.reset_timeout()) }
    }

    /// Takes a slot, if it is free: its holder was admitted before this half-open period, or has lost it by now.
    #[inline]
    #[must_use]
    pub fn take(&self, slot: HalfOpenSlot, since: Moment, now: Moment) -> Option<HalfOpenSlot> {
        slot.is_free(self.half_open_timeout(), since, now).then(|| HalfOpenSlot::until(now + self.half_open_timeout()))
    }

    fn open(&self, now: Moment) -> BreakerState {
        let until = (now + self.reset_timeout()).as_nanos().min(BreakerState::LAST);
        BreakerState::Open { until: Moment::from_nanos(until) }
    }
}
