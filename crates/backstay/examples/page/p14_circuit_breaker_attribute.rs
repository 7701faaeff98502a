//! Decorator usage: the attribute gives a function a circuit breaker of its own.

use std::error::Error;

use backstay::{CircuitOpenError, circuit_breaker};

#[circuit_breaker(max_failures = 3, reset_timeout = "30s")]
fn call_external_api(endpoint: &str) -> Result<String, ApiError> {
    Err(ApiError::Http(format!("GET {endpoint}: 503")))
}

/// The function's error holds the rejection too: `#[from]` is all that it takes.
#[derive(Debug, thiserror::Error)]
enum ApiError {
    #[error("{0}")]
    Http(String),
    #[error(transparent)]
    NotCalled(#[from] CircuitOpenError),
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    for _ in 0..4 {
        match call_external_api("/ticker") {
            Err(ApiError::NotCalled(open)) => println!("not called: {open}"),
            other => println!("called: {other:?}"),
        }
    }
    Ok(())
}
