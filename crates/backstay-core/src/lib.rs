//! The rules of Backstay, and nothing else.
//!
//! Every rule is a pure function of a state and a time: no clock is read here, no lock taken, nothing waits, nothing
//! is written. The handles in the crate `backstay` store these states, hold the clocks and do the waiting.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod argument;
pub mod circuit_breaker;
pub mod heartbeat;
pub mod rate_limiter;
pub mod shutdown;
pub mod time;
pub mod watchdog;

pub use argument::InvalidArgument;

/// So many cases of a property; two under Miri, where one takes seconds. A failure leaves no file behind.
#[cfg(test)]
fn cases(cases: u32) -> proptest::test_runner::Config {
    let cases = if cfg!(miri) { 2 } else { cases };
    proptest::test_runner::Config { cases, failure_persistence: None, ..Default::default() }
}
