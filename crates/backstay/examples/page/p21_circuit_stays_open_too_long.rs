//! Troubleshooting: circuit stays open too long. Let it try again sooner.

use std::error::Error;
use std::io;
use std::thread::sleep;
use std::time::Duration;

use backstay::{CircuitBreaker, CircuitState};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let breaker = CircuitBreaker::builder()
        .max_failures(3)
        .reset_timeout(Duration::from_millis(200)) // 10 s instead of 60 s, in a service
        .build()?;
    for _ in 0..3 {
        let _ = breaker.call(|| Err::<(), _>(io::Error::other("down")));
    }
    println!("{}", breaker.state());

    // How long it will take is in every rejection.
    if let Err(open) = breaker.try_acquire() {
        sleep(open.remaining);
    }

    println!("{}", breaker.state());
    breaker.call(|| Ok::<_, io::Error>("up"))?;
    println!("{}", breaker.state());
    assert_eq!(breaker.state(), CircuitState::Closed);
    Ok(())
}
