//! The watchdog: notices when a thread, a task or another process has stopped making progress.
//!
//! Whoever is watched calls [`Watchdog::ping`] again and again, which costs a few nanoseconds. When nobody has for
//! `timeout`, one thread that serves every watchdog of the process fires it: the callbacks run, the log says who froze,
//! and with `raise_on_timeout` the thread itself gets an error once it comes back. Nothing interrupts it.
//!
//! ```
//! use backstay::{Watchdog, WatchdogError};
//! use std::time::Duration;
//!
//! let watchdog = Watchdog::builder()
//!     .timeout(Duration::from_secs(30))
//!     .on_timeout(|report| eprintln!("{report}")) // which thread, and for how long
//!     .build()?;
//! watchdog.watch(|watchdog| {
//!     for _item in 0..10 {
//!         watchdog.ping(); // before each piece of work
//!     }
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Time in which the whole process did not run (stopped, suspended, on a machine that was paused) is nobody's freeze.
//! In a forked child no watchdog runs, and each can be started again.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::alert::Alert;
use crate::callback::Callback;
use crate::clock::Moment;

use crate::heartbeat::{DegradedBy, Target};
use crate::log::log_now;

mod beat;
mod builder;
mod error;
mod monitor;
mod report;
mod runners;
mod scope;
mod state_file;

#[cfg(all(test, backstay_loom))]
mod loom_tests;

use beat::Beat;
use monitor::{Monitor, Refused};

pub use backstay_core::watchdog::{DEFAULT_MAX_AGE, DEFAULT_TIMEOUT, TIMEOUT_BOUNDS};
pub use builder::{StateFileWatchdogBuilder, WatchdogBuilder};
pub use error::{WatchdogError, WatchdogTimeoutError};
pub use report::TimeoutReport;
pub use scope::WatchGuard;

/// Fires when nobody has pinged for a while.
///
/// Clones share one watchdog; when the last one is dropped, it stops.
#[derive(Clone)]
pub struct Watchdog {
    beat: Arc<Beat>,
    inner: Arc<Inner>,
}

/// What a firing needs, and a ping does not.
struct Inner {
    beat: Arc<Beat>,
    name: Option<Arc<str>>,
    on_timeout: Option<Callback<TimeoutReport>>,
    on_alert: Option<Callback<Alert>>,
    stack_of: Option<fn(u32) -> Option<String>>,
}

/// What a watchdog has seen so far.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchdogStats {
    /// Pings, over all runs.
    pub pings_total: u64,
    /// Firings, over all runs.
    pub timeouts_triggered: u64,
    /// When the last ping came, to within a few ticks of the system's coarse clock; `None` before the first. Starting
    /// and resetting are no pings.
    pub last_ping: Option<Moment>,
    /// When it was last started.
    pub started_at: Option<Moment>,
    /// How long it has been running; zero while it does not.
    pub uptime: Duration,
}

