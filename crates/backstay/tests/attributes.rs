//! The attributes on functions and methods, sync and async.
#![cfg(all(feature = "circuit-breaker", feature = "rate-limiter"))]
#![cfg(feature = "macros")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use backstay::circuit_breaker::Outcome;
use backstay::{CallError, CircuitBreaker, CircuitOpenError, RateLimitExceededError, RateLimiter};
use backstay::{circuit_breaker, rate_limiter};

#[derive(Debug, PartialEq)]
enum Error {
    Down,
    BadInput,
    Open(CircuitOpenError),
}

impl From<CircuitOpenError> for Error {
    fn from(error: CircuitOpenError) -> Self {
        Self::Open(error)
    }
}

fn rejection<T: std::fmt::Debug>(result: Result<T, Error>) -> CircuitOpenError {
    match result {
        Err(Error::Open(error)) => error,
        other => panic!("not rejected, but {other:?}"),
    }
}

#[circuit_breaker]
fn bare(fail: bool) -> Result<u32, Error> {
    if fail {
        return Err(Error::Down);
    }
    Ok(1)
}

// CB-12: bare, on a sync function, with the defaults.
#[test]
fn bare_on_a_function() {
    assert_eq!(bare(false), Ok(1));
    for _ in 0..5 {
        assert_eq!(bare(true), Err(Error::Down));
    }
    assert!(rejection(bare(false)).remaining > Duration::from_secs(50));
}

#[circuit_breaker(failure_rate = 1.0, window_calls = 3, minimum_calls = 3, slow_call = "1s", classify = by_number)]
fn classified(status: u32) -> Result<u32, Error> {
    if status == 0 { Err(Error::BadInput) } else { Ok(status) }
}

#[circuit_breaker(failure_rate = 0.5, window = "30s", classify = |result: &Result<u32, Error>| by_number(result))]
async fn classified_async(status: u32) -> Result<u32, Error> {
    Ok(status)
}

fn by_number(result: &Result<u32, Error>) -> Outcome {
    match result {
        Ok(503) => Outcome::FailureFor(Duration::from_secs(600)),
        Ok(500..) => Outcome::Failure,
        Err(Error::BadInput) => Outcome::Ignored,
        other => Outcome::from(other),
    }
}

// CB-12, CB-14, CB-16: the attribute takes rates, and a classifier decides on results.
#[tokio::test]
async fn a_classifier_and_a_rate_on_functions() {
    for (status, result) in [(404, Ok(404)), (0, Err(Error::BadInput)), (500, Ok(500)), (500, Ok(500))] {
        assert_eq!(classified(status), result);
    }
    assert_eq!(classified(500), Ok(500), "the third of three");
    assert!(rejection(classified(200)).remaining > Duration::from_secs(50));
    assert_eq!(classified_async(503).await, Ok(503));
    assert!(rejection(classified_async(200).await).remaining > Duration::from_secs(500));
}

static CALLS: AtomicU32 = AtomicU32::new(0);

#[circuit_breaker(max_failures = 2, reset_timeout = "1h 30m", name = "quotes", excluded = is_bad_input)]
async fn quote(symbol: &str, fail: Option<Error>) -> Result<&str, Error> {
    CALLS.fetch_add(1, Ordering::SeqCst);
    std::future::ready(fail.map_or(Ok(()), Err)).await?;
    Ok(symbol)
}

fn is_bad_input(error: &Error) -> bool {
    *error == Error::BadInput
}

// CB-12: with arguments, on an async function that borrows; `?` in its body; excluded errors.
#[tokio::test]
async fn with_arguments_on_an_async_function() {
    assert_eq!(quote("BTC", None).await, Ok("BTC"));
    for _ in 0..9 {
        assert_eq!(quote("BTC", Some(Error::BadInput)).await, Err(Error::BadInput));
    }
    assert_eq!(quote("BTC", Some(Error::Down)).await, Err(Error::Down));
    assert_eq!(quote("BTC", Some(Error::Down)).await, Err(Error::Down));
    let calls = CALLS.load(Ordering::SeqCst);
    let error = rejection(quote("BTC", None).await);
    assert_eq!(error.name.as_deref(), Some("quotes"));
    assert!(error.remaining > Duration::from_secs(5300));
    assert_eq!(CALLS.load(Ordering::SeqCst), calls, "the function was not touched");
    // The future can be sent, as the function's own could.
    tokio::spawn(quote("BTC", None)).await.unwrap().unwrap_err();
}

