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

fn judge(policy: Policy, phase: Phase, ticket: Ticket, verdict: Verdict, now: u64) -> Phase {
    policy.judge(phase, ticket, verdict, || at(now), || 7)
}

#[test]
fn a_phase_survives_its_word() {
    let phases = [
        Phase::START,
        Phase::Closed { generation: (1 << 42) - 1, failures: MAX_FAILURES_LIMIT },
        Phase::Open { until: at(86_400 * 365 * 100) },
        Phase::Open { until: Moment::from_nanos(1) },
        Phase::Isolated,
        Phase::half_open(at(77)),
        Phase::HalfOpen { since: at(64), successes: HALF_OPEN_MAX_CALLS_LIMIT },
    ];
    for phase in phases {
        assert_eq!(Phase::unpack(phase.pack()), phase);
    }
}

// CB-1: consecutive failures open it, a success sets the count back.
#[test]
fn consecutive_failures_open() {
    let policy = policy(3, 1);
    let ticket = Ticket::Closed { generation: 0 };
    let mut phase = Phase::START;
    for verdict in [Verdict::Failure, Verdict::Failure, Verdict::Success, Verdict::Failure, Verdict::Failure] {
        phase = judge(policy, phase, ticket, verdict, 1);
        assert_eq!(phase.state(), CircuitState::Closed);
    }
    assert_eq!(judge(policy, phase, ticket, Verdict::Neutral, 1), phase);
    assert_eq!(judge(policy, phase, ticket, Verdict::Failure, 1), Phase::Open { until: at(31) });
}

// CB-3: half-open exactly when reset_timeout has passed, and a stale clock is not trusted to say so.
#[test]
fn an_open_breaker_recovers_on_time() {
    let policy = policy(1, 1);
    let open = Phase::Open { until: at(31) };
    let admit = |reading| policy.admit(open, || reading);
    let exact = |nanos| Reading::exact(Moment::from_nanos(nanos));
    assert_eq!(admit(exact(31_000_000_000 - 1)), Admission::Reject { until: at(31) });
    assert_eq!(admit(exact(31_000_000_000)), Admission::Recover(Phase::half_open(at(31))));
    assert_eq!(admit(Reading::stale(Moment::from_nanos(30_999_000_000), SECOND)), Admission::Unclear);
}

// CB-3: failures of calls admitted before it opened never lengthen the wait. CB-6: nor decide anything else.
#[test]
fn a_verdict_of_another_generation_decides_nothing() {
    let policy = policy(1, 1);
    let phases = [
        Phase::Open { until: at(31) },
        Phase::half_open(at(31)),
        Phase::Isolated,
        Phase::Closed { generation: 1, failures: 0 },
    ];
    let tickets = [Ticket::Closed { generation: 0 }, Ticket::Trial { since: at(1) }];
    for phase in phases {
        for ticket in tickets {
            for verdict in [Verdict::Success, Verdict::Failure, Verdict::Neutral] {
                assert_eq!(judge(policy, phase, ticket, verdict, 40), phase);
            }
        }
    }
}

// CB-1, CB-6: what the hot path decides at a glance is what the rules decide.
#[test]
fn a_glance_agrees_with_the_rules() {
    let policy = policy(3, 2);
    let closed = |generation, failures| Phase::Closed { generation, failures };
    let phases = [
        closed(0, 0),
        closed(0, 1),
        closed(1, 0),
        Phase::Open { until: at(31) },
        Phase::half_open(at(64)),
        Phase::Isolated,
    ];
    for phase in phases {
        let admitted = match policy.admit(phase, || Reading::exact(at(1))) {
            Admission::Pass(ticket) => Some(ticket),
            _ => None,
        };
        assert_eq!(phase.pass(), admitted);
        let unmoved = admitted.is_some_and(|ticket| judge(policy, phase, ticket, Verdict::Success, 1) == phase);
        assert_eq!(phase.is_well(), unmoved);
    }
}

// CB-4: so many successes close it, one failure opens it for a whole reset_timeout.
#[test]
fn trials_close_or_open_again() {
    let policy = policy(1, 2);
    let half_open = Phase::half_open(at(64));
    let Admission::Trial { since } = policy.admit(half_open, || unreachable!()) else { panic!("no trial") };
    let ticket = Ticket::Trial { since };
    let once = judge(policy, half_open, ticket, Verdict::Success, 65);
    assert_eq!(once.state(), CircuitState::HalfOpen);
    assert_eq!(judge(policy, once, ticket, Verdict::Success, 66), Phase::Closed { generation: 7, failures: 0 });
    assert_eq!(judge(policy, once, ticket, Verdict::Neutral, 66), once);
    assert_eq!(judge(policy, once, ticket, Verdict::Failure, 66), Phase::Open { until: at(96) });
}

// CB-5: a place is free again after half_open_timeout, and in the next half-open period.
#[test]
fn a_place_comes_back() {
    let policy = policy(1, 1);
    let place = policy.take(Place::FREE, at(64), at(65)).unwrap();
    assert_eq!(place.lost_at(), at(75));
    assert_eq!(policy.take(place, at(64), at(74)), None);
    assert!(policy.take(place, at(64), at(75)).is_some());
    assert!(policy.take(place, at(66), at(66)).is_some(), "held since an earlier period");
}

// CB-5: an outcome counts however late it comes, as long as the half-open period of its admission lasts.
#[test]
fn a_late_outcome_counts_in_its_period() {
    let policy = policy(1, 2);
    let ticket = Ticket::Trial { since: at(64) };
    let late = 64 + 10 * policy.half_open_timeout().as_secs();
    let once = judge(policy, Phase::half_open(at(64)), ticket, Verdict::Success, late);
    assert_eq!(once, Phase::HalfOpen { since: at(64), successes: 1 });
    assert_eq!(judge(policy, once, ticket, Verdict::Failure, late), Phase::Open { until: at(late + 30) });
    let next_period = Phase::half_open(at(late + 30));
    assert_eq!(judge(policy, next_period, ticket, Verdict::Success, late + 40), next_period);
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