impl Watchdog {
    /// A watchdog that is pinged.
    ///
    /// ```
    /// use backstay::Watchdog;
    /// use std::time::Duration;
    ///
    /// let watchdog = Watchdog::builder().timeout(Duration::from_secs(10)).name("worker").build()?;
    /// watchdog.start()?;
    /// watchdog.ping();
    /// assert!(watchdog.is_running() && !watchdog.is_triggered());
    /// watchdog.stop();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder() -> WatchdogBuilder {
        WatchdogBuilder::default()
    }

    /// A watchdog over another process, by its heartbeat file: it fires when the file is missing, damaged or too old, or
    /// its process gone; again after each recovery.
    ///
    /// It looks at the file once at the start and then every `check_interval`, never on the thread that watches the
    /// others. Its [`timeout`](Self::timeout) is that interval; a look that finds the process well is its ping.
    ///
    /// ```
    /// use backstay::Watchdog;
    /// use std::time::Duration;
    ///
    /// let watchdog = Watchdog::from_state_file("/run/tradingbot.heartbeat")
    ///     .max_age(Duration::from_secs(30))
    ///     .on_timeout(|report| eprintln!("the bot is dead: {:?}", report.reason))
    ///     .build()?;
    /// assert_eq!(watchdog.name(), Some("state_file_watcher:/run/tradingbot.heartbeat"));
    /// # Ok::<(), backstay::BuildError>(())
    /// ```
    pub fn from_state_file(path: impl Into<PathBuf>) -> StateFileWatchdogBuilder {
        StateFileWatchdogBuilder::new(path.into())
    }

    /// Says that the caller is making progress.
    ///
    /// No lock, no system call, no allocation: fit for the innermost loop, any thread or task, and a signal handler. (A
    /// thread's very first ping asks the system for the thread's id.) It sets a fired watchdog back to watching. An
    /// error that is owed stays owed: see [`try_ping`](Self::try_ping).
    #[inline]
    pub fn ping(&self) {
        self.beat.ping();
    }

    /// [`ping`](Self::ping), which also says that the watchdog had fired, once per firing.
    ///
    /// # Errors
    /// The watchdog was built with `raise_on_timeout` and has fired since it was started, and nobody has been told yet.
    #[inline]
    pub fn try_ping(&self) -> Result<(), WatchdogTimeoutError> {
        self.beat.ping();
        if self.beat.pulse.load().is_owed() { self.check() } else { Ok(()) }
    }

    /// What [`try_ping`](Self::try_ping) would return, without a ping; for the end of a block.
    ///
    /// # Errors
    /// As for `try_ping`. Once it has been returned here, nothing more is owed.
    pub fn check(&self) -> Result<(), WatchdogTimeoutError> {
        match self.beat.pulse.take() {
            None => Ok(()),
            Some(inactive) => Err(WatchdogTimeoutError { name: self.inner.name.clone(), inactive }),
        }
    }

    /// Begins to watch, as of now.
    ///
    /// # Errors
    /// It runs already, or the system has no thread left for the monitor.
    pub fn start(&self) -> Result<(), WatchdogError> {
        Monitor::get().start(&self.inner).map_err(|refused| match refused {
            Refused::RunsAlready => WatchdogError::AlreadyRunning { name: self.inner.name.clone() },
            Refused::NoThread(error) => WatchdogError::NoThread(error),
        })?;
        log_now(|| tracing::debug!(target: "backstay", watchdog = self.name(), "a watchdog has started"));
        Ok(())
    }

    /// Stops watching. Any number of times, from anywhere, a callback of its own included; a callback that has begun
    /// goes on.
    pub fn stop(&self) {
        if self.inner.stop() {
            log_now(|| tracing::debug!(target: "backstay", watchdog = self.name(), "a watchdog has stopped"));
        }
    }

    /// Watches as if it had been started now: not triggered, nothing owed.
    pub fn reset(&self) {
        self.beat.restart();
    }

    /// Whether it is watching. In a forked child it is not until it is started there.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.beat.run().is_on()
    }

    /// Whether it has fired since the last ping.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.beat.pulse.load().is_triggered()
    }

    /// How long ago the last ping was, or the start, or the reset.
    #[must_use]
    pub fn inactive(&self) -> Duration {
        self.beat.inactive()
    }

    /// How long nobody may ping; for a heartbeat file, how often it is looked at.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.beat.timeout
    }

    /// The name it was given. One that watches a file has always one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.inner.name.as_deref()
    }

    /// The heartbeat file that it watches.
    #[must_use]
    pub fn state_file(&self) -> Option<&Path> {
        self.beat.file.as_ref().map(|file| file.path.as_path())
    }

    /// What it has seen so far.
    #[must_use]
    pub fn stats(&self) -> WatchdogStats {
        let started_at = self.beat.started();
        let since_start = started_at.map(|start| self.beat.clock.now().since(start));
        WatchdogStats {
            pings_total: self.beat.pings(),
            timeouts_triggered: self.beat.firings(),
            last_ping: self.beat.last_ping(),
            started_at,
            uptime: since_start.filter(|_| self.is_running()).unwrap_or_default(),
        }
    }
}

/// A heartbeat that follows a watchdog says `degraded`, by `watchdog`, while that has fired.
impl Target for Watchdog {
    fn is_dead(&self) -> bool {
        self.is_triggered()
    }

    fn name(&self) -> Option<String> {
        Watchdog::name(self).map(str::to_owned)
    }

    fn degraded_by(&self) -> DegradedBy {
        DegradedBy::Watchdog
    }
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdog")
            .field("name", &self.name())
            .field("timeout", &self.timeout())
            .field("is_running", &self.is_running())
            .field("is_triggered", &self.is_triggered())
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn stop(&self) -> bool {
        // The monitor's lock is not asked for in vain: a watchdog that never ran, or ran in the parent, has no monitor.
        self.beat.run().is_on() && Monitor::get().stop(&self.beat)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}
