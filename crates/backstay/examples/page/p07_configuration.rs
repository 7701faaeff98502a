//! Configuration: in kstlib.conf.yml. What a builder is not told comes from `./kstlib.conf.yml`, `~/kstlib.conf.yml`,
//! `~/.config/kstlib.conf.yml`, or the file that `BACKSTAY_CONFIG` names; over all of them stands the environment.

use std::error::Error;
use std::process::Command;
use std::time::Duration;

use backstay::config::Config;
use backstay::{CircuitBreaker, GracefulShutdown, Heartbeat, RateLimiter, Watchdog};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    if std::env::var_os("BACKSTAY_CONFIG").is_none() {
        return again_with(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/page/kstlib.conf.yml"));
    }

    // Nothing is said here: all of it stands in the file.
    let breaker = CircuitBreaker::builder().build()?;
    let limiter = RateLimiter::configured().build()?;
    let shutdown = GracefulShutdown::new()?;
    let heartbeat = Heartbeat::builder().build()?;
    let watchdog = Watchdog::builder().build()?;

    for _ in 0..4 {
        let _ = breaker.call(|| Err::<(), _>("down"));
    }
    println!("circuit breaker: {} after 4 failures of 5", breaker.state());
    println!("rate limiter: {} per {:?}", limiter.rate(), limiter.per());
    println!("shutdown: {:?}, heartbeat: {:?}", shutdown.timeout(), heartbeat.interval());
    assert_eq!(watchdog.timeout(), Duration::from_secs(30));

    // Who says what:
    for setting in Config::current()?.settings() {
        let value = setting.value.map_or("-".to_owned(), |value| value.to_string());
        println!("  {:<40} {value:<6} {}", setting.key, setting.origin);
    }
    Ok(())
}

/// Runs this program with the file and a variable, which wins over the file.
fn again_with(file: &str) -> Result<(), Box<dyn Error>> {
    let mut this = Command::new(std::env::current_exe()?);
    this.args(std::env::args_os().skip(1)).env("BACKSTAY_CONFIG", file).env("BACKSTAY_HEARTBEAT__INTERVAL", "5");
    let status = this.status()?;
    if status.success() { Ok(()) } else { Err(format!("the child ended with {status}").into()) }
}
