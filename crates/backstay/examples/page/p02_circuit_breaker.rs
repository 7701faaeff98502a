//! Quick Start: Circuit Breaker. Protect calls to an external service from cascading failures.

use std::error::Error;
use std::io;
use std::time::Duration;

use backstay::{CallError, CircuitBreaker, CircuitState};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let breaker = CircuitBreaker::builder().max_failures(3).reset_timeout(Duration::from_secs(30)).build()?;
    let api = Api;

    for _ in 0..5 {
        match breaker.call(|| api.fetch_data("BTC/USDT")) {
            Ok(price) => println!("fresh: {price}"),
            // The circuit is open: the API was not touched. Use a fallback.
            Err(CallError::Rejected(rejection)) => println!("cached: {} ({rejection})", cached_data()),
            Err(CallError::Inner(error)) => println!("the API failed: {error}"),
        }
    }
    assert_eq!(breaker.state(), CircuitState::Open);
    assert_eq!(breaker.stats().rejected, 2);
    Ok(())
}

struct Api;

impl Api {
    fn fetch_data(&self, _symbol: &str) -> io::Result<f64> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

fn cached_data() -> f64 {
    42_000.0
}
