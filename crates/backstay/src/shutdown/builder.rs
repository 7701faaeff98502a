//! How a shutdown is to go.

use std::time::Duration;

use backstay_core::shutdown::{DEFAULT_DRAIN_DELAY, DEFAULT_FORCE_EXIT_CODE, DEFAULT_TIMEOUT, Plan};

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
    /// What all callbacks together may take, 30 s by default; the drain delay is not counted.
    ///
    /// When it is used up, each callback that has not had its turn still gets 250 ms.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = Some(timeout);
        self
    }

    /// How long to hold the callbacks back after [`is_shutting_down`](GracefulShutdown::is_shutting_down) has turned
    /// true, so that load balancers see that this process is no longer ready. None by default.
    pub fn drain_delay(mut self, delay: Duration) -> Self {
        self.settings.drain_delay = Some(delay);
        self
    }

    /// With which code the process is ended when a signal asked for the shutdown and callbacks still run at its end:
    /// 0 to 255, 1 by default.
    pub fn force_exit_code(mut self, code: i32) -> Self {
        self.settings.force_exit_code = Some(code);
        self
    }

    /// Which signals [`install`](GracefulShutdown::install) takes: `SIGTERM` and `SIGINT` by default.
    pub fn signals(mut self, signals: impl IntoIterator<Item = Signal>) -> Self {
        self.signals = Some(signals.into_iter().collect());
        self
    }

    /// Which clock timeouts and delays follow; the system's by default.
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    config_setter!(fallback);

    /// Builds it. Nothing is taken or started before [`install`](GracefulShutdown::install) or a trigger.
    ///
    /// # Errors
    /// A timeout of zero, a time of more than a day, or an exit code outside 0 to 255.
    pub fn build(self) -> Result<GracefulShutdown, BuildError> {
        let settings = self.fallback.complete(self.settings, None);
        let plan = Plan::new(
            settings.timeout.unwrap_or(DEFAULT_TIMEOUT),
            settings.drain_delay.unwrap_or(DEFAULT_DRAIN_DELAY),
            settings.force_exit_code.unwrap_or(DEFAULT_FORCE_EXIT_CODE),
        )?;
        let signals = self.signals.unwrap_or_else(|| vec![Signal::TERM, Signal::INT]);
        Ok(GracefulShutdown::with(plan, signals, self.clock))
    }
}
