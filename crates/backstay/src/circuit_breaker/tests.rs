//! The rules of the breaker through its handle, on a clock in the hand.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::*;
use crate::clock::ManualClock;
use crate::{CallError, CircuitOpenError};

mod inspection;
mod model;
mod rates;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, PartialEq)]
struct Down;

/// A breaker of one half-open call that opens after 3 failures for 30 s and takes half-open calls back after 10 s.
fn breaker() -> (CircuitBreaker, ManualClock) {
    build(|builder| builder)
}

fn build(change: impl FnOnce(CircuitBreakerBuilder) -> CircuitBreakerBuilder) -> (CircuitBreaker, ManualClock) {
    let clock = ManualClock::with_staleness(Duration::from_millis(16));
    clock.advance(1000 * SECOND);
    let builder = CircuitBreaker::builder()
        .max_failures(3)
        .reset_timeout(30 * SECOND)
        .half_open_max_calls(1)
        .half_open_timeout(10 * SECOND)
        .clock(&clock);
    (change(builder).build().unwrap(), clock)
}

fn succeed(breaker: &CircuitBreaker) -> Result<(), CallError<Down>> {
    breaker.call(|| Ok(()))
}

fn fail(breaker: &CircuitBreaker) -> Result<(), CallError<Down>> {
    breaker.call(|| Err(Down))
}

fn open(breaker: &CircuitBreaker) {
    while breaker.state() == CircuitState::Closed {
        fail(breaker).unwrap_err();
    }
}

fn half_open(breaker: &CircuitBreaker, clock: &ManualClock) {
    open(breaker);
    clock.advance(30 * SECOND);
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

// CB-1
#[test]
fn so_many_consecutive_failures_open_it() {
    let (breaker, _) = breaker();
    for _ in 0..2 {
        fail(&breaker).unwrap_err();
        fail(&breaker).unwrap_err();
        succeed(&breaker).unwrap();
        assert_eq!(breaker.failure_count(), 0);
    }
    fail(&breaker).unwrap_err();
    fail(&breaker).unwrap_err();
    assert_eq!((breaker.state(), breaker.failure_count()), (CircuitState::Closed, 2));
    assert_eq!(fail(&breaker), Err(CallError::Inner(Down)), "the third is still made");
    assert_eq!((breaker.state(), breaker.failure_count()), (CircuitState::Open, 3));
}

// CB-1, CB-3, CB-4: what holds where nothing is said.
#[test]
fn defaults() {
    let clock = ManualClock::new();
    let breaker = CircuitBreaker::builder().clock(&clock).build().unwrap();
    (0..4).for_each(|_| fail(&breaker).map_or((), drop));
    assert_eq!(breaker.state(), CircuitState::Closed);
    open(&breaker);
    clock.advance(60 * SECOND - Duration::from_nanos(1));
    assert_eq!(breaker.state(), CircuitState::Open);
    clock.advance(Duration::from_nanos(1));
    let _trial = breaker.try_acquire().unwrap();
    assert!(breaker.try_acquire().is_err());
    clock.advance(60 * SECOND);
    assert!(breaker.try_acquire().is_ok(), "half_open_timeout is reset_timeout");
}

// CB-2: turned away at once, with the name and the time to wait; the function is not touched.
#[test]
fn an_open_breaker_turns_away() {
    let (breaker, clock) = build(|builder| builder.name("payment-api"));
    open(&breaker);
    clock.advance(10 * SECOND);
    let error = breaker.call(|| -> Result<(), Down> { panic!("was called") }).unwrap_err();
    let expected = CircuitOpenError { name: Some("payment-api".into()), remaining: 20 * SECOND };
    assert_eq!(error, CallError::Rejected(expected.clone().into()));
    assert_eq!(error.rejection().unwrap().retry_after(), 20 * SECOND);
    assert_eq!(expected.to_string(), "circuit breaker \"payment-api\" is open for another 20.000 s");
    let future = breaker.call_async(|| -> std::future::Ready<Result<(), Down>> { panic!("was called") });
    assert!(matches!(poll(std::pin::pin!(future)), Poll::Ready(Err(CallError::Rejected(_)))));
}

// CB-2: a stale clock does not make the wait longer than a whole reset_timeout.
#[test]
fn the_wait_is_a_reset_timeout_at_the_most() {
    let (breaker, clock) = breaker();
    clock.lag(Duration::from_millis(16));
    open(&breaker);
    assert_eq!(breaker.try_acquire().unwrap_err().remaining, 30 * SECOND);
}

// CB-3: neither earlier nor later than reset_timeout, although the coarse clock lags.
#[test]
fn it_recovers_exactly_on_time() {
    let (breaker, clock) = breaker();
    for lag in [0, 1, 15, 16] {
        clock.lag(Duration::from_millis(lag));
        open(&breaker);
        clock.advance(30 * SECOND - Duration::from_nanos(1));
        assert!(breaker.try_acquire().is_err());
        clock.advance(Duration::from_nanos(1));
        breaker.try_acquire().unwrap().success();
        assert_eq!(breaker.state(), CircuitState::Closed);
    }
}

// CB-3: late failures do not lengthen the wait.
#[test]
fn late_failures_do_not_lengthen_the_wait() {
    let (breaker, clock) = breaker();
    let late = breaker.try_acquire().unwrap();
    open(&breaker);
    clock.advance(29 * SECOND);
    late.failure();
    clock.advance(SECOND);
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
}

// CB-4: of 50 threads that ask at once, `half_open_max_calls` get through; so with tasks among them.
#[test]
fn trials_at_once_are_bounded_whoever_asks() {
    for round in 0..50 {
        let (breaker, clock) = build(|builder| builder.half_open_max_calls(3));
        half_open(&breaker, &clock);
        let task = breaker.try_acquire_owned().unwrap();
        let barrier = Barrier::new(50);
        let admitted = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..50 {
                scope.spawn(|| {
                    barrier.wait();
                    let permit = breaker.try_acquire();
                    admitted.fetch_add(usize::from(permit.is_ok()), Ordering::SeqCst);
                    barrier.wait();
                    drop(permit);
                });
            }
        });
        assert_eq!(admitted.load(Ordering::SeqCst), 2, "round {round}");
        task.success();
        assert_eq!(breaker.state(), CircuitState::HalfOpen);
        (0..2).for_each(|_| succeed(&breaker).unwrap());
        assert_eq!(breaker.state(), CircuitState::Closed);
    }
}

