use super::{CircuitMode, CircuitState, Ticket};
use crate::time::Moment;

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
    pub(super) const FAILURE_BITS: u32 = 20;
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

    /// The state as users see it at `now`: an open period that has ended shows as half-open. Changes nothing.
    #[must_use]
    pub fn state_at(self, now: impl FnOnce() -> Moment) -> CircuitState {
        match self {
            Self::Open { until } if now() >= until => CircuitState::HalfOpen,
            _ => self.state(),
        }
    }

    /// The mode as users see it.
    #[must_use]
    pub const fn mode(self) -> CircuitMode {
        match self {
            Self::Isolated => CircuitMode::Isolated,
            _ => CircuitMode::Normal,
        }
    }

    /// The ticket of a call that needs neither the time nor a slot: what [`Policy::admit`](super::Policy::admit) gives while it is closed.
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
    pub(super) const LAST: u64 = u64::MAX >> Self::TAG_BITS;
}
