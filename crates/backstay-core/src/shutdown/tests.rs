use alloc::string::ToString;
use alloc::vec::Vec;
use core::iter::from_fn;

use proptest::prelude::*;

use super::*;

fn at(millis: u64) -> Moment {
    Moment::ORIGIN + ms(millis)
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn entry(name: &str, priority: i32) -> Entry<()> {
    Entry { name: name.into(), priority, timeout: None, callback: () }
}

#[derive(Clone, Debug)]
enum Op {
    Add(u8, i32),
    Remove(u8),
    Next,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..12u8, prop_oneof![-2..3i32, any::<i32>()]).prop_map(|(name, priority)| Op::Add(name, priority)),
        1 => (0..12u8).prop_map(Op::Remove),
        1 => Just(Op::Next),
    ]
}

proptest! {
    #![proptest_config(crate::cases(256))]

    // GS-1: against a list that is searched for the lowest (priority, time of registration) at each turn.
    #[test]
    fn turns_follow_priority_then_registration(ops in proptest::collection::vec(op(), 0..40)) {
        let mut roster = Roster::default();
        let mut model: Vec<(i32, usize, u8)> = Vec::new();
        for (time, op) in ops.into_iter().enumerate() {
            match op {
                Op::Add(name, priority) => {
                    let added = roster.add(entry(&name.to_string(), priority)).is_ok();
                    prop_assert_eq!(added, model.iter().all(|other| other.2 != name));
                    if added {
                        model.push((priority, time, name));
                    }
                }
                Op::Remove(name) => {
                    let known = model.len();
                    model.retain(|other| other.2 != name);
                    prop_assert_eq!(roster.remove(&name.to_string()).is_some(), model.len() < known);
                }
                Op::Next => {
                    let lowest = model.iter().min().copied();
                    model.retain(|other| Some(*other) != lowest);
                    let turn = roster.next().map(|entry| (entry.priority, entry.name.to_string()));
                    prop_assert_eq!(turn, lowest.map(|(priority, _, name)| (priority, name.to_string())));
                }
            }
            prop_assert_eq!(roster.len(), model.len());
            prop_assert_eq!(roster.is_empty(), model.is_empty());
        }
    }

    // GS-4: never more than its own, never more than what is left but for the short turn, and never nothing.
    #[test]
    fn a_turn_stays_within_its_bounds(total: u64, own: Option<u64>, begun: u64, now: u64) {
        let (total, own) = (Duration::from_nanos(total), own.map(Duration::from_nanos));
        let begun = Moment::from_nanos(begun);
        let now = begun.max(Moment::from_nanos(now));
        let left = (begun + total).since(now);
        let turn = Budget::start(begun, total).turn(now, own);
        prop_assert!(turn <= own.unwrap_or(Duration::MAX));
        prop_assert!(turn <= left.max(SHORT_TURN));
        prop_assert!(turn >= SHORT_TURN.min(own.unwrap_or(SHORT_TURN)));
        prop_assert!(turn == left.max(SHORT_TURN) || Some(turn) == own);
    }
}

// GS-1: equal priorities, and the default, in order of registration.
#[test]
fn equal_priorities_keep_the_order_of_registration() {
    let mut roster = Roster::default();
    for (name, priority) in [("a", DEFAULT_PRIORITY), ("b", 10), ("c", DEFAULT_PRIORITY), ("d", 10), ("e", -5)] {
        roster.add(entry(name, priority)).unwrap();
    }
    assert_eq!(roster.add(entry("c", 1)), Err(entry("c", 1)));
    let order: Vec<_> = from_fn(|| roster.next()).map(|entry| entry.name.to_string()).collect();
    assert_eq!(order, ["e", "b", "d", "a", "c"]);
}

// GS-4
#[test]
fn a_turn_is_its_own_timeout_what_is_left_or_the_short_turn() {
    let budget = Budget::start(at(1_000), ms(10_000));
    assert_eq!(budget.turn(at(1_000), None), ms(10_000));
    assert_eq!(budget.turn(at(4_000), None), ms(7_000));
    assert_eq!(budget.turn(at(4_000), Some(ms(2_000))), ms(2_000));
    assert_eq!(budget.turn(at(4_000), Some(ms(9_000))), ms(7_000));
    assert_eq!(budget.turn(at(10_999), None), SHORT_TURN);
    assert_eq!(budget.turn(at(11_000), None), SHORT_TURN);
    assert_eq!(budget.turn(at(99_000), Some(ms(9_000))), SHORT_TURN);
    assert_eq!(budget.turn(at(99_000), Some(ms(40))), ms(40));
    assert_eq!(SHORT_TURN, ms(250));
}

