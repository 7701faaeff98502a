//! Troubleshooting: rate limit always exceeded. A higher rate, waiting, or a larger burst.

use std::error::Error;
use std::time::Duration;

use backstay::RateLimiter;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    // Option 1: a higher rate, also while it is in use
    let limiter = RateLimiter::builder(10).build()?;
    limiter.set_rate(100, Duration::from_secs(1))?;
    println!("{} per {:?}", limiter.rate(), limiter.per());

    // Option 2: wait for a token instead of failing
    limiter.acquire();

    // Option 3: room for bursts
    let limiter = RateLimiter::builder(10).burst(50).build()?;
    let at_once = (0..100).filter(|_| limiter.try_acquire()).count();
    println!("{at_once} at once");
    assert!(at_once >= 50);
    Ok(())
}
