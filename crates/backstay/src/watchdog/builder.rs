use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use backstay_core::InvalidArgument;
use backstay_core::watchdog::{
    DEFAULT_MAX_AGE, DEFAULT_TIMEOUT, clamp_timeout, default_check_interval, is_valid_timeout,
};

use super::report::TimeoutReport;
use super::shared::WatchdogShared;
use super::watched_file::WatchedFile;
use super::{Watchdog, WatchdogInner};
use crate::alert::Alert;
use crate::callback::Callback;
use crate::clock::Clock;
use crate::error::BuildError;
use crate::settings::{Fallback, WatchdogSettings, config_setter};

/// Options of both builders.
#[derive(Debug, Default)]
struct CommonOptions {
    name: Option<Arc<str>>,
    clock: Clock,
    on_timeout: Option<Callback<TimeoutReport>>,
    on_alert: Option<Callback<Alert>>,
    stack_of: Option<fn(u32) -> Option<String>>,
}

/// A given timeout or interval, to be clamped or not.
#[derive(Clone, Copy, Debug)]
enum TimeoutOption {
    Clamped(Duration),
    Unclamped(Duration),
}

impl TimeoutOption {
    fn resolve(self, clamped: &str, unclamped: &'static str) -> Result<Duration, InvalidArgument> {
        match self {
            Self::Clamped(given) => {
                let timeout = clamp_timeout(given);
                if timeout != given {
                    tracing::warn!(
                        target: "backstay",
                        "watchdog `{clamped}` {given:?} is out of range (1 s to 3600 s) and is clamped to {timeout:?}; \
                         use `{unclamped}` for other values"
                    );
                }
                Ok(timeout)
            }
            Self::Unclamped(timeout) if is_valid_timeout(timeout) => Ok(timeout),
            Self::Unclamped(timeout) => {
                Err(InvalidArgument::new(unclamped, format!("{timeout:?}"), "above 0 and below 584 years"))
            }
        }
    }
}

impl CommonOptions {
    /// Returns an error if the clock stops with a runtime.
    fn validate(&self) -> Result<(), InvalidArgument> {
        #[cfg(feature = "tokio")]
        if matches!(self.clock.source(), crate::clock::Source::Tokio(_)) {
            let allowed =
                "the system clock or a manual clock, because a watchdog must outlive the runtime that it watches";
            return Err(InvalidArgument::new("clock", "tokio's clock", allowed));
        }
        Ok(())
    }

    fn build(self, timeout: Duration, raise: bool, file: Option<WatchedFile>) -> Watchdog {
        let shared = Arc::new(WatchdogShared::new(self.clock, timeout, raise, file));
        let Self { name, on_timeout, on_alert, stack_of, .. } = self;
        let inner = Arc::new(WatchdogInner { shared: Arc::clone(&shared), name, on_timeout, on_alert, stack_of });
        Watchdog { shared, inner }
    }
}

macro_rules! common_setters {
    () => {
        /// Sets the name, for reports, the log and errors. Default: none.
        pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
            self.common.name = Some(name.into());
            self
        }

        /// Sets a callback that runs each time the watchdog fires.
        ///
        /// It runs on a background thread and may block: while fewer than 256 callbacks block, no other is delayed. A
        /// panic in it is logged.
        pub fn on_timeout(mut self, callback: impl Fn(&TimeoutReport) + Send + Sync + 'static) -> Self {
            self.common.on_timeout = Some(Callback::plain(callback));
            self
        }

        /// Sets [`on_timeout`](Self::on_timeout) to an async callback.
        ///
        /// It runs on its own runtime, because the runtime of the watched code may be frozen.
        pub fn on_timeout_async<F>(mut self, callback: impl Fn(&TimeoutReport) -> F + Send + Sync + 'static) -> Self
        where
            F: Future<Output = ()> + Send + 'static,
        {
            self.common.on_timeout = Some(Callback::future(callback));
            self
        }

        /// Sets a callback that gets an [`Alert`] each time the watchdog fires.
        ///
        /// It runs in addition to `on_timeout`.
        pub fn on_alert(mut self, callback: impl Fn(&Alert) + Send + Sync + 'static) -> Self {
            self.common.on_alert = Some(Callback::plain(callback));
            self
        }

        /// Sets [`on_alert`](Self::on_alert) to an async callback.
        ///
        /// It runs on its own runtime.
        pub fn on_alert_async<F>(mut self, callback: impl Fn(&Alert) -> F + Send + Sync + 'static) -> Self
        where
            F: Future<Output = ()> + Send + 'static,
        {
            self.common.on_alert = Some(Callback::future(callback));
            self
        }

        /// Sets the clock.
        ///
        /// Default: the system clock. Tests can pass a [`ManualClock`](crate::clock::ManualClock).
        pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
            self.common.clock = clock.into();
            self
        }
    };
}

