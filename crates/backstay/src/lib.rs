//! Fault tolerance for long-running services: circuit breaker, rate limiter, graceful shutdown, heartbeat, watchdog.
//!
//! | to | use | by hand | on a function |
//! |---|---|---|---|
//! | stop calling what fails | [`CircuitBreaker`] | `call`, `call_async`, `try_acquire` | `#[circuit_breaker]` |
//! | call at most so often | [`RateLimiter`], [`KeyedRateLimiter`] | `acquire`, `acquire_async`, `try_acquire` | `#[rate_limiter]` |
//! | end in order and in time | [`GracefulShutdown`] | `register`, `install`, `trigger`, `wait` | |
//! | tell others that one lives | [`Heartbeat`] | `start`, `is_alive` | |
//! | notice who froze | [`Watchdog`] | `watch`, `ping` | |
//!
//! Every handle is `Send + Sync`, a cheap clone of one shared thing, and serves threads and async tasks alike. Only
//! `build` can fail for arguments. No builder reads a file or a variable by itself: a program that wants a configuration
//! loads one and passes it on (module [`config`]). Time comes from a [`Clock`](clock::Clock), which a test can control.
//!
//! # Features
//! All are enabled by default. `default-features = false, features = ["circuit-breaker"]` builds one component, with
//! eleven crates in all.
//!
//! - `circuit-breaker`, `rate-limiter`, `shutdown`, `heartbeat`, `watchdog`: the components. `watchdog` enables
//!   `heartbeat`, because a watchdog can watch a heartbeat file.
//! - `tokio`: shutdown's tasks and cancellation token, callbacks on a runtime that is alive, `Clock::tokio()`. Waiting
//!   in a task needs no feature, and no particular runtime.
//! - `config`: the module [`config`], for values from files and `BACKSTAY_*` variables.
//! - `macros`: the attributes.
//!
//! Not enabled by default: `serde`, with which a breaker's snapshot implements `serde::Serialize`.
//!
//! What happens is told to [`tracing`] under the target `backstay`.

#![cfg_attr(docsrs, feature(doc_cfg))]
// What the components share is more than one of them alone uses.
#![cfg_attr(
    not(all(feature = "circuit-breaker", feature = "rate-limiter", feature = "shutdown", feature = "watchdog")),
    allow(dead_code, unused_imports, unused_macros)
)]

#[cfg(feature = "heartbeat")]
mod alert;
#[cfg(feature = "macros")]
#[doc(hidden)]
pub mod attributes;
mod callback;
#[cfg(feature = "circuit-breaker")]
pub mod circuit_breaker;
pub mod clock;
#[cfg(feature = "config")]
pub mod config;
mod error;
#[cfg(feature = "heartbeat")]
pub mod heartbeat;
#[cfg(any(feature = "circuit-breaker", feature = "rate-limiter", feature = "watchdog"))]
mod instances;
mod log;
mod process;
#[cfg(feature = "rate-limiter")]
pub mod rate_limiter;
mod settings;
#[cfg(feature = "shutdown")]
pub mod shutdown;
#[cfg(feature = "shutdown")]
mod signals;
mod striped;
mod sync;
pub mod threads;
#[cfg(feature = "rate-limiter")]
#[cfg_attr(backstay_loom, allow(dead_code))] // its protocol alone is modelled
mod timer;
#[cfg(feature = "watchdog")]
pub mod watchdog;

#[cfg(feature = "heartbeat")]
pub use alert::Alert;
#[cfg(all(feature = "macros", feature = "circuit-breaker"))]
pub use backstay_macros::circuit_breaker;
#[cfg(all(feature = "macros", feature = "rate-limiter"))]
pub use backstay_macros::rate_limiter;
#[cfg(feature = "circuit-breaker")]
pub use circuit_breaker::{CircuitBreaker, CircuitState};
pub use error::{BuildError, CallError, CircuitOpenError, InvalidArgument, RateLimitExceededError, Rejection};
#[cfg(feature = "heartbeat")]
pub use heartbeat::{Heartbeat, HeartbeatError};
#[cfg(not(backstay_loom))]
#[doc(hidden)]
pub use process::fork;
#[cfg(feature = "rate-limiter")]
pub use rate_limiter::{KeyedRateLimiter, RateLimiter, Reservation};
#[cfg(feature = "shutdown")]
pub use shutdown::{GracefulShutdown, ShutdownError};
#[cfg(feature = "watchdog")]
pub use watchdog::{Watchdog, WatchdogError, WatchdogTimeoutError};

/// The README's samples must compile and run.
#[cfg(all(
    doctest,
    feature = "circuit-breaker",
    feature = "rate-limiter",
    feature = "shutdown",
    feature = "watchdog",
    feature = "tokio",
    feature = "config",
    feature = "macros"
))]
#[doc = include_str!("../README.md")]
struct Readme;
