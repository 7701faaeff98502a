//! The rules of the breaker on literal times.
#![allow(clippy::unwrap_used)]

use alloc::string::ToString;

use super::*;

mod bounds;
mod rates;

const SECOND: Duration = Duration::from_secs(1);

fn policy(max_failures: u32, half_open_max_calls: u32) -> Policy {
    Policy::new(max_failures, 30 * SECOND, half_open_max_calls, 10 * SECOND).unwrap()
}

fn at(seconds: u64) -> Moment {
    Moment::ORIGIN + Duration::from_secs(seconds)
}

fn judge(policy: Policy, state: BreakerState, ticket: Ticket, outcome: Outcome, now: u64) -> BreakerState {
    policy.judge(state, ticket, outcome, || at(now), || 7)
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
        error(Policy::new(0, SECOND, 1, SECOND)),
        "`max_failures` is 0, but must be a whole number from 1 to 1048575"
    );
    assert_eq!(
        error(Policy::new(1, SECOND, 101, SECOND)),
        "`half_open_max_calls` is 101, but must be a whole number from 1 to 100"
    );
    assert_eq!(
        error(Policy::new(1, Duration::ZERO, 1, SECOND)),
        "`reset_timeout` is 0ns, but must be from 1 µs to 100 years"
    );
    assert!(error(Policy::new(1, SECOND, 1, Duration::MAX)).starts_with("`half_open_timeout` is"));
}
