//! Circuit breaker: which calls are admitted, and what their outcomes change.
//!
//! A [`BreakerState`] holds what belongs to it, [`Policy`] computes the next one, and [`BreakerState::pack`] makes one word
//! of it, so that a handle can keep it in one atomic and apply these functions with compare-and-swap. Half-open calls have
//! slots, a word each ([`HalfOpenSlot`]).

mod buckets;
mod cause;
mod policy;
mod rates;
mod slot;
mod state;
#[cfg(test)]
mod tests;

use core::ops::RangeInclusive;
use core::time::Duration;

pub use buckets::Buckets;
pub use cause::Cause;
pub use policy::{Change, Policy};
pub use rates::{
    DEFAULT_MINIMUM_CALLS, DEFAULT_SLOW_CALL_RATE, DEFAULT_WINDOW, MINIMUM_CALLS_BOUNDS, RatePolicy, Rates,
    SLOW_CALL_BOUNDS, WINDOW_BOUNDS, WINDOW_CALLS_BOUNDS, Window, WindowCounts,
};
pub use slot::HalfOpenSlot;
pub use state::BreakerState;

use crate::time::Moment;

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

/// Ignored half-open calls in a row after which a warning is logged.
pub const IGNORED_CALLS_WARNING: u32 = 10;

/// The largest number that fits into the word; the bound for builders in code.
const MAX_FAILURES_LIMIT: u32 = (1 << BreakerState::FAILURE_BITS) - 1;
const HALF_OPEN_MAX_CALLS_LIMIT: u32 = 100;

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

/// Who decides about calls: the breaker, or the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CircuitMode {
    /// The breaker decides.
    Normal,
    /// Calls are rejected until `reset`.
    Isolated,
}

impl core::fmt::Display for CircuitMode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(match self {
            Self::Normal => "normal",
            Self::Isolated => "isolated",
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
    /// The service failed, and is not to be called for so long: the circuit opens at once. From 1 ms to an hour, or to
    /// `reset_timeout` where that is longer; out-of-range durations are clamped.
    FailureFor(Duration),
}

impl Outcome {
    /// Whether it is a failure.
    #[inline]
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failure | Self::FailureFor(_))
    }
}

/// `Ok` is a success, `Err` a failure: what holds without a classifier.
impl<T, E> From<&Result<T, E>> for Outcome {
    #[inline]
    fn from(result: &Result<T, E>) -> Self {
        if result.is_ok() { Self::Success } else { Self::Failure }
    }
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

impl Ticket {
    /// Whether the outcome counts in `state`, and that is half-open.
    #[must_use]
    pub fn counts_in_half_open(self, state: BreakerState) -> bool {
        match (self, state) {
            (Self::HalfOpen { since: admitted }, BreakerState::HalfOpen { since, .. }) => admitted == since,
            _ => false,
        }
    }
}
