//! What a builder was not told: the values that configuration may hold for it, every one optional.
//!
//! A builder asks here only when one of its own values is missing (CF-4); without the feature `config` the answer is
//! always "nothing", and the built-in defaults of `backstay-core` hold.

use std::time::Duration;

use crate::error::BuildError;

/// `resilience.circuit_breaker`, the named instance's keys over the section's.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct CircuitBreakerSettings {
    pub(crate) max_failures: Option<u32>,
    pub(crate) reset_timeout: Option<Duration>,
    pub(crate) half_open_max_calls: Option<u32>,
    pub(crate) half_open_timeout: Option<Duration>,
    pub(crate) cancellation_is_failure: Option<bool>,
}

/// `resilience.rate_limiter`: `default_rate` and `default_per`, and a named instance's `rate`, `per`, `burst`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RateLimiterSettings {
    pub(crate) rate: Option<f64>,
    pub(crate) per: Option<Duration>,
    pub(crate) burst: Option<f64>,
}

/// `resilience.shutdown`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ShutdownSettings {
    pub(crate) timeout: Option<Duration>,
    pub(crate) drain_delay: Option<Duration>,
    pub(crate) force_exit_code: Option<i32>,
}

/// `resilience.heartbeat`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct HeartbeatSettings {
    pub(crate) interval: Option<Duration>,
}

/// `resilience.watchdog`, the named instance's keys over the section's.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct WatchdogSettings {
    pub(crate) timeout: Option<Duration>,
}

macro_rules! ask {
    ($($(#[$doc:meta])* $component:ident($($name:ident)?) -> $settings:ident;)*) => {$(
        $(#[$doc])*
        #[cfg(feature = "config")]
        pub(crate) fn $component($($name: Option<&str>)?) -> Result<$settings, BuildError> {
            Ok(crate::config::$component($($name)?)?)
        }

        #[cfg(not(feature = "config"))]
        #[allow(clippy::unnecessary_wraps)]
        pub(crate) fn $component($(_: ask!(@name $name))?) -> Result<$settings, BuildError> {
            Ok($settings::default())
        }
    )*};
    (@name $name:ident) => { Option<&str> };
}

ask! {
    circuit_breaker(name) -> CircuitBreakerSettings;
    rate_limiter(name) -> RateLimiterSettings;
    shutdown() -> ShutdownSettings;
    heartbeat() -> HeartbeatSettings;
    watchdog(name) -> WatchdogSettings;
}
