//! Every interleaving of the two windows, as far as loom can walk.

use std::time::Duration;

use backstay_core::circuit_breaker::WindowCounts;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire};
use loom::thread;

use super::calls::CallWindow;
use super::time::{TimeWindow, Total};
use crate::clock::Moment;

fn counts(calls: u64, failed: u64) -> WindowCounts {
    WindowCounts { calls, failed, slow: 0 }
}

/// A window of ten seconds with totals of its own.
struct Timed {
    window: TimeWindow,
    totals: [AtomicU64; 2],
}

impl Timed {
    fn new() -> Arc<Self> {
        let totals = [AtomicU64::new(0), AtomicU64::new(0)];
        Arc::new(Self { window: TimeWindow::new(Duration::from_secs(10)), totals })
    }

    fn total(&self, total: Total) -> u64 {
        self.totals[total as usize].load(Acquire)
    }

    fn report(&self, second: u64, total: Total) {
        self.window.advance(at(second), |total| self.total(total));
        self.totals[total as usize].fetch_add(1, AcqRel);
    }

    fn counts(&self, second: u64) -> WindowCounts {
        self.window.counts(at(second), |total| self.total(total))
    }
}

fn at(second: u64) -> Moment {
    Moment::ORIGIN + Duration::from_secs(second)
}

// CB-13: two threads begin the same bucket. All that was counted before it, and nothing of it, leaves with the one before.
#[test]
fn loom_two_threads_begin_a_bucket() {
    loom::model(|| {
        let timed = Timed::new();
        timed.report(0, Total::Failed);
        let other = timed.clone();
        let thread = thread::spawn(move || other.report(5, Total::Failed));
        timed.report(5, Total::Succeeded);
        thread.join().unwrap();
        assert_eq!(timed.counts(5), counts(3, 2));
        assert_eq!(timed.counts(9), counts(3, 2));
        assert_eq!(timed.counts(10), counts(2, 1), "the first failure has left");
        assert_eq!(timed.counts(15), counts(0, 0));
    });
}

// CB-13: a thread that begins an earlier bucket late changes nothing of a later one.
#[test]
fn loom_a_late_thread_begins_an_earlier_bucket() {
    loom::model(|| {
        let timed = Timed::new();
        let other = timed.clone();
        let thread = thread::spawn(move || other.report(3, Total::Failed));
        timed.report(12, Total::Failed);
        let seen = timed.counts(12);
        assert!(seen == counts(1, 1) || seen == counts(2, 2), "{seen:?}");
        thread.join().unwrap();
        assert!(timed.counts(12).failed <= 2);
        assert!(timed.counts(21).failed >= 1);
        assert_eq!(timed.counts(22), counts(0, 0));
    });
}

// CB-14: two failures at the same time: at least one of the two reporters sees both.
#[test]
fn loom_one_of_two_failures_sees_both() {
    loom::model(|| {
        let timed = Timed::new();
        let other = timed.clone();
        let see = |timed: &Timed| {
            timed.report(0, Total::Failed);
            timed.counts(0).failed
        };
        let thread = thread::spawn(move || see(&other));
        let here = see(&timed);
        let there = thread.join().unwrap();
        assert_eq!(here.max(there), 2);

        let window = Arc::new(CallWindow::new(2));
        let other = window.clone();
        let see = |window: &CallWindow| {
            window.mark(true, false, || true);
            window.counts()
        };
        let thread = thread::spawn(move || see(&other));
        let here = see(&window);
        let there = thread.join().unwrap();
        assert!([here, there].contains(&counts(2, 2)), "{here:?} {there:?}");
    });
}

// CB-13: the last two of three outcomes, whichever thread is late; with a window that has to be reused.
#[test]
fn loom_a_window_of_calls_holds_the_last() {
    loom::model(|| {
        let window = Arc::new(CallWindow::new(1));
        let other = window.clone();
        let thread = thread::spawn(move || other.mark(true, false, || true));
        window.success();
        window.success();
        thread.join().unwrap();
        let now = window.counts();
        assert!(now == counts(1, 0) || now == counts(1, 1), "{now:?}");
        window.success();
        assert_eq!(window.counts(), counts(1, 0), "no mark is left over");
        assert_eq!(window.totals(), [3, 1]);
    });
}

// CB-13: two failures take the same place, one of them a lap late.
#[test]
fn loom_two_marks_in_one_place() {
    loom::model(|| {
        let window = Arc::new(CallWindow::new(1));
        let other = window.clone();
        let thread = thread::spawn(move || other.mark(true, false, || true));
        window.mark(true, true, || true);
        thread.join().unwrap();
        let now = window.counts();
        assert_eq!((now.calls, now.failed), (1, 1));
        window.success();
        assert_eq!(window.counts(), counts(1, 0));
    });
}

// CB-13, CB-6: a failure that is late for its closed period leaves no mark in the next one.
#[test]
fn loom_a_late_failure_leaves_no_mark_in_the_next_period() {
    loom::model(|| {
        let window = Arc::new(CallWindow::new(2));
        let period = Arc::new(AtomicU64::new(0));
        let (other, word) = (window.clone(), period.clone());
        let thread = thread::spawn(move || {
            if word.load(Acquire) == 0 {
                other.mark(true, false, || word.fetch_add(0, AcqRel) == 0);
            }
        });
        period.fetch_add(1, AcqRel); // leaves the closed period
        window.empty();
        thread.join().unwrap();
        assert_eq!(window.counts().failed, 0);
    });
}