// CB-4: one failed half-open call opens it for a whole reset_timeout.
#[test]
fn a_failed_trial_opens_it_again() {
    let (breaker, clock) = build(|builder| builder.half_open_max_calls(2));
    half_open(&breaker, &clock);
    clock.advance(7 * SECOND);
    succeed(&breaker).unwrap();
    fail(&breaker).unwrap_err();
    assert_eq!(breaker.try_acquire().unwrap_err().remaining, 30 * SECOND);
}

// CB-5: a half-open call that does not report loses its slot after half_open_timeout; its end does not free the slot of
// the call that has it by then, and counts once.
#[test]
fn a_silent_half_open_call_loses_its_slot() {
    let ends = [(Outcome::Success, 1), (Outcome::Ignored, 2)];
    for (outcome, more_successes) in ends {
        let (breaker, clock) = build(|builder| builder.half_open_max_calls(2));
        half_open(&breaker, &clock);
        let [silent, also_silent] = [breaker.try_acquire().unwrap(), breaker.try_acquire().unwrap()];
        clock.advance(4 * SECOND);
        assert_eq!(breaker.try_acquire().unwrap_err().remaining, 6 * SECOND);
        clock.advance(6 * SECOND);
        let next = [breaker.try_acquire().unwrap(), breaker.try_acquire().unwrap()];
        drop(also_silent);
        silent.report(outcome);
        assert!(breaker.try_acquire().is_err(), "both slots are the later calls'");
        for (ended, permit) in next.into_iter().enumerate() {
            let state = if ended < more_successes { CircuitState::HalfOpen } else { CircuitState::Closed };
            assert_eq!(breaker.state(), state);
            permit.success();
        }
        assert_eq!(breaker.state(), CircuitState::Closed);
    }
}

