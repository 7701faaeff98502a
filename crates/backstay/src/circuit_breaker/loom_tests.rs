//! Every interleaving of the breaker's word and its slots, as far as loom can walk.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use loom::thread;

use super::*;
use crate::clock::ManualClock;

const SECOND: Duration = Duration::from_secs(1);

fn breaker(max_failures: u32, clock: &ManualClock) -> CircuitBreaker {
    let builder = CircuitBreaker::builder().max_failures(max_failures).half_open_max_calls(1);
    builder.reset_timeout(30 * SECOND).clock(clock).build().unwrap()
}

fn half_open(clock: &ManualClock) -> CircuitBreaker {
    let breaker = breaker(1, clock);
    breaker.try_acquire().unwrap().failure();
    clock.advance(30 * SECOND);
    breaker
}

// CB-1: no failure is lost between threads.
#[test]
fn loom_failures_of_two_threads_add_up() {
    loom::model(|| {
        let breaker = breaker(2, &ManualClock::new());
        let other = breaker.clone();
        let permit = breaker.try_acquire().unwrap();
        let thread = thread::spawn(move || other.try_acquire().map(Permit::failure).is_ok());
        permit.failure();
        assert!(thread.join().unwrap());
        assert_eq!(breaker.state(), CircuitState::Open);
        assert_eq!(breaker.stats().state_changes, 1);
    });
}

// CB-4: two threads that find the open period over get one half-open call between them.
#[test]
fn loom_one_trial_at_once() {
    loom::model(|| {
        let clock = ManualClock::new();
        clock.advance(SECOND);
        let breaker = half_open(&clock);
        let other = breaker.clone();
        let thread = thread::spawn(move || other.try_acquire_owned().ok());
        let here = breaker.try_acquire_owned().ok();
        let there = thread.join().unwrap();
        assert!(here.is_some() != there.is_some(), "exactly one");
        drop((here, there));
        breaker.try_acquire().unwrap().success();
        assert_eq!(breaker.state(), CircuitState::Closed);
    });
}

// CB-5, CB-6: a late failure meets the call that has its slot: the first outcome ends the period, and the other one
// decides nothing.
#[test]
fn loom_a_late_failure_meets_its_successor() {
    loom::model(|| {
        let clock = ManualClock::new();
        clock.advance(SECOND);
        let breaker = half_open(&clock);
        let late = breaker.try_acquire_owned().unwrap();
        clock.advance(30 * SECOND);
        let thread = thread::spawn(move || late.failure());
        let successor = breaker.try_acquire();
        let admitted = successor.is_ok();
        if let Ok(successor) = successor {
            successor.success();
        }
        thread.join().unwrap();
        assert!(admitted || breaker.state() == CircuitState::Open);
        assert_ne!(breaker.state(), CircuitState::HalfOpen);
        assert_eq!(breaker.stats().state_changes, 3, "one outcome decided");
    });
}

// CB-4, CB-5: a late success counts exactly once, and frees no slot that another call holds by now.
#[test]
fn loom_a_late_success_counts_once() {
    loom::model(|| {
        let clock = ManualClock::new();
        clock.advance(SECOND);
        let builder = CircuitBreaker::builder().max_failures(1).half_open_max_calls(2);
        let breaker = builder.reset_timeout(30 * SECOND).clock(&clock).build().unwrap();
        breaker.try_acquire().unwrap().failure();
        clock.advance(30 * SECOND);
        let late = breaker.try_acquire_owned().unwrap();
        clock.advance(30 * SECOND);
        let thread = thread::spawn(move || late.success());
        let [first, second] = [breaker.try_acquire().unwrap(), breaker.try_acquire().unwrap()];
        assert!(breaker.try_acquire().is_err(), "both slots are held");
        thread.join().unwrap();
        assert_eq!(breaker.state(), CircuitState::HalfOpen);
        drop(second);
        first.success();
        assert_eq!(breaker.state(), CircuitState::Closed);
    });
}

// CB-4, CB-6: a half-open call asks while the period in which it would count is ended by a failure and another begins.
#[test]
fn loom_a_trial_is_admitted_into_the_present_period_only() {
    loom::model(|| {
        let clock = ManualClock::new();
        clock.advance(SECOND);
        let breaker = half_open(&clock);
        let first = breaker.try_acquire_owned().unwrap();
        let (other, hand) = (breaker.clone(), clock.clone());
        let thread = thread::spawn(move || {
            first.failure();
            hand.advance(30 * SECOND);
            other.try_acquire_owned().ok()
        });
        let here = breaker.try_acquire_owned().ok();
        if let (Some(here), Some(there)) = (here, thread.join().unwrap()) {
            here.success();
            assert_eq!(breaker.state(), CircuitState::HalfOpen, "it belongs to the period before");
            there.success();
            assert_eq!(breaker.state(), CircuitState::Closed);
        }
    });
}

// CB-11: two threads change the state; the listener hears both changes, in order, and once.
#[test]
fn loom_listeners_hear_in_order() {
    loom::model(|| {
        let heard: std::sync::Arc<std::sync::Mutex<Vec<Transition>>> = std::sync::Arc::default();
        let log = heard.clone();
        let builder = CircuitBreaker::builder().max_failures(1).reset_timeout(SECOND).half_open_max_calls(1);
        let builder = builder.clock(&ManualClock::new());
        let breaker = builder.on_state_change(move |change| log.lock().unwrap().push(change.clone())).build().unwrap();
        let other = breaker.clone();
        let thread = thread::spawn(move || other.isolate());
        breaker.reset();
        breaker.isolate();
        breaker.reset();
        thread.join().unwrap();
        let heard = heard.lock().unwrap();
        assert_eq!(heard.len() as u64, breaker.stats().state_changes);
        assert!(heard.windows(2).all(|pair| pair[0].to == pair[1].from));
    });
}
