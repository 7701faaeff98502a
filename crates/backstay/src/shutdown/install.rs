//! Installing and uninstalling the signal handlers of a shutdown.

use std::sync::Arc;

use super::{GracefulShutdown, ShutdownError, Signal};
use crate::log::log_now;
use crate::signals::{self, SignalSubscription};

impl GracefulShutdown {
    /// Installs the signal handlers: from now on the first signal begins the shutdown.
    ///
    /// Handlers that were installed before are called as well, so signals still reach `tokio::signal` and the like. A
    /// second call does nothing. In a forked child nothing is installed, and `install` can be called again.
    ///
    /// # Errors
    /// A signal cannot be caught, or the system rejects its handler; then no signal is handled.
    ///
    /// One handler chain holds at most four handlers of this library. If foreign handlers were installed over each of
    /// them, the next `install` fails with [`ShutdownError::System`].
    pub fn install(&self) -> Result<(), ShutdownError> {
        let inner = self.inner();
        let mut subscription = inner.subscription.lock();
        if subscription.as_ref().is_some_and(SignalSubscription::is_ours) {
            return Ok(());
        }
        let shutdown = Arc::downgrade(inner);
        let listener: signals::SignalListener = Arc::new(move |signal| {
            if let Some(inner) = shutdown.upgrade() {
                inner.signal(signal);
            }
        });
        *subscription = Some(signals::subscribe(&inner.signals, &listener)?);
        drop(subscription);
        log_now(|| tracing::debug!(target: "backstay", signals = ?inner.signals, "shutdown installed"));
        Ok(())
    }

    /// Installs the signal handlers until the returned guard is dropped.
    ///
    /// Dropping the guard begins the shutdown, unless it has begun, waits until it has finished, and restores the
    /// handlers from before.
    ///
    /// ```
    /// # use backstay::GracefulShutdown;
    /// # use std::sync::atomic::{AtomicBool, Ordering};
    /// static IS_CLOSED: AtomicBool = AtomicBool::new(false);
    /// let shutdown = GracefulShutdown::new();
    /// shutdown.register("database", || IS_CLOSED.store(true, Ordering::Relaxed))?;
    /// {
    ///     let _scope = shutdown.install_scoped()?;
    ///     println!("serving");
    /// }
    /// assert!(IS_CLOSED.load(Ordering::Relaxed));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// A signal cannot be caught, or the system rejects its handler; then no signal is handled.
    ///
    /// One handler chain holds at most four handlers of this library. If foreign handlers were installed over each of
    /// them, this fails with [`ShutdownError::System`].
    pub fn install_scoped(&self) -> Result<Installed, ShutdownError> {
        self.install()?;
        Ok(Installed(self.clone()))
    }

    /// Restores the signal handlers from before [`install`](Self::install).
    ///
    /// A foreign handler that was installed in the meantime stays. A shutdown that has begun goes on.
    pub fn uninstall(&self) {
        let subscription = self.inner().subscription.lock().take();
        if subscription.is_some() {
            drop(subscription);
            log_now(|| tracing::debug!(target: "backstay", "shutdown uninstalled"));
        }
    }

    /// Returns whether the signal handlers are installed in this process.
    #[must_use]
    pub fn is_installed(&self) -> bool {
        self.inner().subscription.lock().as_ref().is_some_and(SignalSubscription::is_ours)
    }

    /// Handles `signal` as if it had arrived, for programs that receive signals in another way.
    ///
    /// Does not block, but may end the process. Do not call it in a signal handler: it locks mutexes.
    pub fn on_signal(&self, signal: Signal) {
        self.inner().signal(signal);
    }
}

/// A guard for installed signal handlers: [`GracefulShutdown::install_scoped`].
///
/// Dropping it triggers the shutdown, as [`GracefulShutdown::trigger`] does, waits for the callbacks, and restores the
/// handlers from before, also when a panic unwinds through the scope. In a callback it does not wait.
///
/// In a task of a single-threaded runtime, await [`GracefulShutdown::trigger_async`] first: waiting in a destructor
/// blocks the runtime that async callbacks need.
#[derive(Debug)]
#[must_use = "if it is dropped at once, it triggers the shutdown at once"]
pub struct Installed(GracefulShutdown);

impl Drop for Installed {
    fn drop(&mut self) {
        // In this order: a second signal must still be handled while this waits.
        self.0.trigger();
        self.0.uninstall();
    }
}
