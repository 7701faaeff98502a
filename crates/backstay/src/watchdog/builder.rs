use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use backstay_core::InvalidArgument;
use backstay_core::watchdog::{DEFAULT_MAX_AGE, DEFAULT_TIMEOUT, clamp_timeout, default_check_interval, is_sensible};

use super::beat::Beat;
use super::report::TimeoutReport;
use super::state_file::StateFile;
use super::{Inner, Watchdog};
use crate::alert::Alert;
use crate::callback::Callback;
use crate::clock::Clock;
use crate::error::BuildError;
use crate::settings::{Fallback, WatchdogSettings, config_setter};

/// What both builders take.
#[derive(Debug, Default)]
struct Common {
    name: Option<Arc<str>>,
    clock: Clock,
    on_timeout: Option<Callback<TimeoutReport>>,
    on_alert: Option<Callback<Alert>>,
    stack_of: Option<fn(u32) -> Option<String>>,
}

/// How long to wait: as it is written down, or brought into the bounds.
#[derive(Clone, Copy, Debug)]
enum Timeout {
    Clamped(Duration),
    Unclamped(Duration),
}

impl Timeout {
    fn resolve(self, clamped: &str, unclamped: &'static str) -> Result<Duration, InvalidArgument> {
        match self {
            Self::Clamped(given) => {
                let timeout = clamp_timeout(given);
                if timeout != given {
                    tracing::warn!(
                        target: "backstay",
                        "a watchdog's `{clamped}` is {given:?}, outside 1 s to 3600 s; {timeout:?} is used, and \
                         `{unclamped}` takes it as it is"
                    );
                }
                Ok(timeout)
            }
            Self::Unclamped(timeout) if is_sensible(timeout) => Ok(timeout),
            Self::Unclamped(timeout) => {
                Err(InvalidArgument::new(unclamped, format!("{timeout:?}"), "above 0 and below 584 years"))
            }
        }
    }
}

impl Common {
    /// Whether a watchdog can go by the clock it was given.
    fn check(&self) -> Result<(), InvalidArgument> {
        #[cfg(feature = "tokio")]
        if matches!(self.clock.source(), crate::clock::Source::Tokio(_)) {
            let allowed = "the system's or one in the hand: a watchdog does not stop with the runtime it watches";
            return Err(InvalidArgument::new("clock", "tokio's", allowed));
        }
        Ok(())
    }

    fn build(self, timeout: Duration, raise: bool, file: Option<StateFile>) -> Watchdog {
        let beat = Arc::new(Beat::new(self.clock, timeout, raise, file));
        let Self { name, on_timeout, on_alert, stack_of, .. } = self;
        let inner = Arc::new(Inner { beat: Arc::clone(&beat), name, on_timeout, on_alert, stack_of });
        Watchdog { beat, inner }
    }
}

macro_rules! common_setters {
    () => {
        /// The name in reports, in the log and in errors.
        pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
            self.common.name = Some(name.into());
            self
        }

        /// Called each time the watchdog fires, on a thread of its own: it may block, and delays no other watchdog.
        /// One that panics is logged.
        pub fn on_timeout(mut self, callback: impl Fn(&TimeoutReport) + Send + Sync + 'static) -> Self {
            self.common.on_timeout = Some(Callback::plain(callback));
            self
        }

        /// [`on_timeout`](Self::on_timeout) as a future, which runs on a runtime of its own: the watched one may be
        /// the one that is frozen.
        pub fn on_timeout_async<F>(mut self, callback: impl Fn(&TimeoutReport) -> F + Send + Sync + 'static) -> Self
        where
            F: Future<Output = ()> + Send + 'static,
        {
            self.common.on_timeout = Some(Callback::future(callback));
            self
        }

        /// Called each time the watchdog fires, with what a pager needs; beside `on_timeout`, not instead of it.
        pub fn on_alert(mut self, callback: impl Fn(&Alert) + Send + Sync + 'static) -> Self {
            self.common.on_alert = Some(Callback::plain(callback));
            self
        }

        /// [`on_alert`](Self::on_alert) as a future, which runs on a runtime of its own.
        pub fn on_alert_async<F>(mut self, callback: impl Fn(&Alert) -> F + Send + Sync + 'static) -> Self
        where
            F: Future<Output = ()> + Send + 'static,
        {
            self.common.on_alert = Some(Callback::future(callback));
            self
        }

        /// The clock: the system's, or one that a test holds in its hand.
        pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
            self.common.clock = clock.into();
            self
        }
    };
}

