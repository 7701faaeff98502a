#![allow(clippy::unwrap_used)]
//! Tests of the rules RL-1 to RL-12, on manual clocks.

mod model;
mod system;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::*;
use crate::clock::ManualClock;

const SECOND: Duration = Duration::from_secs(1);

fn limiter(manual: &ManualClock, rate: f64, burst: f64) -> RateLimiter {
    RateLimiter::builder(rate).per(SECOND).burst(burst).clock(manual).build().unwrap()
}

/// Takes all tokens, and returns how many there were.
fn drain(limiter: &RateLimiter) -> usize {
    std::iter::from_fn(|| limiter.try_acquire().then_some(())).count()
}

/// Counts the wake-ups of a task.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Woken {
    fn times(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

// RL-1
#[test]
fn a_bucket_starts_with_its_burst_and_fills_at_its_rate() {
    let manual = ManualClock::new();
    let fifty = limiter(&manual, 10.0, 50.0);
    assert_eq!(drain(&fifty), 50);
    manual.advance(SECOND);
    assert_eq!(drain(&fifty), 10);

    let ten = RateLimiter::builder(10).per(SECOND * 60).clock(&manual).build().unwrap();
    assert_eq!((ten.rate(), ten.per(), ten.burst(), ten.tokens()), (10.0, SECOND * 60, 10.0, 10.0));
    assert_eq!(drain(&ten), 10);
    manual.advance(SECOND * 5);
    assert_eq!(drain(&ten), 0);
    manual.advance(SECOND);
    assert_eq!(drain(&ten), 1);
}

// RL-1
#[test]
fn a_bucket_holds_at_least_one_token_and_may_start_empty() {
    let manual = ManualClock::new();
    let half = RateLimiter::builder(0.5).clock(&manual).build().unwrap();
    assert_eq!((half.burst(), drain(&half)), (1.0, 1));
    manual.advance(SECOND);
    assert_eq!(drain(&half), 0);
    manual.advance(SECOND);
    assert_eq!(drain(&half), 1);

    let empty = limiter(&manual, 10.0, 0.0);
    assert_eq!((empty.burst(), empty.tokens()), (1.0, 0.0));
    manual.advance(Duration::from_millis(99));
    assert_eq!(drain(&empty), 0);
    manual.advance(Duration::from_millis(1));
    assert_eq!(drain(&empty), 1);
    manual.advance(SECOND * 60);
    assert_eq!(drain(&empty), 1);

    let fraction = limiter(&manual, 1.0, 2.5);
    assert_eq!((fraction.tokens(), drain(&fraction)), (2.5, 2));
    manual.advance(SECOND / 2);
    assert_eq!(drain(&fraction), 1);
}

// RL-2: idling fills the bucket, up to its capacity.
#[test]
fn burst_five_never_gives_nine() {
    for staleness in [Duration::ZERO, Duration::from_millis(800)] {
        let manual = ManualClock::with_staleness(staleness);
        let limiter = limiter(&manual, 5.0, 5.0);
        manual.advance(SECOND * 100);
        manual.lag(staleness);
        assert_eq!(drain(&limiter), 5);
        manual.lag(Duration::ZERO);
        assert_eq!(drain(&limiter), 0);
        manual.advance(SECOND * 3600);
        assert_eq!(drain(&limiter), 5);
    }
}

// RL-5
#[test]
fn a_wait_beyond_its_timeout_is_rejected_at_once_and_takes_no_token() {
    let manual = ManualClock::new();
    let limiter = RateLimiter::builder(1).burst(1).name("quotes").clock(&manual).build().unwrap();
    assert!(limiter.try_acquire());
    for _ in 0..100 {
        let error = limiter.acquire_timeout(Duration::from_millis(999)).unwrap_err();
        assert_eq!((error.retry_after(), error.name.as_deref()), (SECOND, Some("quotes")));
        assert_eq!(limiter.acquire_timeout(Duration::ZERO).unwrap_err().retry_after(), SECOND);
        assert_eq!(limiter.check().unwrap_err().retry_after(), SECOND);
        let mut waiting = pin!(limiter.acquire_timeout_async(Duration::from_millis(999)));
        assert!(matches!(poll(&mut waiting), Poll::Ready(Err(error)) if error.retry_after() == SECOND));
    }
    manual.advance(SECOND);
    assert_eq!(limiter.acquire_timeout(Duration::ZERO), Ok(()));
    assert_eq!(limiter.stats().rejected, 400);
}

// RL-4, RL-5: a wait within its timeout succeeds, in a thread and in a task.
#[test]
fn a_wait_within_its_timeout_ends_when_the_token_is_due() {
    let manual = ManualClock::new();
    let limiter = limiter(&manual, 1.0, 1.0);
    assert!(limiter.try_acquire());
    let mut task = pin!(limiter.acquire_timeout_async(SECOND));
    assert!(poll(&mut task).is_pending());
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| limiter.acquire_timeout(SECOND * 2));
        while limiter.stats().waiting < 2 {
            std::thread::yield_now();
        }
        assert_eq!(limiter.time_until_token(), SECOND * 3);
        manual.advance(SECOND);
        assert_eq!(poll(&mut task), Poll::Ready(Ok(())));
        manual.advance(SECOND);
        assert_eq!(thread.join().unwrap(), Ok(()));
    });
    assert_eq!(limiter.stats(), RateLimiterStats { acquired: 3, rejected: 0, waited: SECOND * 3, waiting: 0 });
}

