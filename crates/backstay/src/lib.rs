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
//! Every handle is `Send + Sync`, a cheap clone of one shared thing, and serves threads and async tasks alike. A builder
//! is the only door that can fail for its arguments; what it is not told comes from the configuration (feature
//! `config`) and then from the defaults. Time comes from a [`Clock`](clock::Clock), which a test can hold in its hand.
//!
//! # Features
//! - `tokio` (default): shutdown's tasks and cancellation token, callbacks on a runtime that is alive,
//!   `Clock::tokio()`. Waiting in a task needs no feature, and no particular runtime.
//! - `config` (default): `kstlib.conf.yml` and `BACKSTAY_*` variables.
//! - `macros` (default): the attributes.
//!
//! What happens is told to [`tracing`] under the target `backstay`.

mod alert;
#[cfg(feature = "macros")]
#[doc(hidden)]
pub mod attributes;
mod callback;
pub mod circuit_breaker;
pub mod clock;
#[cfg(feature = "config")]
pub mod config;
mod error;
#[cfg(not(backstay_loom))]
pub mod fork;
#[cfg_attr(backstay_loom, allow(dead_code))]
mod gate;
pub mod heartbeat;
mod instances;
mod log;
mod per_process;
pub mod rate_limiter;
mod settings;
pub mod shutdown;
mod signals;
mod striped;
mod sync;
pub mod threads;
#[cfg_attr(backstay_loom, allow(dead_code))] // its protocol alone is modelled
mod timer;
pub mod watchdog;

pub use alert::Alert;
#[cfg(feature = "macros")]
pub use backstay_macros::{circuit_breaker, rate_limiter};
pub use circuit_breaker::{CircuitBreaker, CircuitState};
pub use error::{
    BuildError, CallError, CircuitOpenError, InvalidArgument, RateLimitExceededError, Rejection, WatchdogError,
    WatchdogTimeoutError,
};
pub use heartbeat::{Heartbeat, HeartbeatError};
pub use rate_limiter::{KeyedRateLimiter, RateLimiter, Reservation};
pub use shutdown::{GracefulShutdown, ShutdownError};
pub use watchdog::Watchdog;

/// The README's samples must compile and run.
#[cfg(all(doctest, feature = "tokio", feature = "config", feature = "macros"))]
#[doc = include_str!("../README.md")]
struct Readme;