// GS-6: the first runs the callbacks, nobody else, whatever happens in between.
#[test]
fn a_shutdown_begins_once() {
    let mut progress = Progress::default();
    assert!(progress.begin());
    assert!(!progress.begin() && !progress.is_signalled());
    assert_eq!(progress.signal(false), OnSignal::Note);
    assert!(progress.is_signalled());
    assert!(progress.finish(true), "a signal asked for it meanwhile");
    assert!(!progress.begin());
    assert_eq!(progress.phase(), Phase::Over);
}

// GS-5
#[test]
fn a_second_signal_ends_the_process_and_hanging_callbacks_do_at_the_end() {
    let mut progress = Progress::default();
    assert_eq!(progress.signal(false), OnSignal::Begin);
    assert_eq!(progress.phase(), Phase::Running);
    assert_eq!(progress.signal(false), OnSignal::Exit);

    let mut progress = Progress::default();
    assert_eq!(progress.signal(false), OnSignal::Begin);
    assert!(!progress.finish(false), "nothing runs any more");
    assert_eq!(progress.signal(false), OnSignal::Exit, "whoever asks twice does not want to wait for the rest");

    let mut progress = Progress::default();
    assert_eq!(progress.signal(false), OnSignal::Begin);
    assert!(progress.finish(true));
}

// GS-5: neither happens on `trigger()`; a signal during or after it is the first one.
#[test]
fn a_triggered_shutdown_never_ends_the_process_before_a_signal_asks_for_it() {
    let mut progress = Progress::default();
    assert!(progress.begin());
    assert!(!progress.finish(true));
    assert_eq!(progress.signal(true), OnSignal::ForceExit);
    assert_eq!(progress.signal(true), OnSignal::Exit);

    let mut progress = Progress::default();
    assert!(progress.begin());
    assert!(!progress.finish(false));
    assert_eq!(progress.signal(false), OnSignal::Note);
}

#[test]
fn plans_that_cannot_be_meant_are_refused_by_name() {
    let refused = |timeout, drain, code| Plan::new(timeout, drain, code).unwrap_err().argument;
    assert_eq!(refused(Duration::ZERO, Duration::ZERO, 1), "timeout");
    assert_eq!(refused(Duration::MAX, Duration::ZERO, 1), "timeout");
    assert_eq!(refused(ms(1), Duration::MAX, 1), "drain_delay");
    assert_eq!(refused(ms(1), Duration::ZERO, 256), "force_exit_code");
    assert_eq!(refused(ms(1), Duration::ZERO, -1), "force_exit_code");
    let plan = Plan::new(DEFAULT_TIMEOUT, DEFAULT_DRAIN_DELAY, DEFAULT_FORCE_EXIT_CODE).unwrap();
    assert_eq!((plan.timeout(), plan.drain_delay(), plan.force_exit_code()), (ms(30_000), ms(0), 1));

    let (day, more) = (ms(86_400_000), ms(86_400_000) + Duration::from_nanos(1));
    assert_eq!(refused(more, day, 255), "timeout");
    assert_eq!(refused(day, more, 255), "drain_delay");
    let plan = Plan::new(day, day, 255).unwrap();
    assert_eq!((plan.timeout(), plan.drain_delay(), plan.force_exit_code()), (day, day, 255));
    let plan = Plan::new(Duration::from_nanos(1), Duration::ZERO, 0).unwrap();
    assert_eq!((plan.timeout(), plan.drain_delay(), plan.force_exit_code()), (Duration::from_nanos(1), ms(0), 0));
}

// GS-9
#[test]
fn an_untouched_async_callback_keeps_half_of_its_turn() {
    assert_eq!(first_poll_within(ms(250)), ms(125));
    assert_eq!(first_poll_within(ms(30_000)), ms(1_000));
}

// GS-8
#[test]
fn a_report_is_one_line_a_callback_whatever_is_in_their_names() {
    let mut report = Report::default();
    assert!(report.is_clean());
    assert_eq!(report.to_string(), "shutdown took 0.000 s: 0 completed, 0 failed, 0 timed out");
    let why = Outcome::Failed("one\ntwo".into());
    report.steps.push(Step::new("a\nb".into(), -3, why.clone(), ms(5)));
    report.steps.push(Step::new("é".into(), 100, Outcome::TimedOut, ms(12_345)));
    assert!(!report.is_clean());
    report.steps.push(Step::new("b".into(), 100, Outcome::Completed, ms(1)));
    assert_eq!(report.step("a\nb").map(|step| &step.outcome), Some(&why));
    assert_eq!(
        report.to_string(),
        "shutdown took 0.000 s: 1 completed, 1 failed, 1 timed out\n\
         priority  callback    took  outcome\n      \
         -3  a\\nb      0.005s  failed: one\\ntwo\n     \
         100  é         12.345s  timed out\n     \
         100  b         0.001s  completed"
    );
    report.steps.retain(|step| step.outcome == Outcome::Completed);
    assert!(report.is_clean());
    assert_eq!(report.step("a\nb"), None);
}
