//! Excluded exceptions: errors that are the caller's own (validation) do not open the circuit.

use std::error::Error;
use std::io::{self, ErrorKind};

use backstay::{CircuitBreaker, CircuitState};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let breaker = CircuitBreaker::builder().max_failures(3).build()?;
    let callers_own = |error: &io::Error| matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound);

    for _ in 0..10 {
        let _ = breaker.excluding(callers_own).call(|| lookup("no such key"));
    }
    assert_eq!(breaker.state(), CircuitState::Closed);
    println!("{} after {} excluded errors", breaker.state(), breaker.stats().ignored);
    Ok(())
}

fn lookup(_key: &str) -> io::Result<u32> {
    Err(ErrorKind::NotFound.into())
}