// RL-6
#[test]
fn dropped_waits_delay_no_other_waiter() {
    let manual = ManualClock::new();
    let limiter = limiter(&manual, 100.0, 1.0);
    assert!(limiter.try_acquire());
    let dropped: Vec<_> = (0..100).map(|_| limiter.reserve(1, None).unwrap()).collect();
    let last = limiter.reserve(1, None).unwrap();
    assert_eq!(last.remaining(), Duration::from_millis(1010));
    drop(dropped);
    assert_eq!(last.remaining(), Duration::from_millis(10));
    drop(last);
    assert_eq!(limiter.time_until_token(), Duration::from_millis(10));
    assert_eq!(limiter.stats().acquired, 1);
}

// RL-6: a waiter that was due and did not poll in time refunds what has not overflowed since.
#[test]
fn an_unused_grant_is_refunded_once() {
    let manual = ManualClock::new();
    let limiter = limiter(&manual, 1.0, 1.0);
    assert!(limiter.try_acquire());
    let late = limiter.reserve(1, None).unwrap();
    let next = limiter.reserve(1, None).unwrap();
    manual.advance(SECOND * 5 / 4);
    // The token was unused for a quarter of a second, in which the bucket of one token overflowed.
    drop(late);
    assert_eq!(next.remaining(), Duration::ZERO);
    assert_eq!(limiter.time_until_token(), SECOND);
    drop(next);
    assert_eq!(drain(&limiter), 1);
}

// RL-4: first come, first served, for any number of tokens; new requests do not overtake waiters.
#[test]
fn waiters_are_served_in_order() {
    let manual = ManualClock::new();
    let limiter = limiter(&manual, 1.0, 3.0);
    assert_eq!(drain(&limiter), 3);
    let mut waiting: Vec<_> = [1, 3, 2, 1].into_iter().map(|tokens| limiter.reserve(tokens, None).unwrap()).collect();
    let mut served = Vec::new();
    for second in 1..=8 {
        manual.advance(SECOND);
        // Later requests do not get the tokens of waiters.
        assert_eq!(limiter.try_acquire(), second == 8);
        // Polled in reverse: the order of polling is not the order of serving.
        for (number, waiter) in waiting.iter_mut().enumerate().rev() {
            if !served.iter().any(|(known, _)| *known == number) && poll(waiter).is_ready() {
                served.push((number, second));
            }
        }
    }
    assert_eq!(served, [(0, 1), (1, 4), (2, 6), (3, 7)]);
}

