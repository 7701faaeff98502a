//! Models of the bucket's word, and of joining, leaving and waking in the queue.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use backstay_core::rate_limiter::{Reserved, Scale};

use super::bucket::{Bucket, Parameters, TakeResult};
use super::{KeyedRateLimiter, RateLimiter};
use crate::clock::{Clock, ManualClock, Moment, Reading};
use crate::sync::Arc;
use crate::sync::thread::{self, block_on};

const NOW: Reading = Reading::exact(Moment::ORIGIN);
const SECOND: Duration = Duration::from_secs(1);

/// Two tokens of 4 units, and one of 16.
const SMALL: Scale = Scale::new(1 << 62, 4, 8);
const LARGE: Scale = Scale::new(1 << 62, 16, 16);

/// The parameters of a bucket; only the scale matters here.
fn words(scale: Scale) -> Parameters {
    Parameters { scale, rate: 0, per: 0, burst: 0 }
}

// RL-2
#[test]
fn loom_of_two_takers_one_gets_the_last_token() {
    loom::model(|| {
        let bucket = Arc::new(Bucket::new(&words(SMALL), 4));
        let other = Arc::clone(&bucket);
        let taker = thread::spawn(move || other.take(1, NOW));
        let mine = bucket.take(1, NOW);
        let results = [mine, taker.join().unwrap()];
        assert_eq!(results.iter().filter(|result| **result == TakeResult::Granted).count(), 1);
        assert_eq!(bucket.read(), Some((8, SMALL)));
    });
}

// RL-9: no thread computes with a word and the parameters of another one.
#[test]
fn loom_a_taker_and_a_change_of_the_rate_do_not_mix() {
    loom::model(|| {
        // Full with two tokens, afterwards with one; the words of both are equal.
        let bucket = Arc::new(Bucket::new(&words(SMALL), 0));
        let other = Arc::clone(&bucket);
        let taker = thread::spawn(move || other.take(2, NOW));
        bucket.change(&words(LARGE), |full_at| SMALL.convert(full_at, &LARGE, Moment::ORIGIN));
        let full_at = match taker.join().unwrap() {
            // Before the change: no token was left.
            TakeResult::Granted => 16,
            // After the change there was only one token, or the take saw the change in progress.
            TakeResult::Rejected(_) | TakeResult::Undecided => 0,
        };
        assert_eq!(bucket.read(), Some((full_at, LARGE)));
    });
}

// RL-6: a refund and a concurrent take add up.
#[test]
fn loom_a_refund_and_a_taker_add_up() {
    loom::model(|| {
        let bucket = Arc::new(Bucket::new(&words(SMALL), 8));
        let other = Arc::clone(&bucket);
        let taker = thread::spawn(move || other.take(1, NOW));
        let refund = bucket.refund(Reserved { full_at: 8, cost: 4 }, || Moment::ORIGIN);
        assert_eq!(refund, 4);
        let taken = if taker.join().unwrap() == TakeResult::Granted { 4 } else { 0 };
        assert_eq!(bucket.read(), Some((4 + taken, SMALL)));
    });
}

// RL-2: a refund that sees a later take also sees that take's time. Tokens that overflowed stay lost.
#[test]
fn loom_a_refund_is_no_older_than_what_was_taken() {
    loom::model(|| {
        let manual = ManualClock::new();
        let clock = Clock::from(&manual);
        // One token was taken at the beginning and is unused.
        let bucket = Arc::new(Bucket::new(&words(SMALL), 4));
        let other = Arc::clone(&bucket);
        let taker = thread::spawn(move || {
            manual.advance(Duration::from_nanos(3));
            assert_eq!(other.take(1, Reading::exact(manual.now())), TakeResult::Granted);
        });
        bucket.refund(Reserved { full_at: 4, cost: 4 }, || clock.now());
        taker.join().unwrap();
        // As if the unused token had never been taken.
        assert_eq!(bucket.read(), Some((7, SMALL)));
    });
}

