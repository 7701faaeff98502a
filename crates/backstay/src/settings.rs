//! The values that a builder may be given, or take from its configuration: every one optional.

use std::time::Duration;

use backstay_core::circuit_breaker::Window;

#[cfg(feature = "config")]
use crate::config::{Config, Configured};

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CircuitBreakerSettings {
    pub(crate) max_failures: Option<u32>,
    pub(crate) reset_timeout: Option<Duration>,
    pub(crate) half_open_max_calls: Option<u32>,
    pub(crate) half_open_timeout: Option<Duration>,
    pub(crate) cancellation_is_failure: Option<bool>,
    pub(crate) failure_rate: Option<f64>,
    pub(crate) window: Option<Window>,
    pub(crate) minimum_calls: Option<u32>,
    pub(crate) slow_call: Option<Duration>,
    pub(crate) slow_call_rate: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RateLimiterSettings {
    pub(crate) rate: Option<f64>,
    pub(crate) per: Option<Duration>,
    pub(crate) burst: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ShutdownSettings {
    pub(crate) timeout: Option<Duration>,
    pub(crate) drain_delay: Option<Duration>,
    pub(crate) force_exit_code: Option<i32>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeartbeatSettings {
    pub(crate) interval: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WatchdogSettings {
    pub(crate) timeout: Option<Duration>,
}

/// Where a builder takes the values from that it is not given: a configuration, or nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fallback(#[cfg(feature = "config")] Option<Config>);

#[cfg(feature = "config")]
impl Fallback {
    pub(crate) fn to(config: &Config) -> Self {
        Self(Some(config.clone()))
    }

    /// To the process's configuration, which is decided now; an error of a later installation names the user.
    pub(crate) fn to_installed(component: &str, name: &str) -> Self {
        Self(Config::installed(|| format!("{component} {name:?}")).cloned())
    }

    pub(crate) fn complete<S: Configured>(&self, given: S, name: Option<&str>) -> S {
        match &self.0 {
            Some(config) => given.or_from(config, name),
            None => given,
        }
    }
}

#[cfg(not(feature = "config"))]
#[allow(clippy::unused_self)]
impl Fallback {
    pub(crate) fn to_installed(_: &str, _: &str) -> Self {
        Self()
    }

    pub(crate) fn complete<S>(&self, given: S, _: Option<&str>) -> S {
        given
    }
}

/// The method `config` of each builder, whose field `fallback` it sets.
macro_rules! config_setter {
    ($($field:ident).+) => {
        /// Uses `config` for the values that are not set here, an instance's settings first if the name has any.
        /// Default: the built-in defaults.
        #[cfg(feature = "config")]
        pub fn config(mut self, config: &crate::config::Config) -> Self {
            self.$($field).+ = crate::settings::Fallback::to(config);
            self
        }
    };
}
pub(crate) use config_setter;
