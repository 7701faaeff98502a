//! The examples as what they are: programs, with signals from outside and their output read.
#![cfg(all(feature = "circuit-breaker", feature = "rate-limiter", feature = "shutdown", feature = "watchdog"))]
#![cfg(all(unix, feature = "tokio", feature = "macros", feature = "config"))]
#![allow(clippy::unwrap_used)]

mod examples {
    mod child;
    #[allow(dead_code, reason = "for its own tests")]
    #[path = "../../examples/trading_bot/exchange.rs"]
    mod exchange;
    mod failure_rate;
    mod page;
    mod trading;
}
