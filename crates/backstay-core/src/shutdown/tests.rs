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

fn entry(name: &str, priority: i32) -> QueuedCallback<()> {
    QueuedCallback { name: name.into(), priority, timeout: None, callback: () }
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

    // GS-1: the model is a list that is searched for the lowest (priority, time of registration).
    #[test]
    fn callbacks_run_by_priority_then_by_registration(ops in proptest::collection::vec(op(), 0..40)) {
        let mut queue = CallbackQueue::default();
        let mut model: Vec<(i32, usize, u8)> = Vec::new();
        for (time, op) in ops.into_iter().enumerate() {
            match op {
                Op::Add(name, priority) => {
                    let added = queue.add(entry(&name.to_string(), priority)).is_ok();
                    prop_assert_eq!(added, model.iter().all(|other| other.2 != name));
                    if added {
                        model.push((priority, time, name));
                    }
                }
                Op::Remove(name) => {
                    let known = model.len();
                    model.retain(|other| other.2 != name);
                    prop_assert_eq!(queue.remove(&name.to_string()).is_some(), model.len() < known);
                }
                Op::Next => {
                    let lowest = model.iter().min().copied();
                    model.retain(|other| Some(*other) != lowest);
                    let next = queue.next().map(|entry| (entry.priority, entry.name.to_string()));
                    prop_assert_eq!(next, lowest.map(|(priority, _, name)| (priority, name.to_string())));
                }
            }
            prop_assert_eq!(queue.len(), model.len());
            prop_assert_eq!(queue.is_empty(), model.is_empty());
        }
    }

    // GS-4: at most the own timeout, at most the time left (but the minimum), and never zero.
    #[test]
    fn the_timeout_of_a_callback_stays_within_its_bounds(total: u64, own: Option<u64>, begun: u64, now: u64) {
        let (total, own) = (Duration::from_nanos(total), own.map(Duration::from_nanos));
        let begun = Moment::from_nanos(begun);
        let now = begun.max(Moment::from_nanos(now));
        let left = (begun + total).since(now);
        let timeout = Deadline::after(begun, total).callback_timeout(now, own);
        prop_assert!(timeout <= own.unwrap_or(Duration::MAX));
        prop_assert!(timeout <= left.max(MIN_CALLBACK_TIME));
        prop_assert!(timeout >= MIN_CALLBACK_TIME.min(own.unwrap_or(MIN_CALLBACK_TIME)));
        prop_assert!(timeout == left.max(MIN_CALLBACK_TIME) || Some(timeout) == own);
    }
}

// GS-1: callbacks of equal priority run in order of registration.
#[test]
fn equal_priorities_keep_the_order_of_registration() {
    let mut queue = CallbackQueue::default();
    for (name, priority) in [("a", DEFAULT_PRIORITY), ("b", 10), ("c", DEFAULT_PRIORITY), ("d", 10), ("e", -5)] {
        queue.add(entry(name, priority)).unwrap();
    }
    assert_eq!(queue.add(entry("c", 1)), Err(entry("c", 1)));
    let order: Vec<_> = from_fn(|| queue.next()).map(|entry| entry.name.to_string()).collect();
    assert_eq!(order, ["e", "b", "d", "a", "c"]);
}

// GS-4
#[test]
fn a_callback_gets_its_own_timeout_the_time_left_or_the_minimum() {
    let deadline = Deadline::after(at(1_000), ms(10_000));
    assert_eq!(deadline.callback_timeout(at(1_000), None), ms(10_000));
    assert_eq!(deadline.callback_timeout(at(4_000), None), ms(7_000));
    assert_eq!(deadline.callback_timeout(at(4_000), Some(ms(2_000))), ms(2_000));
    assert_eq!(deadline.callback_timeout(at(4_000), Some(ms(9_000))), ms(7_000));
    assert_eq!(deadline.callback_timeout(at(10_999), None), MIN_CALLBACK_TIME);
    assert_eq!(deadline.callback_timeout(at(11_000), None), MIN_CALLBACK_TIME);
    assert_eq!(deadline.callback_timeout(at(99_000), Some(ms(9_000))), MIN_CALLBACK_TIME);
    assert_eq!(deadline.callback_timeout(at(99_000), Some(ms(40))), ms(40));
    assert_eq!(MIN_CALLBACK_TIME, ms(250));
}

// GS-6: only the first caller runs the callbacks.
#[test]
fn a_shutdown_begins_once() {
    let mut progress = Progress::default();
    assert!(progress.begin());
    assert!(!progress.begin() && !progress.is_signalled());
    assert_eq!(progress.signal(false), SignalAction::Continue);
    assert!(progress.is_signalled());
    assert!(progress.finish(true), "a signal arrived in the meantime");
    assert!(!progress.begin());
    assert_eq!(progress.phase(), ShutdownPhase::Finished);
}

