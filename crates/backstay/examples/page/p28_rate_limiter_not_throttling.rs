//! Troubleshooting: rate limiter not throttling. Each attribute makes a limiter of its own: share one.

use std::error::Error;
use std::sync::LazyLock;

use backstay::{RateLimitExceededError, RateLimiter, rate_limiter};

// Wrong: two limiters, which together let twice as many pass.
#[rate_limiter(rate = 10, blocking = false)]
fn alone_a() -> Result<(), RateLimitExceededError> {
    Ok(())
}

#[rate_limiter(rate = 10, blocking = false)]
fn alone_b() -> Result<(), RateLimitExceededError> {
    Ok(())
}

// Right: one limiter for both.
static SHARED: LazyLock<RateLimiter> =
    LazyLock::new(|| RateLimiter::builder(10).build().expect("10 per second is a rate"));

#[rate_limiter(limiter = SHARED, blocking = false)]
fn shared_a() -> Result<(), RateLimitExceededError> {
    Ok(())
}

/// The same without the attribute.
fn shared_b() -> Result<(), RateLimitExceededError> {
    SHARED.check()
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let alone = (0..20).filter(|_| alone_a().is_ok()).count() + (0..20).filter(|_| alone_b().is_ok()).count();
    let shared = (0..20).filter(|_| shared_a().is_ok()).count() + (0..20).filter(|_| shared_b().is_ok()).count();
    println!("alone {alone}, shared {shared}");
    assert!(shared < alone);
    Ok(())
}
