//! Every interleaving of the word's protocol, and of joining, leaving and waking in the line.
#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use backstay_core::rate_limiter::{Place, Scale};
use loom::sync::{Condvar, Mutex};
use loom::thread;

use super::RateLimiter;
use super::bucket::{Answer, Bucket};
use crate::clock::{ManualClock, Moment, Reading};
use crate::sync::Arc;

const NOW: Reading = Reading::exact(Moment::ORIGIN);
const SECOND: Duration = Duration::from_secs(1);

/// Two tokens of 4 units, and one of 16.
const SMALL: Scale = Scale::new(1 << 62, 4, 8);
const LARGE: Scale = Scale::new(1 << 62, 16, 16);

// RL-2
#[test]
fn loom_of_two_takers_one_gets_the_last_token() {
    loom::model(|| {
        let bucket = Arc::new(Bucket::new(SMALL, 4));
        let other = Arc::clone(&bucket);
        let taker = thread::spawn(move || other.take(1, NOW));
        let mine = bucket.take(1, NOW);
        let answers = [mine, taker.join().unwrap()];
        assert_eq!(answers.iter().filter(|answer| **answer == Answer::Granted).count(), 1);
        assert_eq!(bucket.read(), Some((8, SMALL)));
    });
}

// RL-9: nobody computes with a word and the parameters of another.
#[test]
fn loom_a_taker_and_a_change_of_the_rate_do_not_mix() {
    loom::model(|| {
        // Full, of two tokens; afterwards full of one, and the numbers of both are the same.
        let bucket = Arc::new(Bucket::new(SMALL, 0));
        let other = Arc::clone(&bucket);
        let taker = thread::spawn(move || other.take(2, NOW));
        bucket.change(&LARGE, 0, Moment::ORIGIN);
        let full_at = match taker.join().unwrap() {
            // Before the change: nothing was left.
            Answer::Granted => 16,
            // Afterwards there was one token only, or it was seen changing.
            Answer::Refused | Answer::Unclear => 0,
        };
        assert_eq!(bucket.read(), Some((full_at, LARGE)));
    });
}

// RL-6: what goes back and what is taken meanwhile add up.
#[test]
fn loom_a_refund_and_a_taker_add_up() {
    loom::model(|| {
        let bucket = Arc::new(Bucket::new(SMALL, 8));
        let other = Arc::clone(&bucket);
        let taker = thread::spawn(move || other.take(1, NOW));
        let refund = bucket.refund(Place { full_at: 8, cost: 4 }, Moment::ORIGIN);
        assert_eq!(refund, 4);
        let taken = if taker.join().unwrap() == Answer::Granted { 4 } else { 0 };
        assert_eq!(bucket.read(), Some((4 + taken, SMALL)));
    });
}

/// A wake-up that stays until it is seen. Loom's own `park` forgets one that finds its thread at a lock.
#[derive(Default)]
struct Token {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Token {
    fn wake(self: std::sync::Arc<Self>) {
        *self.woken.lock().unwrap() = true;
        self.changed.notify_one();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let token = std::sync::Arc::new(Token::default());
    let waker = Waker::from(std::sync::Arc::clone(&token));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let mut woken = token.woken.lock().unwrap();
        while !*woken {
            woken = token.changed.wait(woken).unwrap();
        }
        *woken = false;
    }
}

fn empty(hand: &ManualClock) -> RateLimiter {
    let limiter = RateLimiter::builder(1).per(SECOND).burst(0).clock(hand).build().unwrap();
    assert!(!limiter.try_acquire());
    limiter
}

// RL-4, RL-6: whoever moves up learns of it, and the clock wakes whoever is due.
#[test]
fn loom_who_moves_up_is_woken() {
    loom::model(|| {
        let hand = ManualClock::new();
        let limiter = empty(&hand);
        let ahead = limiter.reserve(1, None).unwrap();
        let behind = limiter.reserve(1, None).unwrap();
        let waiter = thread::spawn(move || block_on(behind).unwrap());
        drop(ahead);
        hand.advance(SECOND);
        waiter.join().unwrap();
    });
}

// RL-4, RL-8
#[test]
fn loom_reset_wakes_who_may_go() {
    loom::model(|| {
        let hand = ManualClock::new();
        let limiter = empty(&hand);
        let waiting = limiter.reserve(1, None).unwrap();
        let waiter = thread::spawn(move || block_on(waiting).unwrap());
        limiter.reset();
        waiter.join().unwrap();
    });
}

// RL-4: two join while time goes on; each gets its own token.
#[test]
fn loom_two_join_and_both_are_served() {
    loom::model(|| {
        let hand = ManualClock::new();
        let limiter = empty(&hand);
        let other = limiter.clone();
        let joiner = thread::spawn(move || other.reserve(1, None).unwrap());
        let mine = limiter.reserve(1, None).unwrap();
        let other = joiner.join().unwrap();
        let mut dues = [mine.remaining(), other.remaining()];
        dues.sort_unstable();
        assert_eq!(dues, [SECOND, SECOND * 2]);
    });
}