// CB-5: a healthy service that is slower than both timeouts closes the circuit, whether or not its slot was taken over.
#[test]
fn a_slow_success_closes() {
    for taken_over in [false, true] {
        let (breaker, clock) = breaker();
        half_open(&breaker, &clock);
        let slow = breaker.try_acquire().unwrap();
        clock.advance(90 * SECOND);
        let other = taken_over.then(|| breaker.try_acquire().unwrap());
        slow.success();
        assert_eq!(breaker.state(), CircuitState::Closed);
        if let Some(other) = other {
            other.failure();
            assert_eq!(breaker.failure_count(), 0, "CB-6: the period of its admission is over");
        }
    }
}

// CB-5, CB-6: a late failure opens the circuit again, in the half-open period of its admission and in no later one.
#[test]
fn a_slow_failure_opens_while_its_period_lasts() {
    let (breaker, clock) = breaker();
    half_open(&breaker, &clock);
    let [slow, slower] = [(); 2].map(|()| {
        let permit = breaker.try_acquire().unwrap();
        clock.advance(10 * SECOND);
        permit
    });
    slow.failure();
    assert_eq!(breaker.try_acquire().unwrap_err().remaining, 30 * SECOND);
    clock.advance(30 * SECOND);
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    slower.failure();
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    succeed(&breaker).unwrap();
    assert_eq!(breaker.state(), CircuitState::Closed);
}

// CB-6: a success begun while closed closes no half-open breaker; it only counts.
#[test]
fn verdicts_of_another_generation_only_count() {
    let (breaker, clock) = breaker();
    let [early, other] = [breaker.try_acquire().unwrap(), breaker.try_acquire().unwrap()];
    half_open(&breaker, &clock);
    early.success();
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    breaker.reset();
    fail(&breaker).unwrap_err();
    other.success();
    assert_eq!(breaker.failure_count(), 1, "nor sets the count of another closed period back");
    assert_eq!(breaker.stats().successful, 2);
}

// CB-7: an excluded error, a dropped permit and a cancelled future are ignored and return the half-open call slot.
#[test]
fn ignored_ends_change_nothing_and_free_the_slot() {
    let (breaker, clock) = breaker();
    half_open(&breaker, &clock);
    for round in 1..=3 {
        assert_eq!(breaker.excluding(|_: &Down| true).call(|| Err::<(), _>(Down)), Err(CallError::Inner(Down)));
        drop(breaker.try_acquire().unwrap());
        {
            let mut future = std::pin::pin!(breaker.call_async(pending::<Result<(), Down>>));
            assert!(poll(future.as_mut()).is_pending());
            assert!(breaker.try_acquire().is_err(), "the pending call holds the slot");
        }
        assert_eq!((breaker.state(), breaker.stats().ignored), (CircuitState::HalfOpen, 3 * round));
    }
    assert_eq!(breaker.excluding(|_: &Down| false).call(|| Err::<(), _>(Down)), Err(CallError::Inner(Down)));
    assert_eq!(breaker.state(), CircuitState::Open, "an error that is not excluded fails");
}

// CB-7: time-outs trip the breaker where cancellation is failure.
#[test]
fn cancellation_can_be_failure() {
    let (breaker, _) = build(|builder| builder.cancellation_is_failure(true));
    for _ in 0..3 {
        assert!(poll(std::pin::pin!(breaker.call_async(pending::<Result<(), Down>>))).is_pending());
    }
    assert_eq!((breaker.state(), breaker.stats().failed), (CircuitState::Open, 3));
}

// CB-7: a panic is a failure and goes on unwinding: in a call, in a future, and with a permit in the hand.
#[test]
fn a_panic_is_a_failure() {
    let (breaker, _) = breaker();
    let quietly = |f: &mut dyn FnMut()| catch_unwind(AssertUnwindSafe(f)).unwrap_err();
    quietly(&mut || drop(breaker.call(|| -> Result<(), Down> { panic!("sync") })));
    quietly(&mut || {
        let future = breaker.call_async(|| async { if true { panic!("async") } else { Ok::<(), Down>(()) } });
        drop(poll(std::pin::pin!(future)));
    });
    let message = quietly(&mut || {
        let _permit = breaker.try_acquire().unwrap();
        panic!("two-step");
    });
    assert_eq!(message.downcast_ref(), Some(&"two-step"));
    assert_eq!((breaker.stats().failed, breaker.state()), (3, CircuitState::Open));
}

