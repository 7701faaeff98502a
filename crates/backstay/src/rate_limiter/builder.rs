//! The builder of a rate limiter.

use std::sync::Arc;
use std::time::Duration;

use backstay_core::rate_limiter::{DEFAULT_PER, DEFAULT_RATE, Quota};

use super::RateLimiter;
use super::shared::Shared;
use crate::clock::Clock;
use crate::error::{BuildError, InvalidArgument};
use crate::settings::{Fallback, RateLimiterSettings, config_setter};

/// Builds a [`RateLimiter`]; created by [`RateLimiter::builder`].
///
/// The default rate is 10 tokens per second.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct RateLimiterBuilder {
    settings: RateLimiterSettings,
    pub(crate) fallback: Fallback,
    name: Option<Arc<str>>,
    clock: Clock,
}

impl RateLimiterSettings {
    pub(super) fn quota(self) -> Result<Quota, InvalidArgument> {
        Quota::new(self.rate.unwrap_or(DEFAULT_RATE), self.per.unwrap_or(DEFAULT_PER), self.burst)
    }
}

impl RateLimiterBuilder {
    /// Sets the rate in tokens per [`per`](Self::per); fractions are allowed. Must be above 0.
    pub fn rate(mut self, rate: impl Into<f64>) -> Self {
        self.settings.rate = Some(rate.into());
        self
    }

    /// Sets the period of the rate. Default: one second.
    ///
    /// Must be above 0 and at most 500 years.
    pub fn per(mut self, per: Duration) -> Self {
        self.settings.per = Some(per);
        self
    }

    /// Sets how many tokens can be taken at once. Default: the rate.
    ///
    /// That is the limit after a pause, and the number of tokens at the start.
    ///
    /// The bucket holds at least one token; with a burst of 0 it starts empty.
    pub fn burst(mut self, burst: impl Into<f64>) -> Self {
        self.settings.burst = Some(burst.into());
        self
    }

    /// Sets the name for errors and logs, and for the settings of a named instance.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the clock. Default: the system's monotonic clock.
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    config_setter!(fallback);

    /// Builds the limiter. Default: 10 tokens per second.
    ///
    /// # Errors
    /// [`BuildError::InvalidArgument`] names a rate, period or burst that is invalid or that [`Quota::new`] can't
    /// count.
    pub fn build(self) -> Result<RateLimiter, BuildError> {
        let quota = self.fallback.complete(self.settings, self.name.as_deref()).quota()?;
        Ok(RateLimiter { shared: Shared::new(quota, self.clock, self.name) })
    }

    /// Builds the limiter of an attribute. Its arguments were checked at compile time, and the function that it
    /// annotates can't return a build error. So a configuration that is invalid together with them is logged and
    /// ignored.
    #[cfg(feature = "macros")]
    pub(crate) fn build_or_default(self) -> RateLimiter {
        let Self { settings, fallback, name, clock } = self;
        let quota = fallback.complete(settings, name.as_deref()).quota().unwrap_or_else(|error| {
            tracing::error!(target: "backstay", limiter = name.as_deref(), %error, "configuration of a rate limiter ignored");
            settings.quota().expect("the arguments were checked, with the defaults, at compile time")
        });
        RateLimiter { shared: Shared::new(quota, clock, name) }
    }
}
