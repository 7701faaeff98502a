//! Each code block of the page, in its order, as a Rust program: `cargo run --example page -- 12`, or all of them
//! without a number. A file stands for itself: what is in its `main` is what belongs into yours.
#![allow(clippy::disallowed_methods)] // examples sleep, where a service would work

use std::error::Error;
use std::process::{Command, ExitCode};

macro_rules! page {
    ($($module:ident $number:literal $heading:literal;)*) => {
        $(mod $module;)*

        const BLOCKS: &[(u32, &str, Block)] = &[$(($number, $heading, $module::main)),*];
    };
}

type Block = fn() -> Result<(), Box<dyn Error>>;

page! {
    p01_tldr 1 "TL;DR";
    p02_circuit_breaker 2 "Quick Start: Circuit Breaker";
    p03_rate_limiter 3 "Quick Start: Rate Limiter";
    p04_graceful_shutdown 4 "Quick Start: Graceful Shutdown";
    p05_heartbeat 5 "Quick Start: Heartbeat";
    p06_watchdog 6 "Quick Start: Watchdog";
    p07_configuration 7 "Configuration: in kstlib.conf.yml";
    p08_per_instance_overrides 8 "Configuration: per-instance overrides";
    p09_trading_bot 9 "Trading bot with full resilience";
    p10_async_circuit_breaker 10 "Async circuit breaker";
    p11_rate_limiter_attribute 11 "Rate limiter decorator";
    p12_rate_limiter_with_timeout 12 "Rate limiter with timeout";
    p13_async_rate_limiter 13 "Async rate limiter";
    p14_circuit_breaker_attribute 14 "Decorator usage";
    p15_excluded_errors 15 "Excluded exceptions";
    p16_multi_process_heartbeat 16 "Multi-process heartbeat monitoring";
    p17_async_graceful_shutdown 17 "Async graceful shutdown";
    p18_watchdog_for_worker_threads 18 "Watchdog for worker threads";
    p19_async_watchdog 19 "Async watchdog";
    p20_watchdog_error_on_timeout 20 "Watchdog with raise on timeout";
    p21_circuit_stays_open_too_long 21 "Troubleshooting: circuit stays open too long";
    p22_shutdown_callbacks_not_running 22 "Troubleshooting: shutdown callbacks not running";
    p23_heartbeat_file_not_created 23 "Troubleshooting: heartbeat file not created";
    p24_async_context 24 "Troubleshooting: async context issues";
    p25_watchdog_triggers_unexpectedly 25 "Troubleshooting: watchdog triggers unexpectedly";
    p26_watchdog_callback_not_called 26 "Troubleshooting: watchdog callback not called";
    p27_rate_limit_always_exceeded 27 "Troubleshooting: rate limit always exceeded";
    p28_rate_limiter_not_throttling 28 "Troubleshooting: rate limiter not throttling";
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let Some(wanted) = std::env::args().nth(1) else { return all() };
    let number = wanted.parse().ok();
    if let Some((_, _, block)) = BLOCKS.iter().find(|block| Some(block.0) == number) {
        block()?;
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("no block {wanted:?}; there are");
    for (number, heading, _) in BLOCKS {
        eprintln!("{number:>4}  {heading}");
    }
    Ok(ExitCode::from(2))
}

/// Each block in a process of its own, as it would be: some of them take signals, some read the configuration.
fn all() -> Result<ExitCode, Box<dyn Error>> {
    for (number, heading, _) in BLOCKS {
        println!("\n{number}. {heading}");
        let status = Command::new(std::env::current_exe()?).arg(number.to_string()).status()?;
        if !status.success() {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}