// CB-7: a call given up because something else panicked is cancelled, not failed.
#[test]
fn a_panic_elsewhere_is_no_failure() {
    let (breaker, _) = breaker();
    let elsewhere = || {
        let mut future = Box::pin(breaker.call_async(pending::<Result<(), Down>>));
        assert!(poll(future.as_mut()).is_pending());
        panic!("elsewhere");
    };
    catch_unwind(AssertUnwindSafe(elsewhere)).unwrap_err();
    struct InDestructor<'a>(&'a CircuitBreaker);
    impl Drop for InDestructor<'_> {
        fn drop(&mut self) {
            drop(self.0.try_acquire());
            succeed(self.0).unwrap();
        }
    }
    let in_destructor = || {
        let _guard = InDestructor(&breaker);
        panic!("elsewhere");
    };
    catch_unwind(AssertUnwindSafe(in_destructor)).unwrap_err();
    let stats = breaker.stats();
    assert_eq!((stats.failed, stats.ignored, stats.successful), (0, 2, 1));
}

// CB-8: calls nest; a listener may call, reset and isolate; nothing waits for a lock.
#[test]
fn no_lock_is_held_while_foreign_code_runs() {
    let slot: Arc<Mutex<Option<CircuitBreaker>>> = Arc::default();
    let inside = Arc::clone(&slot);
    let (breaker, _) = build(|builder| {
        builder.on_state_change(move |transition| {
            let breaker = inside.lock().unwrap().clone().unwrap();
            drop(succeed(&breaker));
            if transition.to == CircuitState::Open {
                breaker.reset();
            }
        })
    });
    *slot.lock().unwrap() = Some(breaker.clone());
    assert_eq!(breaker.call(|| breaker.call(|| Ok::<_, Down>(breaker.state()))), Ok(CircuitState::Closed));
    let (done, finished) = mpsc::channel();
    std::thread::spawn(move || {
        (0..3).for_each(|_| fail(&breaker).map_or((), drop));
        done.send(breaker.state()).unwrap();
    });
    assert_eq!(finished.recv_timeout(30 * SECOND), Ok(CircuitState::Closed));
}

// CB-9
#[test]
fn reset_closes_and_isolate_holds_open() {
    let (breaker, clock) = breaker();
    breaker.reset();
    assert_eq!(breaker.stats().state_changes, 0, "it was closed already");
    breaker.isolate();
    clock.advance(Duration::from_secs(1 << 32));
    assert_eq!(breaker.state(), CircuitState::Open);
    assert_eq!(breaker.try_acquire().unwrap_err().remaining, Duration::MAX);
    breaker.reset();
    assert_eq!((breaker.state(), breaker.stats().state_changes), (CircuitState::Closed, 2));
    let admitted_before = breaker.try_acquire().unwrap();
    fail(&breaker).unwrap_err();
    breaker.reset();
    admitted_before.failure();
    assert_eq!(breaker.failure_count(), 0);
}

// CB-10: total is the sum, and a snapshot stays what it was.
#[test]
fn stats_add_up() {
    let (breaker, clock) = breaker();
    succeed(&breaker).unwrap();
    drop(breaker.try_acquire());
    open(&breaker);
    let snapshot = breaker.stats();
    fail(&breaker).unwrap_err();
    clock.advance(30 * SECOND);
    succeed(&breaker).unwrap();
    let stats = breaker.stats();
    let expected = CircuitStats { total: 7, successful: 2, failed: 3, rejected: 1, ignored: 1, state_changes: 3 };
    assert_eq!(stats, expected);
    assert_eq!((snapshot.total, snapshot.rejected), (5, 0));
}

