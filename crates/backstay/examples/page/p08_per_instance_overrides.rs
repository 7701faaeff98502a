//! Configuration: per-instance overrides. What a builder is told goes before the configuration.

use std::error::Error;
use std::time::Duration;

use backstay::CircuitBreaker;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let breaker = CircuitBreaker::builder()
        .max_failures(3) // overrides the default
        .reset_timeout(Duration::from_secs(10)) // overrides the default
        .name("payment-api") // optional: it stands in errors and in the log
        .build()?;

    for _ in 0..4 {
        if let Err(error) = breaker.call(|| Err::<(), _>(std::io::Error::other("payment failed"))) {
            println!("{error}");
        }
    }
    Ok(())
}
