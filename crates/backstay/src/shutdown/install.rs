//! Taking the signals that begin a shutdown, and giving them back.

use std::sync::Arc;

use super::{GracefulShutdown, ShutdownError, Signal};
use crate::log::log_now;
use crate::signals::{self, Taken};

impl GracefulShutdown {
    /// Takes the signals: from now on the first of them begins the shutdown. Installed already, it changes nothing.
    ///
    /// Handlers that were there before are called as well, so signals keep reaching `tokio::signal` and the like. In a
    /// forked child nothing is installed, and `install` may be called anew.
    ///
    /// # Errors
    /// A signal that cannot be caught, or that the system rejects; none is taken then. Likewise
    /// ([`ShutdownError::System`]) a fifth `install` of a signal over which a foreign handler was installed after each of the
    /// four before: those handlers of ours stay in the chain, and there are no more.
    pub fn install(&self) -> Result<(), ShutdownError> {
        let inner = self.inner();
        let mut taken = inner.taken.lock();
        if taken.as_ref().is_some_and(Taken::is_ours) {
            return Ok(());
        }
        let shutdown = Arc::downgrade(inner);
        let listener: signals::Listener = Arc::new(move |signal| {
            if let Some(inner) = shutdown.upgrade() {
                inner.signal(signal);
            }
        });
        *taken = Some(signals::take(&inner.signals, &listener)?);
        drop(taken);
        log_now(|| tracing::debug!(target: "backstay", signals = ?inner.signals, "shutdown installed"));
        Ok(())
    }

    /// [`install`](Self::install) for a scope: leaving it runs the callbacks, unless a signal or a trigger already has,
    /// waits for their end, and gives the signals back.
    ///
    /// ```
    /// # use backstay::GracefulShutdown;
    /// # use std::sync::atomic::{AtomicBool, Ordering};
    /// static IS_CLOSED: AtomicBool = AtomicBool::new(false);
    /// let shutdown = GracefulShutdown::new();
    /// shutdown.register("database", || IS_CLOSED.store(true, Ordering::Relaxed))?;
    /// {
    ///     let _scope = shutdown.install_scoped()?;
    ///     // serve
    /// }
    /// assert!(IS_CLOSED.load(Ordering::Relaxed));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// A signal that cannot be caught, or that the system rejects; none is taken then. Likewise
    /// ([`ShutdownError::System`]) a fifth `install` of a signal over which a foreign handler was installed after each of the
    /// four before: those handlers of ours stay in the chain, and there are no more.
    pub fn install_scoped(&self) -> Result<Installed, ShutdownError> {
        self.install()?;
        Ok(Installed(self.clone()))
    }

    /// Gives the signals back: restores the handlers from before [`install`](Self::install), unless another handler has
    /// been installed over ours meanwhile. A shutdown that has begun goes on.
    pub fn uninstall(&self) {
        let taken = self.inner().taken.lock().take();
        if taken.is_some() {
            drop(taken);
            log_now(|| tracing::debug!(target: "backstay", "shutdown uninstalled"));
        }
    }

    /// Whether the signals are taken, in this process.
    #[must_use]
    pub fn is_installed(&self) -> bool {
        self.inner().taken.lock().as_ref().is_some_and(Taken::is_ours)
    }

    /// Does what the arrival of `signal` does, for programs that receive signals in another way. Never blocks, but may
    /// end the process. Not for signal handlers: it takes locks.
    pub fn on_signal(&self, signal: Signal) {
        self.inner().signal(signal);
    }
}

/// A scope in which the signals are taken: [`GracefulShutdown::install_scoped`].
///
/// Dropping it triggers the shutdown, as [`GracefulShutdown::trigger`] does, waits for the callbacks, and gives the
/// signals back; also when a panic unwinds through the scope. In a callback it does not wait.
///
/// In a task of a single-threaded runtime, await [`GracefulShutdown::trigger_async`] before: waiting in a destructor
/// blocks the runtime that async callbacks need.
#[derive(Debug)]
#[must_use = "dropped at once, it triggers the shutdown at once"]
pub struct Installed(GracefulShutdown);

impl Drop for Installed {
    fn drop(&mut self) {
        // While it waits, a second signal must still be heard.
        self.0.trigger();
        self.0.uninstall();
    }
}
