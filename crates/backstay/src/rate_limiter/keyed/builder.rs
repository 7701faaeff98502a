//! How a limiter of many keys is made.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::shards::Shards;
use super::{DEFAULT_MAX_KEYS, KeyedRateLimiter};
use crate::clock::Clock;
use crate::error::{BuildError, InvalidArgument};
use crate::settings::{Fallback, RateLimiterSettings, config_setter};

/// Builds a [`KeyedRateLimiter`]; made by [`KeyedRateLimiter::builder`].
#[must_use]
pub struct KeyedRateLimiterBuilder<K: ?Sized, S = RandomState> {
    settings: RateLimiterSettings,
    fallback: Fallback,
    max_keys: usize,
    name: Option<Arc<str>>,
    clock: Clock,
    hasher: S,
    keys: PhantomData<fn(&K)>,
}

impl<K: ?Sized> KeyedRateLimiterBuilder<K> {
    pub(super) fn new(rate: f64) -> Self {
        Self {
            settings: RateLimiterSettings { rate: Some(rate), per: None, burst: None },
            fallback: Fallback::default(),
            max_keys: DEFAULT_MAX_KEYS,
            name: None,
            clock: Clock::default(),
            hasher: RandomState::new(),
            keys: PhantomData,
        }
    }
}

impl<K: ?Sized, S: BuildHasher> KeyedRateLimiterBuilder<K, S> {
    /// The time to which the rate refers; one second where nothing is said.
    pub fn per(mut self, per: Duration) -> Self {
        self.settings.per = Some(per);
        self
    }

    /// How many tokens a key may take at once after a pause; the rate where nothing is said, and at least one.
    pub fn burst(mut self, burst: impl Into<f64>) -> Self {
        self.settings.burst = Some(burst.into());
        self
    }

    /// How many keys are remembered at most; [`DEFAULT_MAX_KEYS`] where nothing is said.
    pub fn max_keys(mut self, max_keys: usize) -> Self {
        self.max_keys = max_keys;
        self
    }

    /// A name for errors and logs.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Where the limiter takes its time from.
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// How keys are hashed. The default, of the standard library, resists those who choose their keys so that they
    /// fall together; a faster one, such as `ahash`'s, saves a third of a call when there are a million keys.
    ///
    /// The hash must have 64 good bits: keys with the same hash share a bucket.
    pub fn hasher<T: BuildHasher>(self, hasher: T) -> KeyedRateLimiterBuilder<K, T> {
        let Self { settings, fallback, max_keys, name, clock, .. } = self;
        KeyedRateLimiterBuilder { settings, fallback, max_keys, name, clock, hasher, keys: PhantomData }
    }

    config_setter!(fallback);

    /// The limiter.
    ///
    /// # Errors
    /// As [`RateLimiterBuilder::build`](crate::rate_limiter::RateLimiterBuilder::build), and for room for no key at all.
    pub fn build(self) -> Result<KeyedRateLimiter<K, S>, BuildError> {
        if self.max_keys == 0 {
            return Err(InvalidArgument::new("max_keys", 0, "at least 1").into());
        }
        let quota = self.fallback.complete(self.settings, self.name.as_deref()).quota()?;
        let shards = Arc::new(Shards::new(quota, self.max_keys, self.clock, self.name));
        Ok(KeyedRateLimiter { shards, hasher: self.hasher, keys: PhantomData })
    }
}

impl<K: ?Sized, S> fmt::Debug for KeyedRateLimiterBuilder<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedRateLimiterBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}
