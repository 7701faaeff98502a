//! Every interleaving of pings, firings and returned errors.

use std::time::Duration;

use backstay_core::watchdog::{CheckResult, ClockGaps, Tolerance, check};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use super::shared::AtomicPingState;
use crate::clock::Moment;

const TOLERANCE: Tolerance = Tolerance { timeout: Duration::from_nanos(10), staleness: Duration::ZERO };

fn at(nanos: u64) -> Moment {
    Moment::from_nanos(nanos)
}

/// Checks as the monitor does at `now`, again while the state changes in between. Returns whether it fired.
fn check_at(state: &AtomicPingState, now: u64) -> bool {
    loop {
        let seen = state.load();
        match check(seen, TOLERANCE, &ClockGaps::default(), at(now)) {
            CheckResult::Fire { inactive } if state.fire(seen, inactive, true) => return true,
            CheckResult::Fire { .. } => loom::thread::yield_now(),
            CheckResult::WaitUntil(_) => return false,
        }
    }
}

// WD-3: a ping before the check prevents the firing, and a later ping clears the trigger.
#[test]
fn loom_a_ping_before_the_check_is_never_lost() {
    loom::model(|| {
        let state = Arc::new(AtomicPingState::started(at(1)));
        let flag = Arc::new(AtomicU64::new(0));
        let pinger = {
            let (state, flag) = (Arc::clone(&state), Arc::clone(&flag));
            thread::spawn(move || {
                state.ping(at(12));
                flag.store(1, Ordering::Release);
            })
        };
        let before = flag.load(Ordering::Acquire) == 1;
        let fired = check_at(&state, 13);
        assert!(!(before && fired), "fired after a ping");
        pinger.join().unwrap();
        assert!(!state.load().is_triggered(), "the ping came first or cleared the trigger");
        assert_eq!(state.load().last_ping(), at(12));
        assert_eq!(state.load().has_pending_error(), fired);
    });
}

// WD-5: of concurrent callers exactly one takes the pending error.
#[test]
fn loom_a_pending_error_is_taken_once() {
    loom::model(|| {
        let state = Arc::new(AtomicPingState::started(at(1)));
        let takers: Vec<_> = (0..2)
            .map(|i| {
                let state = Arc::clone(&state);
                thread::spawn(move || {
                    state.ping(at(14 + i));
                    state.take_error()
                })
            })
            .collect();
        let fired = check_at(&state, 13);
        let mut taken: Vec<Duration> = takers.into_iter().filter_map(|taker| taker.join().unwrap()).collect();
        taken.extend(state.take_error());
        assert_eq!(taken, if fired { vec![Duration::from_nanos(12)] } else { vec![] });
        assert!(!state.load().is_triggered());
        assert_eq!(state.load().last_ping(), at(15), "the later reading stays");
    });
}

// WD-5: a second firing does not change the inactivity of an error that is pending already.
#[test]
fn loom_a_second_firing_keeps_the_pending_error() {
    loom::model(|| {
        let state = Arc::new(AtomicPingState::started(at(1)));
        assert!(check_at(&state, 13));
        state.ping(at(14));
        let taker = {
            let state = Arc::clone(&state);
            thread::spawn(move || state.take_error())
        };
        assert!(check_at(&state, 40));
        let first = taker.join().unwrap().expect("the error of the first firing was pending");
        let second = state.take_error();
        assert_eq!(first, Duration::from_nanos(12));
        assert!(second.is_none() || second == Some(Duration::from_nanos(26)));
        assert!(!check_at(&state, 50), "once per freeze");
    });
}
