//! The rules of the breaker on literal times.
#![allow(clippy::unwrap_used)]

use alloc::string::ToString;

use super::*;
use crate::InvalidArgument;
use crate::time::Reading;

mod bounds;
mod rates;

const SECOND: Duration = Duration::from_secs(1);

fn policy(max_failures: u32, half_open_max_calls: u32) -> Policy {
    Policy::new(Some(max_failures), 30 * SECOND, half_open_max_calls, 10 * SECOND).unwrap()
}

fn at(seconds: u64) -> Moment {
    Moment::ORIGIN + Duration::from_secs(seconds)
}

fn change(policy: Policy, state: BreakerState, ticket: Ticket, end: (Outcome, bool), now: u64) -> Change {
    policy.judge(state, ticket, end, || None, || at(now), || 7)
}

/// The state after a call that was not slow.
fn judge(policy: Policy, state: BreakerState, ticket: Ticket, outcome: Outcome, now: u64) -> BreakerState {
    match change(policy, state, ticket, (outcome, false), now) {
        Change::Nothing => state,
        Change::Count(next) => {
            assert_eq!(next.state(), state.state());
            next
        }
        Change::Transition(next, _) => next,
    }
}

#[test]
fn a_state_survives_its_word() {
    let states = [
        BreakerState::START,
        BreakerState::Closed { generation: (1 << 42) - 1, failures: MAX_FAILURES_LIMIT },
        BreakerState::Open { until: at(86_400 * 365 * 100) },
        BreakerState::Open { until: Moment::from_nanos(1) },
        BreakerState::Isolated,
        BreakerState::half_open(at(77)),
        BreakerState::HalfOpen { since: at(64), successes: HALF_OPEN_MAX_CALLS_LIMIT },
    ];
    for state in states {
        assert_eq!(BreakerState::unpack(state.pack()), state);
    }
}

// CB-1: consecutive failures open it, a success sets the count back.
#[test]
fn consecutive_failures_open() {
    let policy = policy(3, 1);
    let ticket = Ticket::Closed { generation: 0 };
    let mut state = BreakerState::START;
    for outcome in [Outcome::Failure, Outcome::Failure, Outcome::Success, Outcome::Failure, Outcome::Failure] {
        state = judge(policy, state, ticket, outcome, 1);
        assert_eq!(state.state(), CircuitState::Closed);
    }
    assert_eq!(judge(policy, state, ticket, Outcome::Ignored, 1), state);
    assert_eq!(judge(policy, state, ticket, Outcome::Failure, 1), BreakerState::Open { until: at(31) });
}

// CB-3: half-open exactly when reset_timeout has passed, and a stale clock is not trusted to say so.
#[test]
fn an_open_breaker_recovers_on_time() {
    let policy = policy(1, 1);
    let open = BreakerState::Open { until: at(31) };
    let admit = |reading| policy.admit(open, || reading);
    let exact = |nanos| Reading::exact(Moment::from_nanos(nanos));
    assert_eq!(admit(exact(31_000_000_000 - 1)), Admission::Reject { until: at(31) });
    assert_eq!(admit(exact(31_000_000_000)), Admission::Recover(BreakerState::half_open(at(31))));
    assert_eq!(admit(Reading::stale(Moment::from_nanos(30_999_000_000), SECOND)), Admission::Unclear);
}

// CB-3: failures of calls admitted before it opened never lengthen the wait. CB-6: nor decide anything else.
#[test]
fn an_outcome_of_another_generation_decides_nothing() {
    let policy = policy(1, 1);
    let states = [
        BreakerState::Open { until: at(31) },
        BreakerState::half_open(at(31)),
        BreakerState::Isolated,
        BreakerState::Closed { generation: 1, failures: 0 },
    ];
    let tickets = [Ticket::Closed { generation: 0 }, Ticket::HalfOpen { since: at(1) }];
    for state in states {
        for ticket in tickets {
            for outcome in [Outcome::Success, Outcome::Failure, Outcome::Ignored] {
                assert_eq!(judge(policy, state, ticket, outcome, 40), state);
            }
        }
    }
}

