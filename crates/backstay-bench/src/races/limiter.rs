//! Measures the rate limiter: tokens granted by a partly full and by a full bucket, and rejections.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Duration;

use backstay::RateLimiter;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota};

use super::clock::{coarse_clock, compare_and_swap};
use crate::harness::{Contestant, Side};

/// A bucket so large that a whole benchmark does not empty it.
const BURST: u32 = 4_000_000_000;
/// A rate so low that the bucket is never full while tokens are taken from it.
const RATE: u32 = 100_000;
/// The first token is taken before the measurement.
const TAKEN: u32 = 100_000_000;

/// Every call gets a token; the bucket is never full and never empty.
pub(crate) fn granted() -> Vec<Contestant> {
    let ours = ours(RATE, BURST);
    assert!(ours.try_acquire_n(TAKEN));
    let governor = governor(RATE, BURST);
    assert!(governor.check_n(count(TAKEN)).is_ok_and(|granted| granted.is_ok()));
    let left = u64::from(BURST - TAKEN);
    let ratelimit =
        ratelimit::Ratelimiter::builder(RATE.into()).max_tokens(BURST.into()).initial_available(left).build();
    let leaky = leaky_bucket(RATE as usize / 1000, Duration::from_millis(1), BURST as usize, (BURST - TAKEN) as usize);
    let mut contestants = contestants(ours, governor, ratelimit.expect("the arguments are valid"), leaky, true);
    contestants.push(compare_and_swap());
    contestants
}

/// A rate at which the bucket is full again before the next call.
pub(crate) const FAST: u32 = 1_000_000_000;

/// Every call finds the bucket full, as in a limiter that is hardly used.
pub(crate) fn granted_when_full() -> Vec<Contestant> {
    let ratelimit = ratelimit::Ratelimiter::builder(FAST.into()).initial_available(FAST.into()).build();
    let leaky = leaky_bucket(FAST as usize / 1000, Duration::from_millis(1), FAST as usize, FAST as usize);
    let ratelimit = ratelimit.expect("the arguments are valid");
    contestants(ours(FAST, FAST), governor(FAST, FAST), ratelimit, leaky, true)
}

/// Calls back to back: nearly all are rejected, and the next token is near.
pub(crate) fn saturated<const RATE: u32>() -> Vec<Contestant> {
    let (ours, governor) = (ours(RATE, 1), governor(RATE, 1));
    vec![
        Contestant::new(Side::Ours, "backstay", move || {
            black_box(black_box(&ours).try_acquire());
            true
        }),
        Contestant::new(Side::Peer, "governor", move || {
            black_box(black_box(&governor).check().is_ok());
            true
        }),
        coarse_clock(),
    ]
}

/// Every call is rejected and computes `retry_after`.
pub(crate) fn refused_until() -> Vec<Contestant> {
    const HOUR: Duration = Duration::from_secs(3600);
    let ours = RateLimiter::builder(1).per(HOUR).burst(1).build().expect("the arguments are valid");
    let governor = DefaultDirectRateLimiter::direct(Quota::with_period(HOUR).expect("an hour is not zero"));
    assert!(ours.try_acquire() && governor.check().is_ok());
    let clock = DefaultClock::default();
    vec![
        Contestant::new(Side::Ours, "backstay", move || match black_box(&ours).check() {
            Err(error) => black_box(error.retry_after()) > Duration::ZERO,
            Ok(()) => false,
        }),
        Contestant::new(Side::Peer, "governor", move || match black_box(&governor).check() {
            Err(until) => black_box(until.wait_time_from(clock.now())) > Duration::ZERO,
            Ok(()) => false,
        }),
    ]
}

/// Every call is rejected: the one token is gone, and the next comes in an hour.
pub(crate) fn refused() -> Vec<Contestant> {
    const HOUR: Duration = Duration::from_secs(3600);
    let ours = RateLimiter::builder(1).per(HOUR).burst(1).build().expect("the arguments are valid");
    let governor = DefaultDirectRateLimiter::direct(Quota::with_period(HOUR).expect("an hour is not zero"));
    let ratelimit = ratelimit::Ratelimiter::builder(1).period(HOUR).max_tokens(1).build();
    assert!(ours.try_acquire() && governor.check().is_ok());
    contestants(ours, governor, ratelimit.expect("the arguments are valid"), leaky_bucket(1, HOUR, 1, 0), false)
}

fn contestants(
    ours: RateLimiter,
    governor: DefaultDirectRateLimiter,
    ratelimit: ratelimit::Ratelimiter,
    leaky: leaky_bucket::RateLimiter,
    granted: bool,
) -> Vec<Contestant> {
    vec![
        Contestant::new(Side::Ours, "backstay", move || black_box(&ours).try_acquire() == granted),
        Contestant::new(Side::Peer, "governor", move || black_box(&governor).check().is_ok() == granted),
        Contestant::new(Side::Peer, "ratelimit", move || black_box(&ratelimit).try_wait().is_ok() == granted),
        Contestant::new(Side::Peer, "leaky-bucket", move || black_box(&leaky).try_acquire(1) == granted),
    ]
}

pub(crate) fn ours(rate: u32, burst: u32) -> RateLimiter {
    RateLimiter::builder(rate).burst(burst).build().expect("the arguments are valid")
}

pub(crate) fn governor(rate: u32, burst: u32) -> DefaultDirectRateLimiter {
    DefaultDirectRateLimiter::direct(Quota::per_second(count(rate)).allow_burst(count(burst)))
}

pub(crate) fn leaky_bucket(refill: usize, interval: Duration, max: usize, initial: usize) -> leaky_bucket::RateLimiter {
    leaky_bucket::RateLimiter::builder().refill(refill).interval(interval).max(max).initial(initial).build()
}

fn count(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("none of the numbers here is zero")
}
