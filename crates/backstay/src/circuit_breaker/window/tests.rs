//! The two windows beside plain lists, on one thread; and their totals, on many.

use std::collections::VecDeque;
use std::time::Duration;

use backstay_core::circuit_breaker::WindowCounts;
use proptest::prelude::*;

use super::calls::CallWindow;
use super::time::{TimeWindow, Total};
use crate::clock::Moment;

#[derive(Clone, Debug)]
enum Step {
    Report { failed: bool, slow: bool },
    Pass(u64),
    Empty,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (any::<bool>(), any::<bool>()).prop_map(|(failed, slow)| Step::Report { failed, slow }),
        6 => prop_oneof![0..150_u64, 900..1_100_u64, Just(100_000)].prop_map(Step::Pass),
        1 => Just(Step::Empty),
    ];
    proptest::collection::vec(step, 1..150)
}

fn counted<'a>(outcomes: impl Iterator<Item = &'a (bool, bool)>) -> WindowCounts {
    outcomes.fold(WindowCounts::default(), |counts, (failed, slow)| WindowCounts {
        calls: counts.calls + 1,
        failed: counts.failed + u64::from(*failed),
        slow: counts.slow + u64::from(*slow),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    // CB-13: a window of one second holds the outcomes of its bucket of 100 ms and of the nine before, after every step.
    #[test]
    fn a_time_window_is_a_list_of_outcomes(steps in steps(), start in 0..5_000_u64) {
        let window = TimeWindow::new(Duration::from_secs(1));
        let (mut now, mut totals, mut list) = (start, [0_u64; 2], Vec::<(u64, (bool, bool))>::new());
        for step in steps {
            let moment = |now| Moment::ORIGIN + Duration::from_millis(now);
            let total = |total: Total| totals[total as usize];
            match step {
                Step::Report { failed, slow } => {
                    window.advance(moment(now), total);
                    if slow {
                        window.add_slow();
                    }
                    totals[usize::from(failed)] += 1;
                    list.push((now / 100, (failed, slow)));
                }
                Step::Pass(milliseconds) => now += milliseconds,
                Step::Empty => {
                    window.empty(total);
                    list.clear();
                }
            }
            let inside = list.iter().filter(|(bucket, _)| bucket + 9 >= now / 100).map(|(_, outcome)| outcome);
            let total = |total: Total| totals[total as usize];
            prop_assert_eq!(window.counts(moment(now), total), counted(inside));
        }
    }

    // CB-13: a window of calls holds exactly the last n, after every step.
    #[test]
    fn a_window_of_calls_is_a_list_of_outcomes(length in 1..12_u32, steps in steps()) {
        let window = CallWindow::new(length);
        let (mut list, mut totals) = (VecDeque::new(), [0, 0]);
        for step in steps {
            match step {
                Step::Report { failed, slow } => {
                    if failed || slow { window.mark(failed, slow, || true) } else { window.success() }
                    totals[usize::from(failed)] += 1;
                    list.push_back((failed, slow));
                    if list.len() > length as usize {
                        list.pop_front();
                    }
                }
                Step::Pass(_) => {}
                Step::Empty => {
                    window.empty();
                    list.clear();
                }
            }
            prop_assert_eq!(window.counts(), counted(list.iter()));
            prop_assert_eq!(window.totals(), totals);
        }
    }
}

// CB-13: threads that lap each other in a small window: once they are done, the counts are those of the marks.
#[test]
fn a_small_window_of_calls_survives_a_crowd() {
    let window = CallWindow::new(3);
    std::thread::scope(|scope| {
        for thread in 0..8_u32 {
            let window = &window;
            scope.spawn(move || {
                for call in 0..20_000_u32 {
                    match (call + thread) % 3 {
                        0 => window.mark(true, call % 2 == 0, || true),
                        1 => window.mark(false, true, || true),
                        _ => window.success(),
                    }
                    if call % 1_000 == 0 {
                        window.empty();
                    }
                }
            });
        }
    });
    let [succeeded, failed] = window.totals();
    assert_eq!(succeeded + failed, 160_000);
    for left in (0..3).rev() {
        window.success();
        let counts = window.counts();
        assert!(counts.failed <= left && counts.slow <= left, "{counts:?}");
    }
    window.mark(true, true, || true);
    assert_eq!(window.counts(), WindowCounts { calls: 3, failed: 1, slow: 1 });
    window.mark(true, false, || false);
    assert_eq!(window.counts(), WindowCounts { calls: 3, failed: 1, slow: 1 }, "its period is over");
}
