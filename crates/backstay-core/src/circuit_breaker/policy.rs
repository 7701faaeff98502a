use core::ops::RangeInclusive;
use core::time::Duration;

use super::{
    Admission, BreakerState, Cause, HALF_OPEN_MAX_CALLS_LIMIT, HalfOpenSlot, MAX_FAILURES_LIMIT, Outcome, Ticket,
};
use crate::InvalidArgument;
use crate::time::{Moment, Reading, nanos};

/// Bounds of the period for which a failure may open the circuit (`Outcome::FailureFor`).
const RETRY_AFTER_MIN: Duration = Duration::from_millis(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// Periods shorter than a microsecond would not keep half-open periods apart (see [`BreakerState::HalfOpen`]), and longer
/// ones than a century do not fit into a word.
const TIMEOUT_LIMITS: RangeInclusive<Duration> = Duration::from_micros(1)..=Duration::from_secs(100 * 365 * 86_400);

/// What the outcome of a call changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Nothing,
    /// A count within the state.
    Count(BreakerState),
    /// The state, for this cause.
    Transition(BreakerState, Cause),
}

/// The arguments of a breaker; valid once built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// 0: consecutive failures do not open the circuit.
    max_failures: u32,
    half_open_max_calls: u16,
    cancellation_is_failure: bool,
    /// Nanoseconds: a breaker is small.
    reset_timeout: u64,
    half_open_timeout: u64,
}

impl Policy {
    /// Checks the arguments. Without `max_failures`, consecutive failures do not open the circuit.
    ///
    /// # Errors
    /// [`InvalidArgument`] for a number out of range.
    pub fn new(
        max_failures: Option<u32>,
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
        if let Some(failures) = max_failures {
            count("max_failures", failures, MAX_FAILURES_LIMIT)?;
        }
        let max_failures = max_failures.unwrap_or(0);
        count("half_open_max_calls", half_open_max_calls, HALF_OPEN_MAX_CALLS_LIMIT)?;
        time("reset_timeout", reset_timeout)?;
        time("half_open_timeout", half_open_timeout)?;
        let (reset_timeout, half_open_timeout) = (nanos(reset_timeout), nanos(half_open_timeout));
        let half_open_max_calls = u16::try_from(half_open_max_calls).unwrap_or(u16::MAX);
        let cancellation_is_failure = false;
        Ok(Self { max_failures, half_open_max_calls, cancellation_is_failure, reset_timeout, half_open_timeout })
    }

    /// Consecutive failures that open the circuit; `None` if they do not.
    #[must_use]
    pub const fn max_failures(&self) -> Option<u32> {
        if self.max_failures == 0 { None } else { Some(self.max_failures) }
    }

    /// Whether a cancelled call is a failure.
    #[must_use]
    pub const fn cancellation_is_failure(&self) -> bool {
        self.cancellation_is_failure
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
            BreakerState::Open { until } => {
                let now = now();
                match now.reached(until) {
                    Some(true) => Admission::Recover(BreakerState::half_open(until)),
                    // A stale reading would make the wait longer than the whole open period just after its beginning.
                    Some(false) if now.staleness() > 0 && until.since(now.earliest) > self.reset_timeout() => {
                        Admission::Unclear
                    }
                    Some(false) => Admission::Reject { until },
                    None => Admission::Unclear,
                }
            }
            BreakerState::HalfOpen { since, .. } => Admission::HalfOpen { since },
            BreakerState::Isolated => Admission::Reject { until: Moment::NEVER },
        }
    }

    /// What the outcome of a call changes: nothing, if the call is ignored or was admitted in another generation.
    ///
    /// `tripped` says why the counts of the window open the circuit, if they do; it is asked after failures and slow calls
    /// of the closed period. `fresh` is the generation of the closed period that may begin.
    #[inline]
    pub fn judge(
        &self,
        state: BreakerState,
        ticket: Ticket,
        (outcome, slow): (Outcome, bool),
        tripped: impl FnOnce() -> Option<Cause>,
        now: impl FnOnce() -> Moment,
        fresh: impl FnOnce() -> u64,
    ) -> Change {
        match (state, ticket) {
            (BreakerState::Closed { generation, failures }, Ticket::Closed { generation: admitted })
                if generation == admitted =>
            {
                self.judge_closed(generation, failures, (outcome, slow), tripped, now)
            }
            (BreakerState::HalfOpen { since, successes }, Ticket::HalfOpen { since: admitted })
                if since == admitted =>
            {
                match outcome {
                    Outcome::Ignored => Change::Nothing,
                    Outcome::FailureFor(time) => self.open_for(time, now()),
                    Outcome::Success if !slow => {
                        let successes = successes + 1;
                        if successes < self.half_open_max_calls() {
                            return Change::Count(BreakerState::HalfOpen { since, successes });
                        }
                        let closed = BreakerState::Closed { generation: fresh(), failures: 0 };
                        Change::Transition(closed, Cause::Successes(successes))
                    }
                    Outcome::Success | Outcome::Failure => self.open(now(), Cause::HalfOpenFailure),
                }
            }
            _ => Change::Nothing,
        }
    }

    fn judge_closed(
        &self,
        generation: u64,
        failures: u32,
        (outcome, slow): (Outcome, bool),
        tripped: impl FnOnce() -> Option<Cause>,
        now: impl FnOnce() -> Moment,
    ) -> Change {
        let counts_failures = self.max_failures > 0;
        let counted = match outcome {
            Outcome::Ignored => return Change::Nothing,
            Outcome::FailureFor(time) => return self.open_for(time, now()),
            Outcome::Success => 0,
            Outcome::Failure if counts_failures => failures + 1,
            Outcome::Failure => 0,
        };
        if counts_failures && counted >= self.max_failures {
            return self.open(now(), Cause::ConsecutiveFailures(counted));
        }
        if (slow || outcome == Outcome::Failure)
            && let Some(cause) = tripped()
        {
            return self.open(now(), cause);
        }
        if counted == failures {
            return Change::Nothing;
        }
        Change::Count(BreakerState::Closed { generation, failures: counted })
    }

    /// How long a call that is rejected until `until` has to wait; `Duration::MAX` if the breaker was isolated.
    #[inline]
    #[must_use]
    pub fn remaining(until: Moment, now: Moment) -> Duration {
        if until == Moment::NEVER { Duration::MAX } else { until.since(now) }
    }

    /// Takes a slot, if it is free: its holder was admitted before this half-open period, or has lost it by now.
    #[inline]
    #[must_use]
    pub fn take(&self, slot: HalfOpenSlot, since: Moment, now: Moment) -> Option<HalfOpenSlot> {
        slot.is_free(self.half_open_timeout(), since, now).then(|| HalfOpenSlot::until(now + self.half_open_timeout()))
    }

    fn open(&self, now: Moment, cause: Cause) -> Change {
        Change::Transition(open_until(now + self.reset_timeout()), cause)
    }

    fn open_for(&self, time: Duration, now: Moment) -> Change {
        let longest = RETRY_AFTER_MAX.max(self.reset_timeout());
        let time = time.clamp(RETRY_AFTER_MIN, longest);
        Change::Transition(open_until(now + time), Cause::RetryAfter(time))
    }
}

fn open_until(moment: Moment) -> BreakerState {
    BreakerState::Open { until: Moment::from_nanos(moment.as_nanos().min(BreakerState::LAST)) }
}