// GS-5
#[test]
fn a_second_signal_ends_the_process_and_so_do_callbacks_that_hang_at_the_end() {
    let mut progress = Progress::default();
    assert_eq!(progress.signal(false), SignalAction::Begin);
    assert_eq!(progress.phase(), ShutdownPhase::Running);
    assert_eq!(progress.signal(false), SignalAction::ExitNow);

    let mut progress = Progress::default();
    assert_eq!(progress.signal(false), SignalAction::Begin);
    assert!(!progress.finish(false), "no callback is still running");
    assert_eq!(progress.signal(false), SignalAction::ExitNow, "a second signal does not wait");

    let mut progress = Progress::default();
    assert_eq!(progress.signal(false), SignalAction::Begin);
    assert!(progress.finish(true));
}

// GS-5: `trigger()` alone does not end the process; a signal during or after it is the first signal.
#[test]
fn a_triggered_shutdown_ends_the_process_only_after_a_signal() {
    let mut progress = Progress::default();
    assert!(progress.begin());
    assert!(!progress.finish(true));
    assert_eq!(progress.signal(true), SignalAction::ForceExit);
    assert_eq!(progress.signal(true), SignalAction::ExitNow);

    let mut progress = Progress::default();
    assert!(progress.begin());
    assert!(!progress.finish(false));
    assert_eq!(progress.signal(false), SignalAction::Continue);
}

#[test]
fn invalid_plans_are_rejected_with_the_name_of_the_argument() {
    let rejected = |timeout, drain, code| ShutdownPlan::new(timeout, drain, code).unwrap_err().argument;
    assert_eq!(rejected(Duration::ZERO, Duration::ZERO, 1), "timeout");
    assert_eq!(rejected(Duration::MAX, Duration::ZERO, 1), "timeout");
    assert_eq!(rejected(ms(1), Duration::MAX, 1), "drain_delay");
    assert_eq!(rejected(ms(1), Duration::ZERO, 256), "force_exit_code");
    assert_eq!(rejected(ms(1), Duration::ZERO, -1), "force_exit_code");
    let plan = ShutdownPlan::new(DEFAULT_TIMEOUT, DEFAULT_DRAIN_DELAY, DEFAULT_FORCE_EXIT_CODE).unwrap();
    assert_eq!((plan.timeout(), plan.drain_delay(), plan.force_exit_code()), (ms(30_000), ms(0), 1));

    let (day, longer) = (ms(86_400_000), ms(86_400_000) + Duration::from_nanos(1));
    assert_eq!(rejected(longer, day, 255), "timeout");
    assert_eq!(rejected(day, longer, 255), "drain_delay");
    let plan = ShutdownPlan::new(day, day, 255).unwrap();
    assert_eq!((plan.timeout(), plan.drain_delay(), plan.force_exit_code()), (day, day, 255));
    let plan = ShutdownPlan::new(Duration::from_nanos(1), Duration::ZERO, 0).unwrap();
    assert_eq!((plan.timeout(), plan.drain_delay(), plan.force_exit_code()), (Duration::from_nanos(1), ms(0), 0));
}

// GS-9
#[test]
fn an_async_callback_that_is_not_polled_keeps_half_of_its_timeout() {
    assert_eq!(first_poll_within(ms(250)), ms(125));
    assert_eq!(first_poll_within(ms(30_000)), ms(1_000));
}

// GS-8
#[test]
fn each_callback_is_one_line_of_the_report_even_if_its_name_has_line_breaks() {
    let mut report = ShutdownReport::default();
    assert!(report.is_clean());
    assert_eq!(report.to_string(), "shutdown took 0.000 s: 0 completed, 0 failed, 0 timed out");
    let why = CallbackOutcome::Failed("one\ntwo".into());
    report.steps.push(Step::new("a\nb".into(), -3, why.clone(), ms(5)));
    report.steps.push(Step::new("é".into(), 100, CallbackOutcome::TimedOut, ms(12_345)));
    assert!(!report.is_clean());
    report.steps.push(Step::new("b".into(), 100, CallbackOutcome::Completed, ms(1)));
    assert_eq!(report.step("a\nb").map(|step| &step.outcome), Some(&why));
    assert_eq!(
        report.to_string(),
        "shutdown took 0.000 s: 1 completed, 1 failed, 1 timed out\n\
         priority  callback    took  outcome\n      \
         -3  a\\nb      0.005s  failed: one\\ntwo\n     \
         100  é         12.345s  timed out\n     \
         100  b         0.001s  completed"
    );
    report.steps.retain(|step| step.outcome == CallbackOutcome::Completed);
    assert!(report.is_clean());
    assert_eq!(report.step("a\nb"), None);
}
