//! Rate limiter with timeout: wait, but not for ever.

use std::error::Error;
use std::time::Duration;

use backstay::RateLimiter;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let limiter = RateLimiter::builder(5).build()?;
    // Wait up to 2 seconds for a token: the sixth takes 0.2 s
    for _ in 0..6 {
        limiter.acquire_timeout(Duration::from_secs(2))?;
        call_api();
    }

    // A wait that would outlast its timeout is refused at once, and uses up nothing
    let error = loop {
        match limiter.acquire_timeout(Duration::from_millis(10)) {
            Ok(()) => call_api(),
            Err(error) => break error,
        }
    };
    println!("Timeout! Retry after {:.2}s", error.retry_after().as_secs_f64());
    Ok(())
}

fn call_api() {
    println!("API called");
}
