//! The expansion of the attributes causes no warning in a crate that denies all: rustc's are checked here, clippy's in
//! `scripts/lint`.
#![deny(warnings, clippy::all, clippy::pedantic, clippy::nursery)]
#![deny(
    elided_lifetimes_in_paths,
    let_underscore_drop,
    missing_docs,
    single_use_lifetimes,
    unreachable_pub,
    unused_qualifications,
    unused_results
)]

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::LazyLock;

use backstay::{CallError, CircuitBreaker, RateLimitExceededError, RateLimiter, circuit_breaker, rate_limiter};

type Error = CallError<fmt::Error>;

static LIMITER: LazyLock<RateLimiter> = LazyLock::new(|| RateLimiter::builder(1000).build().expect("in range"));

#[circuit_breaker]
fn opaque(numbers: &[u32]) -> Result<impl Iterator<Item = &u32>, Error> {
    Ok(numbers.iter())
}

#[circuit_breaker]
async fn opaque_async(numbers: &[u32]) -> Result<impl Iterator<Item = &u32>, Error> {
    std::future::ready(()).await;
    Ok(numbers.iter())
}

#[circuit_breaker(max_failures = 3, reset_timeout = "1h 0.5s", half_open_max_calls = 2, name = "x", excluded = |_| true)]
fn begins_with_an_item(mut n: u32, (a, b): (u32, u32)) -> Result<u32, Error> {
    use std::fmt::Write as _;
    n += a;
    if n == 7 {
        return Ok(b);
    }
    let mut text = String::new();
    write!(text, "{n}").map_err(CallError::Inner)?;
    Ok(n)
}

#[rate_limiter(rate = 100.5, per = "1s", burst = 1000)]
fn begins_with_items(n: u32) -> u32 {
    use std::ops::Add as _;
    const ONE: u32 = 1;
    fn inner(n: u32) -> u32 {
        n.add(ONE)
    }
    inner(n)
}

#[rate_limiter]
fn nothing() {}

#[rate_limiter(rate = 1_000, timeout = 3600)]
fn no_value(n: u32) -> Result<(), RateLimitExceededError> {
    if n > 1 {
        return Ok(());
    }
    println!("{n}");
    Ok(())
}

#[circuit_breaker]
async fn only_panics(n: &u32) -> Result<&u32, Error> {
    unreachable!("{n}")
}

#[rate_limiter]
async fn only_panics_too(n: u32) -> u32 {
    unreachable!("{n}")
}

#[rate_limiter(blocking = false)]
#[circuit_breaker]
async fn both(n: u32) -> Result<u32, Error> {
    std::future::ready(()).await;
    Ok(n)
}

#[rate_limiter(limiter = LIMITER)]
#[must_use]
fn pinned(n: &u32) -> Pin<Box<dyn Future<Output = u32> + Send + '_>> {
    Box::pin(async { *n })
}

/// A trait of another's making.
#[async_trait::async_trait]
pub trait Api {
    /// What it does.
    ///
    /// # Errors
    /// Some.
    async fn get(&self, name: &str) -> Result<usize, Error>;

    /// The same.
    #[rate_limiter(rate = 1000)]
    async fn has_a_body(&self) -> u32 {
        1
    }
}

struct Client {
    breaker: CircuitBreaker,
}

#[async_trait::async_trait]
impl Api for Client {
    #[rate_limiter(limiter = LIMITER, blocking = false)]
    #[circuit_breaker(breaker = self.breaker)]
    async fn get(&self, name: &str) -> Result<usize, Error> {
        if name.is_empty() {
            return Err(CallError::Inner(fmt::Error));
        }
        Ok(name.len())
    }
}

// CB-12: the attributes add no warning to the crate that uses them; their functions do what they did.
#[test]
fn an_attribute_adds_no_warning() {
    let client = Client { breaker: CircuitBreaker::builder().build().expect("in range") };
    assert_eq!(opaque(&[1, 2]).map(Iterator::count).ok(), Some(2));
    assert_eq!(begins_with_an_item(1, (2, 3)).ok(), Some(3));
    assert_eq!(begins_with_items(1), 2);
    nothing();
    assert_eq!(no_value(2), Ok(()));
    drop((opaque_async(&[]), only_panics(&1), only_panics_too(1), both(1), pinned(&1)));
    drop((client.get("name"), client.has_a_body()));
}
