//! Quick Start: Rate Limiter. Control request throughput with a token bucket.

use std::error::Error;

use backstay::RateLimiter;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    // 10 requests per second, and bursts of up to 10
    let limiter = RateLimiter::builder(10).build()?;

    // Waits for a token
    limiter.acquire();
    call_api();

    // Does not wait: false where there is no token
    let mut calls = 1;
    while limiter.try_acquire() {
        call_api();
        calls += 1;
    }
    println!("{calls} calls, then no token for {:?}", limiter.time_until_token());
    Ok(())
}

fn call_api() {}
