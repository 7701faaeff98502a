//! Bounds at both sides, words, and states beside counters.

use proptest::prelude::*;

use super::*;

fn states() -> impl Strategy<Value = BreakerState> {
    prop_oneof![
        (0..1_u64 << 42, 0..1_u32 << 20)
            .prop_map(|(generation, failures)| BreakerState::Closed { generation, failures }),
        (0..1_u64 << 62).prop_map(|until| BreakerState::Open { until: Moment::from_nanos(until) }),
        Just(BreakerState::Isolated),
        (0..1_u64 << 55, 0..128_u32)
            .prop_map(|(since, successes)| BreakerState::HalfOpen { since: Moment::from_nanos(since * 64), successes }),
    ]
}

proptest! {
    #![proptest_config(crate::cases(512))]

    #[test]
    fn every_state_has_a_word_of_its_own(state in states(), other in states()) {
        prop_assert_eq!(BreakerState::unpack(state.pack()), state);
        prop_assert_eq!(state.pack() == other.pack(), state == other);
    }

    // CB-1, CB-4, CB-7: beside a count of failures and a count of successes.
    #[test]
    fn a_state_is_what_its_history_says(
        max_failures in 1..6_u32, max_calls in 1..6_u32, half_open: bool, outcomes in prop::collection::vec(0..5_u8, 0..30),
    ) {
        let policy = policy(max_failures, max_calls);
        let (mut state, ticket) = if half_open {
            (BreakerState::half_open(at(64)), Ticket::HalfOpen { since: at(64) })
        } else {
            (BreakerState::START, Ticket::Closed { generation: 0 })
        };
        let (mut failures, mut successes) = (0, 0);
        for outcome in outcomes {
            let outcome = [Outcome::Success, Outcome::Ignored, Outcome::Failure][usize::from(outcome.min(2))];
            state = judge(policy, state, ticket, outcome, 70);
            match outcome {
                Outcome::Success => (failures, successes) = (0, successes + 1),
                Outcome::Failure | Outcome::FailureFor(_) => failures += 1,
                Outcome::Ignored => {}
            }
            let expected = match half_open {
                false if failures == max_failures => BreakerState::Open { until: at(100) },
                false => BreakerState::Closed { generation: 0, failures },
                true if failures > 0 => BreakerState::Open { until: at(100) },
                true if successes == max_calls => BreakerState::Closed { generation: 7, failures: 0 },
                true => BreakerState::HalfOpen { since: at(64), successes },
            };
            prop_assert_eq!(state, expected);
            if state.state() != (if half_open { CircuitState::HalfOpen } else { CircuitState::Closed }) {
                break;
            }
        }
    }
}

// CB-1, CB-3, CB-4, CB-5
#[test]
fn a_policy_keeps_what_it_was_told_within_its_bounds() {
    let nanosecond = Duration::from_nanos(1);
    let policy = Policy::new(Some(7), 30 * SECOND, 3, 10 * SECOND).unwrap();
    assert_eq!((policy.max_failures(), policy.half_open_max_calls()), (Some(7), 3));
    assert_eq!((policy.reset_timeout(), policy.half_open_timeout()), (30 * SECOND, 10 * SECOND));

    let refused =
        |failures, reset, calls, half_open| Policy::new(Some(failures), reset, calls, half_open).unwrap_err().argument;
    let (shortest, longest) = (Duration::from_nanos(1_000), Duration::from_secs(3_153_600_000));
    assert!(Policy::new(Some(1_048_575), longest, 100, longest).is_ok());
    assert!(Policy::new(Some(1), shortest, 1, shortest).is_ok());
    assert_eq!(refused(1_048_576, SECOND, 1, SECOND), "max_failures");
    assert_eq!(refused(1, SECOND, 0, SECOND), "half_open_max_calls");
    assert_eq!(refused(1, shortest - nanosecond, 1, SECOND), "reset_timeout");
    assert_eq!(refused(1, longest + nanosecond, 1, SECOND), "reset_timeout");
    assert_eq!(refused(1, SECOND, 1, shortest - nanosecond), "half_open_timeout");
    assert_eq!(refused(1, SECOND, 1, longest + nanosecond), "half_open_timeout");
}

#[test]
fn a_state_is_shown_as_its_name() {
    let shown =
        [CircuitState::Closed, CircuitState::Open, CircuitState::HalfOpen].map(|state| alloc::format!("{state:>9}"));
    assert_eq!(shown, ["   closed", "     open", "half-open"]);
}

// ALL-1: the last moment that fits into a word.
#[test]
fn an_open_period_ends_with_the_word() {
    let now = Moment::from_nanos(u64::MAX - 5);
    let ticket = Ticket::Closed { generation: 0 };
    let end = (Outcome::Failure, false);
    let change = policy(1, 1).judge(BreakerState::START, ticket, end, || None, || now, || 7);
    let Change::Transition(opened, _) = change else { panic!("{change:?}") };
    assert_eq!(opened, BreakerState::Open { until: Moment::from_nanos(4_611_686_018_427_387_903) });
    assert_eq!(BreakerState::unpack(opened.pack()), opened);
}

// CB-5: the end of the open period, in steps of 64 ns, names the half-open period.
#[test]
fn a_half_open_period_begins_on_a_step() {
    let since = |until| BreakerState::half_open(Moment::from_nanos(until));
    assert_eq!(since(1_000), BreakerState::HalfOpen { since: Moment::from_nanos(960), successes: 0 });
    assert_eq!(since(1_024), BreakerState::HalfOpen { since: Moment::from_nanos(1_024), successes: 0 });
}

// CB-5: a slot is held for half_open_timeout, by a call that was admitted since the period began; at its beginning, too.
#[test]
fn a_slot_is_held_until_its_moment() {
    let held = HalfOpenSlot::until(at(30));
    assert_eq!([HalfOpenSlot::FREE, held].map(|slot| HalfOpenSlot::unpack(slot.pack())), [HalfOpenSlot::FREE, held]);
    assert_eq!((HalfOpenSlot::FREE.pack(), held.pack(), held.lost_at()), (0, at(30).as_nanos(), at(30)));
    let is_free = |since, now| held.is_free(10 * SECOND, at(since), at(now));
    assert_eq!([is_free(19, 29), is_free(20, 29), is_free(21, 29), is_free(20, 30)], [false, false, true, true]);
}
