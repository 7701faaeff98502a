//! Watching while a block runs.

use std::ops::Deref;

use super::Watchdog;
use super::error::{WatchdogError, WatchdogTimeoutError};

impl Watchdog {
    /// Watches while `f` runs, and passes it the watchdog to ping.
    ///
    /// # Errors
    /// - Those of [`start`](Self::start). `f` was not called.
    /// - [`WatchdogError::Timeout`]: the watchdog fired while `f` ran and was built with
    ///   [`raise_on_timeout`](super::WatchdogBuilder::raise_on_timeout). The value of `f` is dropped.
    pub fn watch<T>(&self, f: impl FnOnce(&Self) -> T) -> Result<T, WatchdogError> {
        let guard = self.guard()?;
        let value = f(&guard);
        guard.finish()?;
        Ok(value)
    }

    /// Starts the watchdog and stops it when the guard is dropped.
    ///
    /// Use it for blocks that contain an `await` or a `?`.
    ///
    /// ```
    /// # use backstay::{Watchdog, WatchdogError};
    /// # use std::time::Duration;
    /// # async fn work() {}
    /// async fn monitored(watchdog: &Watchdog) -> Result<(), WatchdogError> {
    ///     let watching = watchdog.guard()?;
    ///     for _ in 0..10 {
    ///         watching.try_ping()?;
    ///         work().await;
    ///     }
    ///     watching.finish()?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// Those of [`start`](Self::start).
    pub fn guard(&self) -> Result<WatchGuard<'_>, WatchdogError> {
        self.start()?;
        Ok(WatchGuard(self))
    }
}

/// Stops its watchdog when dropped; returned by [`Watchdog::guard`].
#[derive(Debug)]
#[must_use = "the watchdog stops as soon as this is dropped"]
pub struct WatchGuard<'a>(&'a Watchdog);

impl WatchGuard<'_> {
    /// Stops the watchdog and returns its pending error, if any.
    ///
    /// # Errors
    /// The watchdog has fired, was built with [`raise_on_timeout`](super::WatchdogBuilder::raise_on_timeout), and the
    /// error has not been returned yet.
    pub fn finish(self) -> Result<(), WatchdogTimeoutError> {
        self.0.stop();
        self.0.check()
    }
}

impl Deref for WatchGuard<'_> {
    type Target = Watchdog;

    fn deref(&self) -> &Watchdog {
        self.0
    }
}

impl Drop for WatchGuard<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}
