//! From what was asked for to a limiter.

use std::sync::Arc;
use std::time::Duration;

use backstay_core::rate_limiter::{DEFAULT_PER, DEFAULT_RATE, Quota};

use super::RateLimiter;
use super::shared::Shared;
use crate::clock::Clock;
use crate::error::{BuildError, InvalidArgument};
use crate::settings::{self, RateLimiterSettings};

/// Builds a [`RateLimiter`]; made by [`RateLimiter::builder`] and [`RateLimiter::configured`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct RateLimiterBuilder {
    quota: PartialQuota,
    name: Option<Arc<str>>,
    clock: Clock,
}

/// A quota of which something may still be missing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PartialQuota {
    pub(super) rate: Option<f64>,
    pub(super) per: Option<Duration>,
    pub(super) burst: Option<f64>,
}

impl PartialQuota {
    pub(super) fn complete(self, name: Option<&str>) -> Result<Quota, BuildError> {
        Ok(self.over(&self.settings(name)?)?)
    }

    fn settings(self, name: Option<&str>) -> Result<RateLimiterSettings, BuildError> {
        // Only a named instance has a burst of its own; nobody else has to look for one.
        let complete = self.rate.is_some() && self.per.is_some() && (self.burst.is_some() || name.is_none());
        if complete { Ok(RateLimiterSettings::default()) } else { settings::rate_limiter(name) }
    }

    fn over(self, told: &RateLimiterSettings) -> Result<Quota, InvalidArgument> {
        let rate = self.rate.or(told.rate).unwrap_or(DEFAULT_RATE);
        let per = self.per.or(told.per).unwrap_or(DEFAULT_PER);
        Quota::new(rate, per, self.burst.or(told.burst))
    }
}

impl RateLimiterBuilder {
    /// Tokens per [`per`](Self::per); fractions are fine.
    pub fn rate(mut self, rate: impl Into<f64>) -> Self {
        self.quota.rate = Some(rate.into());
        self
    }

    /// The time to which the rate refers; one second where nothing is said.
    pub fn per(mut self, per: Duration) -> Self {
        self.quota.per = Some(per);
        self
    }

    /// How many tokens may be taken at once after a pause, and how many there are at the start; the rate where
    /// nothing is said. The bucket holds at least one; a burst of 0 means that it starts empty.
    pub fn burst(mut self, burst: impl Into<f64>) -> Self {
        self.quota.burst = Some(burst.into());
        self
    }

    /// A name for errors and logs, and for the settings of a named instance.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Where the limiter takes its time from.
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// The limiter. What was not said comes from the configuration, otherwise it is 10 per second.
    ///
    /// # Errors
    /// [`BuildError::InvalidArgument`] names a rate, time or burst that cannot be meant, or that is beyond what
    /// [`Quota::new`] can count; [`BuildError::Config`] a configuration that was needed and is broken.
    #[cfg_attr(not(feature = "config"), doc = "\n[`BuildError::Config`]: BuildError")]
    pub fn build(self) -> Result<RateLimiter, BuildError> {
        let quota = self.quota.complete(self.name.as_deref())?;
        Ok(RateLimiter { shared: Shared::new(quota, self.clock, self.name) })
    }

    /// The limiter of an attribute, whose numbers were checked when it was compiled. Nobody could be told of a
    /// configuration that is broken, or that makes no sense with those numbers: it is logged, and the built-in defaults
    /// hold.
    #[cfg(feature = "macros")]
    pub(crate) fn build_or_default(self) -> RateLimiter {
        let quota = self.quota.complete(self.name.as_deref()).unwrap_or_else(|error| {
            tracing::error!(target: "backstay", %error, "configuration of a rate limiter ignored");
            let alone = self.quota.over(&RateLimiterSettings::default());
            alone.expect("the numbers were checked, with the defaults, when they were compiled")
        });
        RateLimiter { shared: Shared::new(quota, self.clock, self.name) }
    }
}