/// Builds a [`Watchdog`]; returned by [`Watchdog::builder`].
#[derive(Debug, Default)]
#[must_use = "call `build`"]
pub struct WatchdogBuilder {
    common: CommonOptions,
    pub(crate) fallback: Fallback,
    timeout: Option<TimeoutOption>,
    raise: bool,
}

impl WatchdogBuilder {
    common_setters!();
    config_setter!(fallback);

    /// Sets the longest time without a ping. Default: 30 s.
    ///
    /// It is clamped to 1 s to 3600 s, with a warning.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(TimeoutOption::Clamped(timeout));
        self
    }

    /// Sets the [`timeout`](Self::timeout) without clamping it.
    ///
    /// Use it for timeouts below a second. The coarse clock that [`ping`](Watchdog::ping) reads has a tick of a
    /// few milliseconds. The watchdog fires up to four ticks late so that it never fires early. Timeouts below 50 ms
    /// are therefore imprecise.
    pub fn timeout_unclamped(mut self, timeout: Duration) -> Self {
        self.timeout = Some(TimeoutOption::Unclamped(timeout));
        self
    }

    /// Sets whether a firing returns an error to the watched code. Default: false.
    ///
    /// The next [`try_ping`](Watchdog::try_ping), [`check`](Watchdog::check), [`watch`](Watchdog::watch) or
    /// [`finish`](super::WatchGuard::finish) returns the [`WatchdogTimeoutError`](crate::WatchdogTimeoutError), once.
    pub fn raise_on_timeout(mut self, raise: bool) -> Self {
        self.raise = raise;
        self
    }

    /// Sets a function that returns the stack of a thread.
    ///
    /// It gets the operating system's id of the thread. It is called at each firing, before the log and the callbacks.
    /// The stack appears in [`TimeoutReport::stack`], in the log and in alerts. Use it for interpreters.
    pub fn stack_of(mut self, stack_of: fn(u32) -> Option<String>) -> Self {
        self.common.stack_of = Some(stack_of);
        self
    }

    /// Builds the watchdog, which is not running yet.
    ///
    /// # Errors
    /// - An unclamped timeout of zero, or of 584 years or more.
    /// - A clock that depends on a runtime.
    pub fn build(self) -> Result<Watchdog, BuildError> {
        self.common.validate()?;
        let timeout = match self.timeout {
            Some(timeout) => timeout.resolve("timeout", "timeout_unclamped")?,
            None => {
                let settings = self.fallback.complete(WatchdogSettings::default(), self.common.name.as_deref());
                clamp_timeout(settings.timeout.unwrap_or(DEFAULT_TIMEOUT))
            }
        };
        Ok(self.common.build(timeout, self.raise, None))
    }
}

/// Builds a [`Watchdog`] of a heartbeat file.
///
/// [`Watchdog::from_state_file`] returns it.
#[derive(Debug)]
#[must_use = "call `build`"]
pub struct StateFileWatchdogBuilder {
    common: CommonOptions,
    path: PathBuf,
    check_interval: Option<TimeoutOption>,
    max_age: Duration,
}

impl StateFileWatchdogBuilder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { common: CommonOptions::default(), path, check_interval: None, max_age: DEFAULT_MAX_AGE }
    }

    common_setters!();

    /// Sets the maximum age of the last beat. Default: 30 s. Must be positive.
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = max_age;
        self
    }

    /// Sets the interval between checks of the file. Default: half of `max_age`.
    ///
    /// It is clamped to 1 s to 3600 s, with a warning.
    pub fn check_interval(mut self, interval: Duration) -> Self {
        self.check_interval = Some(TimeoutOption::Clamped(interval));
        self
    }

    /// Sets the [`check_interval`](Self::check_interval) without clamping it.
    ///
    /// Use it for intervals below a second.
    pub fn check_interval_unclamped(mut self, interval: Duration) -> Self {
        self.check_interval = Some(TimeoutOption::Unclamped(interval));
        self
    }

    /// Builds the watchdog, which is not running yet. The file does not have to exist.
    ///
    /// # Errors
    /// - An unclamped interval of zero, or of 584 years or more.
    /// - A `max_age` of zero.
    /// - A clock that depends on a runtime.
    pub fn build(self) -> Result<Watchdog, BuildError> {
        let Self { mut common, path, check_interval, max_age } = self;
        common.validate()?;
        if max_age.is_zero() {
            return Err(InvalidArgument::new("max_age", "0 s", "positive").into());
        }
        let interval = match check_interval {
            Some(interval) => interval.resolve("check_interval", "check_interval_unclamped")?,
            None => default_check_interval(max_age),
        };
        common.name.get_or_insert_with(|| format!("state_file_watcher:{}", path.display()).into());
        Ok(common.build(
            interval,
            false,
            Some(WatchedFile { path, max_age, check_in_progress: AtomicBool::new(false) }),
        ))
    }
}
