//! TL;DR: the five components at a glance.

use std::error::Error;
use std::io;
use std::time::Duration;

use backstay::{CallError, CircuitBreaker, GracefulShutdown, Heartbeat, RateLimiter, Watchdog};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    // Circuit breaker: prevent cascading failures
    let breaker = CircuitBreaker::builder().max_failures(3).reset_timeout(Duration::from_secs(30)).build()?;
    for _ in 0..4 {
        let price = match breaker.call(|| fetch_data("BTC/USDT")) {
            Ok(price) => price,
            Err(CallError::Rejected(open)) => cached_fallback(&open), // open after 3 failures
            Err(CallError::Inner(error)) => {
                println!("fetch_data failed: {error}");
                continue;
            }
        };
        println!("price: {price}");
    }

    // Rate limiter: control request throughput
    let limiter = RateLimiter::builder(10).build()?; // 10 requests per second
    limiter.acquire(); // blocks until a token is there
    println!("API called, {:.0} tokens left", limiter.tokens());

    // Graceful shutdown: clean process termination
    let shutdown = GracefulShutdown::new();
    shutdown.callback("database").priority(10).register(|| println!("database closed"))?;
    shutdown.install()?; // SIGTERM, SIGINT

    // Heartbeat: a sign of life for other processes
    let state_file = std::env::temp_dir().join(format!("tldr-{}.heartbeat", std::process::id()));
    let heartbeat = Heartbeat::builder().state_file(&state_file).interval(Duration::from_secs(10)).build()?;
    heartbeat.start()?;

    // Watchdog: notice threads that freeze
    let watchdog = Watchdog::builder()
        .timeout(Duration::from_secs(30))
        .on_timeout(|report| println!("{:?} appears frozen!", report.thread_name))
        .build()?;
    watchdog.watch(|watchdog| {
        for _ in 0..3 {
            watchdog.ping(); // resets the timer
            do_work();
        }
    })?;

    println!("alive: {}", Heartbeat::is_alive(&state_file, Duration::from_secs(30)));
    shutdown.trigger();
    heartbeat.stop();
    std::fs::remove_file(state_file)?;
    Ok(())
}

fn fetch_data(_symbol: &str) -> io::Result<f64> {
    Err(io::ErrorKind::ConnectionRefused.into())
}

fn cached_fallback(open: &backstay::Rejection) -> f64 {
    println!("{open}");
    42_000.0
}

fn do_work() {}
