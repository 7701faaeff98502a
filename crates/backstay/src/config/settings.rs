//! What a configuration holds for one component or named instance.

use std::time::Duration;

use super::Config;
use super::keys::{self, Key, Value};
use crate::settings::{
    CircuitBreakerSettings, HeartbeatSettings, RateLimiterSettings, ShutdownSettings, WatchdogSettings,
};

/// Settings of which a configuration may hold some.
pub(crate) trait Configured {
    /// Adds the missing settings from the instance called `name`, or else from its section.
    fn or_from(self, config: &Config, name: Option<&str>) -> Self;
}

impl Config {
    /// The instance's value of `key`, or else the section's, if it is of the expected kind.
    fn get<T>(&self, key: &'static Key, instance: Option<&str>, of_kind: fn(Value) -> Option<T>) -> Option<T> {
        let given = |instance: Option<&str>| {
            let id = (key.component, instance.map(str::to_owned), key.name());
            self.0.values.get(&id).map(|given| given.value)
        };
        instance.and_then(|name| given(Some(name))).or_else(|| given(None)).and_then(of_kind)
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

configured! {
    CircuitBreakerSettings {
        max_failures: MAX_FAILURES as count,
        reset_timeout: RESET_TIMEOUT as seconds,
        half_open_max_calls: HALF_OPEN_MAX_CALLS as count,
        half_open_timeout: HALF_OPEN_TIMEOUT as seconds,
        cancellation_is_failure: CANCELLATION_IS_FAILURE as flag
    }
    RateLimiterSettings { rate: RATE as number, per: PER as seconds, burst: BURST as number }
    ShutdownSettings {
        timeout: SHUTDOWN_TIMEOUT as seconds,
        drain_delay: DRAIN_DELAY as seconds,
        force_exit_code: FORCE_EXIT_CODE as |value| count(value).and_then(|code| i32::try_from(code).ok())
    }
    HeartbeatSettings { interval: INTERVAL as seconds }
    WatchdogSettings { timeout: WATCHDOG_TIMEOUT as seconds }
}