// CB-1, CB-6: what the hot path decides at a glance is what the rules decide.
#[test]
fn a_glance_agrees_with_the_rules() {
    let policy = policy(3, 2);
    let closed = |generation, failures| BreakerState::Closed { generation, failures };
    let states = [
        closed(0, 0),
        closed(0, 1),
        closed(1, 0),
        BreakerState::Open { until: at(31) },
        BreakerState::half_open(at(64)),
        BreakerState::Isolated,
    ];
    for state in states {
        let admitted = match policy.admit(state, || Reading::exact(at(1))) {
            Admission::Pass(ticket) => Some(ticket),
            _ => None,
        };
        assert_eq!(state.pass(), admitted);
        let unmoved = admitted.is_some_and(|ticket| judge(policy, state, ticket, Outcome::Success, 1) == state);
        assert_eq!(state.is_healthy(), unmoved);
    }
}

// CB-4: so many successes close it, one failure opens it for a whole reset_timeout.
#[test]
fn half_open_calls_close_or_open_again() {
    let policy = policy(1, 2);
    let half_open = BreakerState::half_open(at(64));
    let Admission::HalfOpen { since } = policy.admit(half_open, || unreachable!()) else { panic!("no half-open call") };
    let ticket = Ticket::HalfOpen { since };
    let once = judge(policy, half_open, ticket, Outcome::Success, 65);
    assert_eq!(once.state(), CircuitState::HalfOpen);
    assert_eq!(judge(policy, once, ticket, Outcome::Success, 66), BreakerState::Closed { generation: 7, failures: 0 });
    assert_eq!(judge(policy, once, ticket, Outcome::Ignored, 66), once);
    assert_eq!(judge(policy, once, ticket, Outcome::Failure, 66), BreakerState::Open { until: at(96) });
}

// CB-5: a slot is free again after half_open_timeout, and in the next half-open period.
#[test]
fn a_slot_is_freed() {
    let policy = policy(1, 1);
    let slot = policy.take(HalfOpenSlot::FREE, at(64), at(65)).unwrap();
    assert_eq!(slot.lost_at(), at(75));
    assert_eq!(policy.take(slot, at(64), at(74)), None);
    assert!(policy.take(slot, at(64), at(75)).is_some());
    assert!(policy.take(slot, at(66), at(66)).is_some(), "held since an earlier period");
}

// CB-5: an outcome counts however late it comes, as long as the half-open period of its admission lasts.
#[test]
fn a_late_outcome_counts_in_its_period() {
    let policy = policy(1, 2);
    let ticket = Ticket::HalfOpen { since: at(64) };
    let late = 64 + 10 * policy.half_open_timeout().as_secs();
    let once = judge(policy, BreakerState::half_open(at(64)), ticket, Outcome::Success, late);
    assert_eq!(once, BreakerState::HalfOpen { since: at(64), successes: 1 });
    assert_eq!(judge(policy, once, ticket, Outcome::Failure, late), BreakerState::Open { until: at(late + 30) });
    let next_period = BreakerState::half_open(at(late + 30));
    assert_eq!(judge(policy, next_period, ticket, Outcome::Success, late + 40), next_period);
}

// ALL-1: numbers that make no sense are an error that names them.
#[test]
fn nonsense_is_refused() {
    let error = |result: Result<Policy, InvalidArgument>| result.unwrap_err().to_string();
    assert_eq!(
        error(Policy::new(Some(0), SECOND, 1, SECOND)),
        "`max_failures` is 0, but must be a whole number from 1 to 1048575"
    );
    assert_eq!(
        error(Policy::new(Some(1), SECOND, 101, SECOND)),
        "`half_open_max_calls` is 101, but must be a whole number from 1 to 100"
    );
    assert_eq!(
        error(Policy::new(Some(1), Duration::ZERO, 1, SECOND)),
        "`reset_timeout` is 0ns, but must be from 1 µs to 100 years"
    );
    assert!(error(Policy::new(Some(1), SECOND, 1, Duration::MAX)).starts_with("`half_open_timeout` is"));
}

