//! Rate limiter decorator: in Rust, an attribute.

use std::error::Error;

use backstay::{RateLimitExceededError, rate_limiter};

/// Waits for a token: 100 requests per minute.
#[rate_limiter(rate = 100, per = "60s")]
fn call_api(endpoint: &str) -> String {
    format!("GET {endpoint}")
}

/// Does not wait: an error where the limit is exceeded.
#[rate_limiter(rate = 10, per = "1s", blocking = false)]
fn fast_api(data: &str) -> Result<String, RateLimitExceededError> {
    Ok(format!("POST {data}"))
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    println!("{}", call_api("/ticker"));
    let error = loop {
        match fast_api("{\"key\": \"value\"}") {
            Ok(posted) => println!("{posted}"),
            Err(error) => break error,
        }
    };
    println!("Rate limited, retry after {:.2}s", error.retry_after().as_secs_f64());
    Ok(())
}
