//! Watching for the length of a block.

use std::ops::Deref;

use super::Watchdog;
use super::error::{WatchdogError, WatchdogTimeoutError};

impl Watchdog {
    /// Watches while `f` runs; `f` is handed the watchdog to ping.
    ///
    /// # Errors
    /// It could not be started, and `f` was not called; or it was built with `raise_on_timeout` and has fired, and `f`'s
    /// value is lost.
    pub fn watch<T>(&self, f: impl FnOnce(&Self) -> T) -> Result<T, WatchdogError> {
        let guard = self.guard()?;
        let value = f(&guard);
        guard.finish()?;
        Ok(value)
    }

    /// Starts the watchdog, and stops it when the guard is dropped; for blocks that hold an `await` or a `?`.
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
    /// As for [`start`](Self::start).
    pub fn guard(&self) -> Result<WatchGuard<'_>, WatchdogError> {
        self.start()?;
        Ok(WatchGuard(self))
    }
}

/// A watchdog that runs until this is dropped; from [`Watchdog::guard`].
#[derive(Debug)]
#[must_use = "the watchdog stops as soon as this is dropped"]
pub struct WatchGuard<'a>(&'a Watchdog);

impl WatchGuard<'_> {
    /// Ends the block: stops, and says whether it had fired.
    ///
    /// # Errors
    /// The watchdog was built with `raise_on_timeout` and has fired, and nobody has been told yet.
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