/// Makes a [`Watchdog`]; from [`Watchdog::builder`].
#[derive(Debug, Default)]
#[must_use = "a builder makes nothing before `build`"]
pub struct WatchdogBuilder {
    common: Common,
    pub(crate) fallback: Fallback,
    timeout: Option<Timeout>,
    raise: bool,
}

impl WatchdogBuilder {
    common_setters!();
    config_setter!(fallback);

    /// Fires after this time without a ping. Default: 30 s; clamped to 1 s to 3600 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(Timeout::Clamped(timeout));
        self
    }

    /// [`timeout`](Self::timeout) as it is given, for watching that is finer than a second.
    ///
    /// The clock that [`ping`](Watchdog::ping) reads ticks every few milliseconds, and the watchdog allows for four
    /// ticks so as never to fire early: below some 50 ms the timeout means little.
    pub fn timeout_unclamped(mut self, timeout: Duration) -> Self {
        self.timeout = Some(Timeout::Unclamped(timeout));
        self
    }

    /// Has the next [`try_ping`](Watchdog::try_ping), or the end of the block, return a
    /// [`WatchdogTimeoutError`](crate::WatchdogTimeoutError) after the watchdog has fired.
    pub fn raise_on_timeout(mut self, raise: bool) -> Self {
        self.raise = raise;
        self
    }

    /// Asked at each firing, before anybody is told, what the thread with this id is doing: for interpreters, which
    /// know more of their threads than the operating system. In [`TimeoutReport::stack`], in the log and in alerts.
    pub fn stack_of(mut self, stack_of: fn(u32) -> Option<String>) -> Self {
        self.common.stack_of = Some(stack_of);
        self
    }

    /// The watchdog, not yet running.
    ///
    /// # Errors
    /// An unclamped timeout that is zero or endless, or a clock that depends on a runtime.
    pub fn build(self) -> Result<Watchdog, BuildError> {
        self.common.check()?;
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

/// Makes a [`Watchdog`] that watches a heartbeat file; from [`Watchdog::from_state_file`].
#[derive(Debug)]
#[must_use = "a builder makes nothing before `build`"]
pub struct StateFileWatchdogBuilder {
    common: Common,
    path: PathBuf,
    check_interval: Option<Timeout>,
    max_age: Duration,
}

impl StateFileWatchdogBuilder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { common: Common::default(), path, check_interval: None, max_age: DEFAULT_MAX_AGE }
    }

    common_setters!();

    /// How old the last beat may be: 30 s unless set.
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = max_age;
        self
    }

    /// How often to look at the file: half of `max_age` unless set. Brought into 1 s to 3600 s.
    pub fn check_interval(mut self, interval: Duration) -> Self {
        self.check_interval = Some(Timeout::Clamped(interval));
        self
    }

    /// [`check_interval`](Self::check_interval) as it is given, for looks that are more frequent than one a second.
    pub fn check_interval_unclamped(mut self, interval: Duration) -> Self {
        self.check_interval = Some(Timeout::Unclamped(interval));
        self
    }

    /// The watchdog, not yet running. The file need not exist: that it does not is what it is there to find out.
    ///
    /// # Errors
    /// An unclamped interval that is zero or endless; a `max_age` of zero; a clock that depends on a runtime.
    pub fn build(self) -> Result<Watchdog, BuildError> {
        let Self { mut common, path, check_interval, max_age } = self;
        common.check()?;
        if max_age.is_zero() {
            return Err(InvalidArgument::new("max_age", "0 s", "above 0").into());
        }
        let interval = match check_interval {
            Some(interval) => interval.resolve("check_interval", "check_interval_unclamped")?,
            None => default_check_interval(max_age),
        };
        common.name.get_or_insert_with(|| format!("state_file_watcher:{}", path.display()).into());
        Ok(common.build(interval, false, Some(StateFile { path, max_age, looking: AtomicBool::new(false) })))
    }
}