// RL-4: each waiter is woken when its token is due, and not before; waiters that have not moved stay asleep.
#[test]
fn waiters_that_leave_wake_each_remaining_waiter_once() {
    let manual = ManualClock::new();
    let limiter = limiter(&manual, 1.0, 1.0);
    assert!(limiter.try_acquire());
    let leaving: Vec<_> = (0..50).map(|_| limiter.reserve(1, None).unwrap()).collect();
    let woken: Vec<_> = (0..50).map(|_| Arc::new(Woken::default())).collect();
    let mut staying: Vec<_> = (0..50).map(|_| limiter.reserve(1, None).unwrap()).collect();
    for (waiter, woken) in staying.iter_mut().zip(&woken) {
        let waker = Waker::from(Arc::clone(woken));
        assert!(pin!(waiter).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    let after = limiter.reserve(1, None).unwrap();
    drop(after);
    assert_eq!(woken.iter().map(|woken| woken.times()).sum::<usize>(), 0);
    drop(leaving);
    assert!(woken.iter().all(|woken| woken.times() == 1));
    assert_eq!(staying[49].remaining(), SECOND * 50);
}

// RL-5: every kind of rejection computes `retry_after` when asked, on the limiter's clock.
#[test]
fn retry_after_counts_from_when_it_is_asked_for() {
    let manual = ManualClock::new();
    let limiter = RateLimiter::builder(1).burst(1).clock(&manual).build().unwrap();
    let keyed = crate::KeyedRateLimiter::<u8>::builder(1).burst(1).max_keys(1).clock(&manual).build().unwrap();
    assert!(limiter.try_acquire() && keyed.try_acquire(&7));
    let rejections = [limiter.check(), limiter.acquire_timeout(Duration::ZERO), keyed.check(&7), keyed.check(&8)]
        .map(Result::unwrap_err);
    for left in [SECOND, SECOND / 4, Duration::ZERO] {
        for rejection in &rejections {
            assert_eq!(rejection.retry_after(), left);
        }
        manual.advance(SECOND * 3 / 4);
    }
    assert_eq!(rejections[0], rejections[0].clone());
    assert_ne!(rejections[0], limiter.check_n(2).unwrap_err());
}

// RL-7
#[test]
fn several_tokens_are_taken_together_or_not_at_all() {
    let manual = ManualClock::new();
    let limiter = limiter(&manual, 10.0, 5.0);
    assert!(limiter.try_acquire_n(0));
    assert!(!limiter.try_acquire_n(6) && !limiter.try_acquire_n(u32::MAX));
    assert_eq!(limiter.check_n(6).unwrap_err().retry_after(), Duration::MAX);
    assert_eq!(limiter.acquire_n(6).unwrap_err().retry_after(), Duration::MAX);
    assert_eq!(limiter.acquire_timeout_n(6, SECOND).unwrap_err().retry_after(), Duration::MAX);
    assert!(limiter.reserve(6, None).is_err());
    assert!(matches!(poll(&mut pin!(limiter.acquire_n_async(6))), Poll::Ready(Err(_))));
    assert!(matches!(poll(&mut pin!(limiter.acquire_timeout_n_async(6, SECOND))), Poll::Ready(Err(_))));
    assert!(limiter.try_acquire_n(3));
    assert!(!limiter.try_acquire_n(3));
    assert_eq!(limiter.check_n(3).unwrap_err().retry_after(), SECOND / 10);
    assert_eq!(limiter.acquire_n(2), Ok(()));
    assert_eq!(limiter.tokens(), 0.0);
}

// RL-8
#[test]
fn inspection_changes_nothing_and_reset_fills_and_wakes() {
    let manual = ManualClock::new();
    let limiter = limiter(&manual, 1.0, 3.0);
    for _ in 0..10 {
        assert_eq!((limiter.tokens(), limiter.time_until_token()), (3.0, Duration::ZERO));
    }
    assert_eq!(drain(&limiter), 3);
    manual.advance(SECOND / 4);
    assert_eq!((limiter.tokens(), limiter.time_until_token()), (0.25, SECOND * 3 / 4));

    let woken: Vec<_> = (0..5).map(|_| Arc::new(Woken::default())).collect();
    let mut waiting: Vec<_> = (0..5).map(|_| limiter.reserve(1, None).unwrap()).collect();
    for (waiter, woken) in waiting.iter_mut().zip(&woken) {
        let waker = Waker::from(Arc::clone(woken));
        assert!(pin!(waiter).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    limiter.reset();
    assert!(woken.iter().all(|woken| woken.times() == 1));
    let ready: Vec<_> = waiting.iter_mut().map(|waiter| poll(waiter).is_ready()).collect();
    assert_eq!(ready, [true, true, true, false, false]);
    assert_eq!(waiting[3].remaining(), SECOND);
    drop(waiting);
    limiter.reset();
    assert_eq!(drain(&limiter), 3);
}

// RL-8
#[test]
fn reset_ends_the_wait_of_a_thread() {
    let manual = ManualClock::new();
    let limiter = RateLimiter::builder(1).per(SECOND * 86_400).clock(&manual).build().unwrap();
    assert!(limiter.try_acquire());
    std::thread::scope(|scope| {
        scope.spawn(|| limiter.acquire());
        while limiter.stats().waiting == 0 {
            std::thread::yield_now();
        }
        limiter.reset();
    });
    assert_eq!(limiter.stats().acquired, 2);
}

// RL-9: the number of tokens stays; waiters continue at the new rate.
#[test]
fn the_rate_changes_without_a_burst() {
    let manual = ManualClock::new();
    let ten = RateLimiter::builder(10).clock(&manual).build().unwrap();
    assert!(ten.try_acquire_n(8));
    ten.set_rate(1000, SECOND).unwrap();
    assert_eq!((ten.burst(), ten.rate(), ten.tokens()), (1000.0, 1000.0, 2.0));
    assert_eq!(drain(&ten), 2);
    manual.advance(SECOND / 10);
    assert_eq!(ten.tokens(), 100.0);
    ten.set_rate(5, SECOND).unwrap();
    assert_eq!(ten.tokens(), 5.0);
    ten.set_rate(1000, SECOND).unwrap();
    assert_eq!(drain(&ten), 5);

    let mut waiting = ten.reserve(1, None).unwrap();
    let mut impatient = ten.reserve(1, Some(SECOND / 10)).unwrap();
    assert_eq!(waiting.remaining(), SECOND / 1000);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    assert!(pin!(&mut waiting).poll(&mut Context::from_waker(&waker)).is_pending());
    ten.set_rate(2, SECOND).unwrap();
    assert_eq!((woken.times(), waiting.remaining()), (1, SECOND / 2));
    // RL-5: the wait would now exceed its timeout.
    assert!(matches!(poll(&mut impatient), Poll::Ready(Err(error)) if error.retry_after() == SECOND));
    assert!(ten.set_rate(0, SECOND).is_err() && ten.set_rate(1, Duration::ZERO).is_err());
    assert_eq!(ten.rate(), 2.0);
}

// RL-2, RL-3: no drift over months, at fast and slow rates.
#[test]
fn nothing_drifts() {
    let manual = ManualClock::with_staleness(Duration::from_millis(8));
    manual.lag(Duration::from_millis(5));
    // The machine has been running for ten years.
    manual.advance(SECOND * 86_400 * 3650);
    let fast = limiter(&manual, 7e6, 7e6);
    let slow = RateLimiter::builder(1).per(SECOND * 86_400).burst(1000).clock(&manual).build().unwrap();
    assert_eq!(drain(&slow), 1000);
    let half_a_million =
        |limiter: &RateLimiter| std::iter::from_fn(|| limiter.try_acquire_n(500_000).then_some(())).count();
    assert_eq!(half_a_million(&fast), 14);
    let mut granted = 0;
    for day in 1..=100 {
        // Intervals by bits, so that every rounding occurs.
        for _ in 0..86_400 / 3_600 {
            for _ in 0..3 {
                manual.advance(SECOND / 7);
                granted += half_a_million(&fast);
            }
            manual.advance(SECOND * 3_600 - SECOND / 7 * 3);
            assert_eq!(half_a_million(&fast), 14);
        }
        assert_eq!(slow.tokens().floor(), f64::from(day));
    }
    // Three sevenths of a second, rounded down, are a fraction of a token below 3 million.
    assert_eq!(granted, 100 * 24 * 5);
    assert_eq!(drain(&slow), 100);
}

// RL-3: a caller that takes each token when it is due gets every one, at a rate without an exact binary fraction.
#[test]
fn with_constant_demand_no_token_is_lost() {
    let manual = ManualClock::new();
    let limiter = limiter(&manual, 7e6, 1.0);
    assert!(limiter.try_acquire());
    let start = manual.now();
    for _ in 0..70_000 {
        let mut next = limiter.reserve(1, None).unwrap();
        manual.advance(next.remaining());
        assert!(poll(&mut next).is_ready());
    }
    assert_eq!(manual.now().since(start), SECOND / 100);
}

// RL-10
#[test]
fn statistics_count_grants_rejections_and_waits() {
    let manual = ManualClock::new();
    let limiter = limiter(&manual, 10.0, 10.0);
    assert!(limiter.try_acquire_n(10));
    assert!(!limiter.try_acquire() && limiter.check().is_err() && limiter.acquire_timeout(Duration::ZERO).is_err());
    let mut used = limiter.reserve(2, None).unwrap();
    let unused = limiter.reserve(1, None).unwrap();
    assert_eq!(limiter.stats(), RateLimiterStats { acquired: 10, rejected: 3, waited: Duration::ZERO, waiting: 2 });
    manual.advance(SECOND / 4);
    assert!(poll(&mut used).is_ready() && poll(&mut used).is_ready());
    drop(unused);
    assert_eq!(limiter.stats(), RateLimiterStats { acquired: 12, rejected: 3, waited: SECOND / 4, waiting: 0 });
}

// RL-12, ALL-1
#[test]
fn invalid_arguments_are_named() {
    let rejected = |rate: f64, per: Duration, burst: f64| {
        let error = RateLimiter::builder(rate).per(per).burst(burst).build().unwrap_err().to_string();
        error.split('`').nth(1).unwrap().to_owned()
    };
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300, 5e-324, 1e-300] {
        assert_eq!(rejected(rate, SECOND, 1.0), "rate", "{rate}");
    }
    for per in [Duration::ZERO, Duration::MAX] {
        assert_eq!(rejected(1.0, per, 1.0), "per", "{per:?}");
    }
    for burst in [-1.0, f64::NAN, f64::INFINITY, 1e300] {
        assert_eq!(rejected(1.0, SECOND, burst), "burst", "{burst}");
    }
    let error = RateLimiter::builder(f64::NAN).build().unwrap_err();
    assert_eq!(error.to_string(), "`rate` is NaN, but must be a number above 0");
    assert!(KeyedRateLimiter::<u8>::builder(1).max_keys(0).build().unwrap_err().to_string().contains("max_keys"));
}

// ALL-1: a clock at its maximum, a wait without end.
#[test]
fn extreme_values_do_not_panic() {
    let manual = ManualClock::new();
    manual.advance(Duration::MAX);
    let limiter = RateLimiter::builder(1e-3).per(SECOND * 86_400 * 365).burst(5).clock(&manual).build().unwrap();
    let waiting: Vec<_> = (0..40).map(|_| limiter.reserve(5, None)).collect();
    manual.advance(Duration::MAX);
    let _ = (limiter.check(), limiter.tokens(), limiter.time_until_token(), limiter.acquire_timeout(SECOND));
    limiter.set_rate(1e9, SECOND).unwrap();
    limiter.reset();
    drop(waiting);
    let _ = format!("{limiter:?} {:?}", limiter.reserve(1, None));
}

// RL-11
#[test]
fn each_key_has_its_own_bucket() {
    let manual = ManualClock::with_staleness(SECOND / 10);
    let limiter = KeyedRateLimiter::<String>::builder(2).burst(3).name("users").clock(&manual).build().unwrap();
    for user in ["a", "b"] {
        assert!(limiter.try_acquire_n(user, 2) && !limiter.try_acquire_n(user, 2) && limiter.try_acquire(user));
        let error = limiter.check(user).unwrap_err();
        assert_eq!((error.retry_after(), error.name.as_deref()), (SECOND / 2, Some("users")));
    }
    manual.advance(SECOND / 2);
    manual.lag(SECOND);
    assert_eq!((limiter.tokens("a"), limiter.tokens("c")), (1.0, 3.0));
    assert!(limiter.try_acquire("a") && !limiter.try_acquire("a"));
    limiter.reset("a");
    assert_eq!(limiter.tokens("a"), 3.0);
    assert_eq!(limiter.check_n("a", 4).unwrap_err().retry_after(), Duration::MAX);
    let stats = limiter.stats();
    assert_eq!((stats.acquired, stats.rejected, stats.keys), (7, 6, 2));
}

// RL-11: idle keys make room; a limited key is never removed.
#[test]
fn the_maximum_of_keys_holds_and_no_limited_key_is_removed() {
    for bound in [1u64, 2, 100, 20_000] {
        let manual = ManualClock::new();
        let limiter = KeyedRateLimiter::<u64>::builder(1).burst(2).clock(&manual);
        let limiter = limiter.max_keys(usize::try_from(bound).unwrap()).build().unwrap();
        assert!((0..bound).all(|key| limiter.try_acquire_n(&key, 2)));
        // All keys are limited and stay so; a rejected new key learns when there is room.
        assert!((bound..bound + 100).all(|key| limiter.check(&key).unwrap_err().retry_after() == SECOND * 2));
        assert!((0..bound).all(|key| !limiter.try_acquire(&key)));
        manual.advance(SECOND);
        assert!(limiter.try_acquire(&0) && !limiter.try_acquire(&bound));
        manual.advance(SECOND);
        // All keys but the first are full again.
        for key in bound..2 * bound - 1 {
            assert!(limiter.try_acquire_n(&key, 2), "{key} of {bound}");
        }
        assert_eq!(limiter.len() as u64, bound);
        assert!(!limiter.try_acquire(&u64::MAX));
        assert_eq!(limiter.tokens(&0), 1.0);
    }
}

// RL-8, RL-11: a key that is reset makes room at once, also when it was known that no key was idle.
#[test]
fn a_key_that_is_reset_makes_room() {
    let manual = ManualClock::new();
    let limiter = KeyedRateLimiter::<u8>::builder(1).max_keys(2).clock(&manual).build().unwrap();
    assert!(limiter.try_acquire(&1) && limiter.try_acquire(&2) && !limiter.try_acquire(&3));
    limiter.reset(&2);
    assert!(limiter.try_acquire(&3), "no room");
    assert!(!limiter.try_acquire(&1), "a limited key was dropped");
}

// RL-2, RL-9: a pause through a very slow rate, with many waiters, causes no burst when the rate is fast again.
#[test]
fn a_queue_survives_a_pause() {
    for slow in [1e-9, 1e-7, 1e-3] {
        let clock = ManualClock::new();
        clock.advance(Duration::from_secs(1000));
        let limiter = RateLimiter::builder(10).burst(1.0).clock(&clock).build().unwrap();
        assert!(limiter.try_acquire());
        let mut line: Vec<_> = (0..300).map(|_| limiter.reserve(1, None).unwrap()).collect();
        limiter.set_rate(slow, Duration::from_secs(1)).unwrap();
        drop(line.remove(150));
        line.push(limiter.reserve(1, None).unwrap());
        limiter.set_rate(10, Duration::from_secs(1)).unwrap();
        for step in 1..=300 {
            clock.advance(Duration::from_millis(100));
            let served = line.iter().filter(|waiter| waiter.remaining().is_zero()).count();
            assert!((step - 1..=step).contains(&served), "{served} of {step} at {slow}");
        }
    }
}

// On every machine: the heap memory of a limiter, including its reference counts.
#[test]
fn a_limiter_takes_192_bytes_at_most() {
    let bytes = size_of::<shared::Shared>() + 2 * size_of::<usize>();
    assert!(bytes <= 192, "{bytes}");
}