// CB-2: a wait is never longer than the open period: a stale reading just after its beginning is not trusted.
#[test]
fn a_wait_is_not_longer_than_the_open_period() {
    let policy = policy(1, 1);
    let admit = |reading| policy.admit(BreakerState::Open { until: at(31) }, || reading);
    assert_eq!(admit(Reading::stale(Moment::from_nanos(999_999_999), SECOND)), Admission::Unclear);
    assert_eq!(admit(Reading::stale(at(1), SECOND)), Admission::Reject { until: at(31) });
    let long = BreakerState::Open { until: at(1_000) };
    assert_eq!(policy.admit(long, || Reading::exact(at(1))), Admission::Reject { until: at(1_000) });
    assert_eq!(Policy::remaining(at(31), at(1)), 30 * SECOND);
    assert_eq!(Policy::remaining(at(31), at(32)), Duration::ZERO);
    assert_eq!(Policy::remaining(Moment::NEVER, at(1)), Duration::MAX);
}

// CB-22: each transition has its cause.
#[test]
fn transitions_have_causes() {
    let policy = policy(2, 2);
    let (closed, half_open) = (Ticket::Closed { generation: 0 }, Ticket::HalfOpen { since: at(64) });
    let cause = |state, ticket, end| match change(policy, state, ticket, end, 65) {
        Change::Transition(_, cause) => Some(cause),
        _ => None,
    };
    let once = BreakerState::Closed { generation: 0, failures: 1 };
    assert_eq!(cause(once, closed, (Outcome::Failure, false)), Some(Cause::ConsecutiveFailures(2)));
    assert_eq!(cause(BreakerState::START, closed, (Outcome::Failure, false)), None);
    assert_eq!(
        cause(BreakerState::half_open(at(64)), half_open, (Outcome::Failure, false)),
        Some(Cause::HalfOpenFailure)
    );
    let once = BreakerState::HalfOpen { since: at(64), successes: 1 };
    assert_eq!(cause(once, half_open, (Outcome::Success, false)), Some(Cause::Successes(2)));
}

// CB-15: a slow half-open call is a failure, and an ignored one is not, however slow.
#[test]
fn a_slow_half_open_call_is_a_failure() {
    let policy = policy(1, 1);
    let state = BreakerState::half_open(at(64));
    let end = |outcome| change(policy, state, Ticket::HalfOpen { since: at(64) }, (outcome, true), 65);
    let open = Change::Transition(BreakerState::Open { until: at(95) }, Cause::HalfOpenFailure);
    assert_eq!([end(Outcome::Success), end(Outcome::Failure)], [open, open]);
    assert_eq!(end(Outcome::Ignored), Change::Nothing);
}

// CB-16: a failure with a time opens for that time, clamped to 1 ms and an hour or a longer reset_timeout.
#[test]
fn a_failure_with_a_time_opens_for_it() {
    let policy = policy(5, 3);
    let opened = |policy: Policy, state, ticket, time| match change(
        policy,
        state,
        ticket,
        (Outcome::FailureFor(time), false),
        100,
    ) {
        Change::Transition(BreakerState::Open { until }, Cause::RetryAfter(clamped)) => {
            assert_eq!(until.since(at(100)), clamped);
            clamped
        }
        other => panic!("{other:?}"),
    };
    let closed = |time| opened(policy, BreakerState::START, Ticket::Closed { generation: 0 }, time);
    let hour = 3600 * SECOND;
    assert_eq!(closed(7 * SECOND), 7 * SECOND);
    assert_eq!(closed(Duration::ZERO), Duration::from_millis(1));
    assert_eq!([closed(hour), closed(hour + SECOND), closed(Duration::MAX)], [hour; 3]);
    assert_eq!(opened(policy, BreakerState::half_open(at(64)), Ticket::HalfOpen { since: at(64) }, SECOND), SECOND);
    let patient = Policy::new(Some(1), 2 * hour, 1, SECOND).unwrap();
    assert_eq!(opened(patient, BreakerState::START, Ticket::Closed { generation: 0 }, Duration::MAX), 2 * hour);
    let late = change(
        policy,
        BreakerState::Open { until: at(31) },
        Ticket::Closed { generation: 0 },
        (Outcome::FailureFor(hour), false),
        1,
    );
    assert_eq!(late, Change::Nothing, "CB-6");
}

