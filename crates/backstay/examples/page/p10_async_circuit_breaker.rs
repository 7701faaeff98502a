//! Async circuit breaker: the same breaker, awaited.

use std::error::Error;
use std::io;
use std::time::Duration;

use backstay::{CallError, CircuitBreaker};

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let breaker = CircuitBreaker::builder().max_failures(2).build()?;

    let result = breaker.call_async(|| fetch_data("BTC/USDT")).await?;
    println!("price: {result}");

    for _ in 0..3 {
        match breaker.call_async(|| fetch_data("NO/SUCH")).await {
            Err(CallError::Rejected(open)) => println!("not called: {open}"),
            other => println!("called: {other:?}"),
        }
    }
    Ok(())
}

async fn fetch_data(symbol: &str) -> io::Result<f64> {
    tokio::time::sleep(Duration::from_millis(10)).await;
    if symbol == "BTC/USDT" { Ok(42_000.0) } else { Err(io::ErrorKind::NotFound.into()) }
}
