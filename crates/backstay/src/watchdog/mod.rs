//! Detects that a thread, a task or another process has stopped making progress.
//!
//! The watched code calls [`Watchdog::ping`] regularly, which costs a few nanoseconds. After `timeout` without a ping
//! the watchdog *fires*: it logs which thread is frozen and runs the callbacks. With `raise_on_timeout`, the next
//! [`try_ping`](Watchdog::try_ping) also returns an error. The frozen thread itself is not interrupted. One monitor
//! thread checks all watchdogs of the process.
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
//! Time in which the whole process did not run (stopped, suspended, or on a paused machine) does not count as
//! inactivity. In a forked child no watchdog is running; each can be started again there.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::alert::Alert;
use crate::callback::Callback;
use crate::clock::Moment;

use crate::heartbeat::{DegradedBy, Target};
use crate::log::log_now;

mod builder;
mod callback_pool;
mod error;
mod monitor;
mod report;
mod scope;
mod shared;
mod watched_file;

#[cfg(all(test, backstay_loom))]
mod loom_tests;

use monitor::{Monitor, StartError};
use shared::WatchdogShared;

pub use backstay_core::watchdog::{DEFAULT_MAX_AGE, DEFAULT_TIMEOUT, TIMEOUT_BOUNDS};
pub use builder::{StateFileWatchdogBuilder, WatchdogBuilder};
pub use error::{WatchdogError, WatchdogTimeoutError};
pub use report::TimeoutReport;
pub use scope::WatchGuard;

/// Fires when it is not pinged within its timeout.
///
/// Clones share one watchdog. It stops when the last clone is dropped.
#[derive(Clone)]
pub struct Watchdog {
    shared: Arc<WatchdogShared>,
    inner: Arc<WatchdogInner>,
}

/// The part of a watchdog that a firing uses and a ping does not.
struct WatchdogInner {
    shared: Arc<WatchdogShared>,
    name: Option<Arc<str>>,
    on_timeout: Option<Callback<TimeoutReport>>,
    on_alert: Option<Callback<Alert>>,
    stack_of: Option<fn(u32) -> Option<String>>,
}

/// Statistics of a watchdog.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchdogStats {
    /// Number of pings, over all runs.
    pub pings_total: u64,
    /// Number of firings, over all runs.
    pub timeouts_triggered: u64,
    /// Time of the last ping; `None` before the first one.
    ///
    /// It is accurate to a few ticks of the system's coarse clock. Starting and resetting are not pings.
    pub last_ping: Option<Moment>,
    /// Time of the last start.
    pub started_at: Option<Moment>,
    /// Time since the last start; zero while the watchdog is not running.
    pub uptime: Duration,
}

impl Watchdog {
    /// Returns a builder for a watchdog that is pinged.
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

    /// Returns a builder for a watchdog that checks another process's heartbeat file.
    ///
    /// It fires when the file is missing, damaged or stale, or when the process is gone; again after each recovery. It
    /// checks the file at the start and then every `check_interval`, which its [`timeout`](Self::timeout) returns. A
    /// check that finds the process alive counts as a ping. Checks run on their own thread, so that a file system that
    /// hangs delays no other watchdog.
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

    /// Reports that the caller makes progress, and restarts the timeout.
    ///
    /// It takes no lock, makes no system call and does not allocate, so it may be called in a tight loop, on any thread
    /// or task, and in a signal handler. Only the first ping of each thread makes a system call, for the thread's id.
    ///
    /// A ping clears [`is_triggered`](Self::is_triggered). It does not clear a pending error; see
    /// [`try_ping`](Self::try_ping).
    #[inline]
    pub fn ping(&self) {
        self.shared.ping();
    }