// CB-11: each change once and in order, although many threads make them; a panicking listener is survived.
#[test]
fn listeners_hear_each_change_once_in_order() {
    let heard: Arc<Mutex<Vec<(CircuitState, CircuitState)>>> = Arc::default();
    let log = Arc::clone(&heard);
    let (breaker, clock) = build(|builder| {
        builder
            .max_failures(1)
            .on_state_change(|_| std::panic::resume_unwind(Box::new("a bad listener")))
            .on_state_change(move |transition| log.lock().unwrap().push((transition.from, transition.to)))
    });
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..200 {
                    drop(fail(&breaker));
                    clock.advance(31 * SECOND);
                    drop(if round % 2 == 0 { succeed(&breaker) } else { fail(&breaker) });
                    if round % 7 == 0 {
                        breaker.reset();
                    }
                }
            });
        }
    });
    let heard = heard.lock().unwrap();
    assert_eq!(heard.len() as u64, breaker.stats().state_changes);
    assert!(heard.len() > 200);
    assert_eq!(heard[0].0, CircuitState::Closed);
    assert!(heard.windows(2).all(|pair| pair[0].1 == pair[1].0), "each begins where the one before ended");
}

// CB-11, ALL-1: what a listener throws may panic again when it is dropped; the others still hear everything.
#[test]
fn a_listener_that_throws_a_bomb_is_survived() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("again"));
        }
    }
    let heard = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heard);
    let (breaker, _) = build(|builder| {
        builder.on_state_change(|_| std::panic::resume_unwind(Box::new(Bomb))).on_state_change(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        })
    });
    for _ in 0..3 {
        breaker.isolate();
        breaker.reset();
    }
    assert_eq!(heard.load(Ordering::SeqCst), 6);
}

// CB-11: a change is heard after it happened.
#[test]
fn a_listener_sees_the_new_state() {
    thread_local! { static SEEN: RefCell<Vec<CircuitState>> = const { RefCell::new(Vec::new()) } }
    let slot: Arc<Mutex<Option<CircuitBreaker>>> = Arc::default();
    let inside = Arc::clone(&slot);
    let (breaker, _) = build(|builder| {
        builder.on_state_change(move |_| {
            let state = inside.lock().unwrap().as_ref().unwrap().state();
            SEEN.with_borrow_mut(|seen| seen.push(state));
        })
    });
    *slot.lock().unwrap() = Some(breaker.clone());
    open(&breaker);
    SEEN.with_borrow(|seen| assert_eq!(*seen, [CircuitState::Open]));
}

// ALL-1: nonsense is refused with the argument's name; the largest numbers are survived.
#[test]
fn bad_arguments() {
    let error = CircuitBreaker::builder().max_failures(0).build().unwrap_err();
    assert_eq!(error.to_string(), "`max_failures` is 0, but must be a whole number from 1 to 1048575");
    assert!(CircuitBreaker::builder().reset_timeout(Duration::ZERO).build().is_err());
    assert!(CircuitBreaker::builder().reset_timeout(Duration::MAX).build().is_err());
    let clock = ManualClock::new();
    clock.advance(Duration::MAX);
    let builder = CircuitBreaker::builder().max_failures(1).half_open_max_calls(100).clock(&clock);
    let breaker = builder.reset_timeout(100 * 365 * 86_400 * SECOND).name("").build().unwrap();
    open(&breaker);
    drop(breaker.try_acquire());
}

// CB-11, ALL-1: the two-step permit can outlive every other handle.
#[test]
fn an_owned_permit_keeps_its_breaker() {
    let (breaker, _) = breaker();
    let permit = breaker.try_acquire_owned().unwrap();
    drop(breaker);
    std::thread::spawn(move || permit.success()).join().unwrap();
}

// CB-1: a success sets the count back, also where the failure came while it was being made.
#[test]
fn a_success_sets_back_what_failed_meanwhile() {
    let breaker =
        CircuitBreaker::builder().max_failures(2).half_open_max_calls(1).reset_timeout(SECOND).build().unwrap();
    let fail = || breaker.call(|| Err::<(), _>(())).unwrap_err();
    breaker.call(|| Ok::<_, ()>(fail())).unwrap();
    assert_eq!(breaker.failure_count(), 0);
    fail();
    assert_eq!(breaker.state(), CircuitState::Closed);
}

// What a breaker without a window takes on the heap, its reference counts included.
#[test]
fn a_breaker_takes_176_bytes_at_most() {
    let bytes = size_of::<Inner>() + 2 * size_of::<usize>();
    assert!(bytes <= 176, "{bytes}");
}
