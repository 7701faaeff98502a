//! The builder of a shutdown.

use std::time::Duration;

use backstay_core::shutdown::{DEFAULT_DRAIN_DELAY, DEFAULT_FORCE_EXIT_CODE, DEFAULT_TIMEOUT, ShutdownPlan};

use super::{GracefulShutdown, Signal};
use crate::clock::Clock;
use crate::error::BuildError;
use crate::settings::{Fallback, ShutdownSettings, config_setter};

/// Builds a [`GracefulShutdown`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct GracefulShutdownBuilder {
    settings: ShutdownSettings,
    fallback: Fallback,
    signals: Option<Vec<Signal>>,
    clock: Clock,
}

impl GracefulShutdownBuilder {
    /// Sets the total timeout of all callbacks, above zero and at most a day; the default is 30 s.
    ///
    /// The drain delay does not count. When the total timeout is used up, each remaining callback still gets 250 ms.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = Some(timeout);
        self
    }

    /// Sets the delay before the first callback, at most a day; the default is zero.
    ///
    /// During the delay [`is_shutting_down`](GracefulShutdown::is_shutting_down) is already true, so that load
    /// balancers see that this process is no longer ready.
    pub fn drain_delay(mut self, delay: Duration) -> Self {
        self.settings.drain_delay = Some(delay);
        self
    }

    /// Sets the forced exit code, 0 to 255; the default is 1.
    ///
    /// The process ends with this code if a signal arrived and callbacks still run at the end of the shutdown.
    pub fn force_exit_code(mut self, code: i32) -> Self {
        self.settings.force_exit_code = Some(code);
        self
    }

    /// Sets the signals that begin the shutdown after [`install`](GracefulShutdown::install).
    ///
    /// The default is `SIGTERM` and `SIGINT`.
    pub fn signals(mut self, signals: impl IntoIterator<Item = Signal>) -> Self {
        self.signals = Some(signals.into_iter().collect());
        self
    }

    /// Sets the clock of all timeouts and delays; the default is the system's.
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    config_setter!(fallback);

    /// Builds the shutdown.
    ///
    /// It handles no signal before [`install`](GracefulShutdown::install), and starts no thread before it begins.
    ///
    /// # Errors
    /// The timeout is zero or longer than a day, the drain delay is longer than a day, or the exit code is outside 0 to
    /// 255.
    pub fn build(self) -> Result<GracefulShutdown, BuildError> {
        let settings = self.fallback.complete(self.settings, None);
        let plan = ShutdownPlan::new(
            settings.timeout.unwrap_or(DEFAULT_TIMEOUT),
            settings.drain_delay.unwrap_or(DEFAULT_DRAIN_DELAY),
            settings.force_exit_code.unwrap_or(DEFAULT_FORCE_EXIT_CODE),
        )?;
        let signals = self.signals.unwrap_or_else(|| vec![Signal::TERM, Signal::INT]);
        Ok(GracefulShutdown::with(plan, signals, self.clock))
    }
}
