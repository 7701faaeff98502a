//! Configuration: in kstlib.conf.yml. The program reads the file, and variables take precedence over it;
//! `Config::load()` would search for the file.

use std::error::Error;
use std::time::Duration;

use backstay::config::Config;
use backstay::rate_limiter::RateLimiterBuilder;
use backstay::{CircuitBreaker, GracefulShutdown, Heartbeat, Watchdog};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let config = Config::from_path(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/page/kstlib.conf.yml"))?;

    // Nothing is set here: all of it is in the file.
    let breaker = CircuitBreaker::builder().config(&config).build()?;
    let limiter = RateLimiterBuilder::default().config(&config).build()?;
    let shutdown = GracefulShutdown::builder().config(&config).build()?;
    let heartbeat = Heartbeat::builder().config(&config).build()?;
    let watchdog = Watchdog::builder().config(&config).build()?;

    for _ in 0..4 {
        let _ = breaker.call(|| Err::<(), _>("down"));
    }
    println!("circuit breaker: {} after 4 failures of 5", breaker.state());
    println!("rate limiter: {} per {:?}", limiter.rate(), limiter.per());
    println!("shutdown: {:?}, heartbeat: {:?}", shutdown.timeout(), heartbeat.interval());
    assert_eq!(watchdog.timeout(), Duration::from_secs(30));

    // Where each value comes from:
    for setting in config.settings() {
        let value = setting.value.map_or("-".to_owned(), |value| value.to_string());
        println!("  {:<40} {value:<6} {}", setting.key, setting.origin);
    }
    Ok(())
}
