//! Looks up the settings of one component or named instance.

use std::time::Duration;

use backstay_core::circuit_breaker::Window;

use super::Config;
use super::keys::{self, Key, Value};
use crate::settings::{
    CircuitBreakerSettings, HeartbeatSettings, RateLimiterSettings, ShutdownSettings, WatchdogSettings,
};

/// Settings that a configuration can complete.
pub(crate) trait Configured {
    /// Sets the missing settings from the instance called `name`, or else from its section.
    fn or_from(self, config: &Config, name: Option<&str>) -> Self;
}

impl Config {
    /// Returns the instance's value of `key`, or else the section's, if it is of the expected kind.
    fn get<T>(&self, key: &'static Key, instance: Option<&str>, of_kind: fn(Value) -> Option<T>) -> Option<T> {
        let of_instance = instance.and_then(|name| self.get_exactly(key, Some(name)));
        of_instance.or_else(|| self.get_exactly(key, None)).and_then(of_kind)
    }

    fn get_exactly(&self, key: &'static Key, instance: Option<&str>) -> Option<Value> {
        let id = (key.component, instance.map(str::to_owned), key.name());
        self.0.values.get(&id).map(|given| given.value)
    }
}

fn count(value: Value) -> Option<u32> {
    if let Value::Count(count) = value { Some(count) } else { None }
}

fn seconds(value: Value) -> Option<Duration> {
    if let Value::Seconds(duration) = value { Some(duration) } else { None }
}

fn number(value: Value) -> Option<f64> {
    if let Value::Number(number) = value { Some(number) } else { None }
}

fn flag(value: Value) -> Option<bool> {
    if let Value::Flag(flag) = value { Some(flag) } else { None }
}

macro_rules! configured {
    ($($settings:ident { $($field:ident: $key:ident as $kind:expr),* })*) => {$(
        impl Configured for $settings {
            fn or_from(self, config: &Config, name: Option<&str>) -> Self {
                Self { $($field: self.$field.or_else(|| config.get(&keys::$key, name, $kind))),* }
            }
        }
    )*};
}

impl Configured for CircuitBreakerSettings {
    fn or_from(self, config: &Config, name: Option<&str>) -> Self {
        // One setting with two keys: either key of the instance takes precedence over both keys of the section.
        let window_of = |instance| {
            let calls = || config.get_exactly(&keys::WINDOW_CALLS, instance).and_then(count).map(Window::Calls);
            let time = || config.get_exactly(&keys::WINDOW, instance).and_then(seconds).map(Window::Time);
            calls().or_else(time)
        };
        let window = || name.and_then(|name| window_of(Some(name))).or_else(|| window_of(None));
        Self {
            max_failures: self.max_failures.or_else(|| config.get(&keys::MAX_FAILURES, name, count)),
            reset_timeout: self.reset_timeout.or_else(|| config.get(&keys::RESET_TIMEOUT, name, seconds)),
            half_open_max_calls: self
                .half_open_max_calls
                .or_else(|| config.get(&keys::HALF_OPEN_MAX_CALLS, name, count)),
            half_open_timeout: self.half_open_timeout.or_else(|| config.get(&keys::HALF_OPEN_TIMEOUT, name, seconds)),
            cancellation_is_failure: self
                .cancellation_is_failure
                .or_else(|| config.get(&keys::CANCELLATION_IS_FAILURE, name, flag)),
            failure_rate: self.failure_rate.or_else(|| config.get(&keys::FAILURE_RATE, name, number)),
            window: self.window.or_else(window),
            minimum_calls: self.minimum_calls.or_else(|| config.get(&keys::MINIMUM_CALLS, name, count)),
            slow_call: self.slow_call.or_else(|| config.get(&keys::SLOW_CALL, name, seconds)),
            slow_call_rate: self.slow_call_rate.or_else(|| config.get(&keys::SLOW_CALL_RATE, name, number)),
        }
    }
}

configured! {
    RateLimiterSettings { rate: RATE as number, per: PER as seconds, burst: BURST as number }
    ShutdownSettings {
        timeout: SHUTDOWN_TIMEOUT as seconds,
        drain_delay: DRAIN_DELAY as seconds,
        force_exit_code: FORCE_EXIT_CODE as |value| count(value).and_then(|code| i32::try_from(code).ok())
    }
    HeartbeatSettings { interval: INTERVAL as seconds }
    WatchdogSettings { timeout: WATCHDOG_TIMEOUT as seconds }
}