    /// Pings, and returns the pending error if the watchdog has fired.
    ///
    /// # Errors
    /// The watchdog was built with [`raise_on_timeout`](WatchdogBuilder::raise_on_timeout) and has fired since the
    /// start or the last [`reset`](Self::reset). Each error is returned once.
    #[inline]
    pub fn try_ping(&self) -> Result<(), WatchdogTimeoutError> {
        self.shared.ping();
        if self.shared.state.load().has_pending_error() { self.check() } else { Ok(()) }
    }

    /// Returns the pending error as [`try_ping`](Self::try_ping) does, without a ping.
    ///
    /// # Errors
    /// The watchdog was built with [`raise_on_timeout`](WatchdogBuilder::raise_on_timeout) and has fired since the
    /// start or the last [`reset`](Self::reset). Each error is returned once.
    pub fn check(&self) -> Result<(), WatchdogTimeoutError> {
        match self.shared.state.take_error() {
            None => Ok(()),
            Some(inactive) => Err(WatchdogTimeoutError { name: self.inner.name.clone(), inactive }),
        }
    }

    /// Starts watching; the timeout begins now.
    ///
    /// # Errors
    /// - [`WatchdogError::AlreadyRunning`]: the watchdog is running.
    /// - [`WatchdogError::NoThread`]: the monitor thread could not be started.
    pub fn start(&self) -> Result<(), WatchdogError> {
        Monitor::get().start(&self.inner).map_err(|error| match error {
            StartError::AlreadyRunning => WatchdogError::AlreadyRunning { name: self.inner.name.clone() },
            StartError::NoThread(error) => WatchdogError::NoThread(error),
        })?;
        log_now(|| tracing::debug!(target: "backstay", watchdog = self.name(), "watchdog started"));
        Ok(())
    }

    /// Stops watching. Does nothing if the watchdog is not running.
    ///
    /// After it has returned, the watchdog does not fire. It does not wait for a callback that is running, so it may be
    /// called from one.
    pub fn stop(&self) {
        if self.inner.stop() {
            log_now(|| tracing::debug!(target: "backstay", watchdog = self.name(), "watchdog stopped"));
        }
    }

    /// Restarts the timeout, and clears the trigger and a pending error.
    ///
    /// Unlike a ping it is not counted in the statistics.
    pub fn reset(&self) {
        self.shared.restart();
    }

    /// Returns whether it is watching.
    ///
    /// In a forked child it is not, until it is started there.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.shared.run().is_running()
    }

    /// Returns whether it has fired since the last ping.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.shared.state.load().is_triggered()
    }

    /// Returns the time since the last ping, start or reset.
    #[must_use]
    pub fn inactive(&self) -> Duration {
        self.shared.inactive()
    }

    /// Returns the longest time without a ping.
    ///
    /// For a heartbeat file, this is the interval between checks.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.shared.timeout
    }

    /// Returns its name. A watchdog of a heartbeat file always has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.inner.name.as_deref()
    }

    /// Returns the path of the heartbeat file that it watches.
    #[must_use]
    pub fn state_file(&self) -> Option<&Path> {
        self.shared.file.as_ref().map(|file| file.path.as_path())
    }

    /// Returns its statistics.
    #[must_use]
    pub fn stats(&self) -> WatchdogStats {
        let started_at = self.shared.started();
        let since_start = started_at.map(|start| self.shared.clock.now().since(start));
        WatchdogStats {
            pings_total: self.shared.pings(),
            timeouts_triggered: self.shared.firings(),
            last_ping: self.shared.last_ping(),
            started_at,
            uptime: since_start.filter(|_| self.is_running()).unwrap_or_default(),
        }
    }
}

/// While the watchdog is triggered, a heartbeat that follows it has the status `degraded`, caused by `watchdog`.
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

impl WatchdogInner {
    fn stop(&self) -> bool {
        // A watchdog that is not running needs no monitor: do not create one in this process for it.
        self.shared.run().is_running() && Monitor::get().stop(&self.shared)
    }
}

impl Drop for WatchdogInner {
    fn drop(&mut self) {
        self.stop();
    }
}