static SHARED: LazyLock<CircuitBreaker> = LazyLock::new(own);

fn own() -> CircuitBreaker {
    CircuitBreaker::builder().max_failures(1).build().unwrap()
}

struct Client {
    breaker: CircuitBreaker,
    sent: Vec<u32>,
}

impl Client {
    #[circuit_breaker(breaker = SHARED)]
    fn send<T: Into<u32>>(&mut self, item: T) -> Result<usize, CallError<std::num::ParseIntError>> {
        self.sent.push(item.into());
        if self.sent.last() == Some(&0) {
            "x".parse::<u32>().map_err(CallError::Inner)?;
        }
        Ok(self.sent.len())
    }

    #[circuit_breaker(breaker = self.breaker)]
    async fn fetch(&self, fail: bool) -> Result<(), CallError<&'static str>> {
        if fail { Err(CallError::Inner("down")) } else { Ok(()) }
    }
}

// CB-12: on methods, with a breaker that others share, and one that belongs to the value. CallError holds a rejection.
#[tokio::test]
async fn on_methods_with_a_given_breaker() {
    let mut client = Client { breaker: own(), sent: Vec::new() };
    assert_eq!(client.send(7_u8).ok(), Some(1));
    assert!(client.send(0_u8).is_err());
    assert!(matches!(client.send(7_u8), Err(CallError::Rejected(_))));
    assert_eq!((SHARED.stats().rejected, client.sent.len()), (1, 2));
    let other = Client { breaker: own(), sent: Vec::new() };
    assert!(client.fetch(true).await.is_err());
    assert!(matches!(client.fetch(false).await, Err(CallError::Rejected(_))));
    assert_eq!(other.fetch(false).await, Ok(()));
}

#[rate_limiter(rate = 1, per = "1h", burst = 3)]
fn waits_unless_there_is_a_burst(n: u32) -> u32 {
    n + 1
}

#[rate_limiter]
#[deny(warnings)]
#[rustfmt::skip]
fn one_line() -> u32 { 1 }

#[rate_limiter(rate = 0.5, per = "1h", blocking = false, name = "fast-api")]
fn fast(n: u32) -> Result<u32, RateLimitExceededError> {
    Ok(n)
}

#[rate_limiter(rate = 2, per = 3600, timeout = "2s")]
async fn patient(n: u32) -> Result<u32, CallError<std::convert::Infallible>> {
    Ok(n)
}

static LIMITER: LazyLock<RateLimiter> = LazyLock::new(|| RateLimiter::builder(2).per(HOUR).build().unwrap());
const HOUR: Duration = Duration::from_secs(3600);

#[rate_limiter(limiter = LIMITER)]
#[circuit_breaker(breaker = BREAKER_OF_BOTH)]
async fn both() -> Result<(), CallError<&'static str>> {
    Ok(())
}

static BREAKER_OF_BOTH: LazyLock<CircuitBreaker> = LazyLock::new(own);

// RL-5, RL-12: the attribute waits or rejects, as its arguments say; functions can share a limiter.
#[tokio::test]
async fn the_limiter_on_functions() {
    assert_eq!(one_line(), 1);
    assert_eq!([1, 2, 3].map(waits_unless_there_is_a_burst), [2, 3, 4]);
    assert_eq!(fast(1), Ok(1));
    let error = fast(2).unwrap_err();
    assert_eq!(error.name.as_deref(), Some("fast-api"));
    assert!(error.retry_after() > HOUR && error.retry_after() <= 2 * HOUR);
    assert!(patient(1).await.is_ok() && patient(2).await.is_ok());
    let refused = patient(3).await.unwrap_err();
    assert!(refused.rejection().unwrap().retry_after() > HOUR / 4, "{refused}");
    both().await.unwrap();
    assert!(LIMITER.try_acquire() && !LIMITER.try_acquire());
}