// CB-14: without max_failures failures are not counted; the window is asked after failures and slow calls alone.
#[test]
fn a_window_opens_without_a_count() {
    let policy = Policy::new(None, 30 * SECOND, 1, SECOND).unwrap();
    assert_eq!(policy.max_failures(), None);
    let cause = Cause::FailureRate { failed: 5, calls: 10 };
    let ticket = Ticket::Closed { generation: 0 };
    let end = |end, tripped: Option<Cause>| policy.judge(BreakerState::START, ticket, end, || tripped, || at(1), || 7);
    let open = Change::Transition(BreakerState::Open { until: at(31) }, cause);
    assert_eq!(end((Outcome::Failure, false), Some(cause)), open);
    assert_eq!(end((Outcome::Failure, false), None), Change::Nothing);
    assert_eq!(end((Outcome::Success, true), Some(cause)), open);
    let not_asked = |end| policy.judge(BreakerState::START, ticket, end, || panic!("asked"), || at(1), || 7);
    assert_eq!(not_asked((Outcome::Success, false)), Change::Nothing);
    assert_eq!(not_asked((Outcome::Ignored, true)), Change::Nothing);
}

// CB-14: with max_failures as well either opens, and a success sets the count back.
#[test]
fn a_window_and_a_count_open() {
    let policy = policy(2, 1);
    let ticket = Ticket::Closed { generation: 0 };
    let cause = Cause::FailureRate { failed: 9, calls: 9 };
    let once = BreakerState::Closed { generation: 0, failures: 1 };
    let end = |state, end, tripped: Option<Cause>| policy.judge(state, ticket, end, || tripped, || at(1), || 7);
    let open = |cause| Change::Transition(BreakerState::Open { until: at(31) }, cause);
    assert_eq!(end(BreakerState::START, (Outcome::Failure, false), Some(cause)), open(cause));
    assert_eq!(end(BreakerState::START, (Outcome::Failure, false), None), Change::Count(once));
    assert_eq!(end(once, (Outcome::Failure, false), None), open(Cause::ConsecutiveFailures(2)));
    assert_eq!(end(once, (Outcome::Success, true), None), Change::Count(BreakerState::START));
}

// CB-18, CB-22: what is shown of a state at a time, without changing it.
#[test]
fn a_state_is_shown_as_of_now() {
    let open = BreakerState::Open { until: at(31) };
    assert_eq!([open.state_at(|| at(30)), open.state_at(|| at(31))], [CircuitState::Open, CircuitState::HalfOpen]);
    let other = [BreakerState::START, BreakerState::half_open(at(64)), BreakerState::Isolated];
    assert!(other.iter().all(|state| state.state_at(|| panic!("no time needed")) == state.state()));
    assert_eq!(BreakerState::Isolated.mode(), CircuitMode::Isolated);
    assert_eq!([open.mode(), BreakerState::START.mode()], [CircuitMode::Normal; 2]);
    assert_eq!([CircuitMode::Normal, CircuitMode::Isolated].map(|mode| mode.to_string()), ["normal", "isolated"]);
}

// CB-16: what holds without a classifier.
#[test]
fn a_result_is_an_outcome() {
    assert_eq!(
        [Outcome::from(&Ok::<_, ()>(())), Outcome::from(&Err::<(), _>(()))],
        [Outcome::Success, Outcome::Failure]
    );
    let failures = [Outcome::Failure, Outcome::FailureFor(SECOND)];
    assert!(failures.iter().all(|outcome| outcome.is_failure()));
    assert!(!Outcome::Success.is_failure() && !Outcome::Ignored.is_failure());
}