// RL-2, RL-9: the time of a change of the rate is no earlier than that of the takes at the old rate.
#[test]
fn loom_a_change_of_the_rate_is_no_older_than_what_was_taken() {
    loom::model(|| {
        const FAST: Scale = Scale::new(1 << 63, 4, 8);
        let manual = ManualClock::new();
        let clock = Clock::from(&manual);
        let bucket = Arc::new(Bucket::new(&words(SMALL), 0));
        let other = Arc::clone(&bucket);
        let taker = thread::spawn(move || {
            manual.advance(Duration::from_nanos(4));
            other.take(1, Reading::exact(manual.now()))
        });
        bucket.change(&words(FAST), |full_at| SMALL.convert(full_at, &FAST, clock.now()));
        // Four nanoseconds give one token at the old rate; at the new one they give two, a full bucket.
        let tokens = if taker.join().unwrap() == TakeResult::Granted { 1 } else { 2 };
        let (full_at, scale) = bucket.read().unwrap();
        assert_eq!((scale.level(full_at, clock.now()), scale), (tokens * 4, FAST));
    });
}

// RL-2: a key that is removed during a take from it regains no past tokens.
#[test]
fn loom_a_forgotten_key_is_full_and_no_more() {
    loom::model(|| {
        let manual = ManualClock::new();
        let limiter =
            KeyedRateLimiter::<u8>::builder(1).per(SECOND).max_keys(2).hasher(Same).clock(&manual).build().unwrap();
        let other = limiter.clone();
        let taker = thread::spawn(move || u32::from(other.try_acquire(&1)));
        let mut granted = u32::from(limiter.try_acquire(&1));
        assert!(limiter.try_acquire(&2));
        manual.advance(SECOND);
        // Both keys are idle and are removed.
        assert!(limiter.try_acquire(&3));
        granted += u32::from(limiter.try_acquire(&1));
        granted += taker.join().unwrap();
        granted += u32::from(limiter.try_acquire(&1));
        assert!(granted <= 2, "{granted} in a second");
    });
}

#[derive(Clone, Copy, Debug, Default)]
struct Same;

impl std::hash::BuildHasher for Same {
    type Hasher = std::hash::DefaultHasher;

    fn build_hasher(&self) -> Self::Hasher {
        Self::Hasher::new()
    }
}

fn empty(manual: &ManualClock) -> RateLimiter {
    let limiter = RateLimiter::builder(1).per(SECOND).burst(0).clock(manual).build().unwrap();
    assert!(!limiter.try_acquire());
    limiter
}

// RL-4, RL-6: a waiter that moves up is notified, and the clock wakes waiters that are due.
#[test]
fn loom_a_waiter_that_moves_up_is_woken() {
    loom::model(|| {
        let manual = ManualClock::new();
        let limiter = empty(&manual);
        let ahead = limiter.reserve(1, None).unwrap();
        let behind = limiter.reserve(1, None).unwrap();
        let waiter = thread::spawn(move || block_on(behind).unwrap());
        drop(ahead);
        manual.advance(SECOND);
        waiter.join().unwrap();
    });
}

// RL-4, RL-8
#[test]
fn loom_reset_wakes_waiters() {
    loom::model(|| {
        let manual = ManualClock::new();
        let limiter = empty(&manual);
        let waiting = limiter.reserve(1, None).unwrap();
        let waiter = thread::spawn(move || block_on(waiting).unwrap());
        limiter.reset();
        waiter.join().unwrap();
    });
}

// RL-4: two waiters join while time goes on; each gets its own token.
#[test]
fn loom_two_join_and_both_are_served() {
    loom::model(|| {
        let manual = ManualClock::new();
        let limiter = empty(&manual);
        let other = limiter.clone();
        let joiner = thread::spawn(move || other.reserve(1, None).unwrap());
        let mine = limiter.reserve(1, None).unwrap();
        let other = joiner.join().unwrap();
        let mut dues = [mine.remaining(), other.remaining()];
        dues.sort_unstable();
        assert_eq!(dues, [SECOND, SECOND * 2]);
    });
}
