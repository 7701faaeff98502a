//! A rate limiter with one bucket per key.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::marker::PhantomData;
use std::sync::Arc;

use backstay_core::rate_limiter::Quota;

use crate::error::RateLimitExceededError;

mod builder;
mod shards;

pub use builder::KeyedRateLimiterBuilder;
use shards::Shards;

/// The default maximum number of keys of a limiter: about a million.
pub const DEFAULT_MAX_KEYS: usize = 1 << 20;

/// Limits the rate of each key, such as a user or an address.
///
/// It rejects; it does not wait.
///
/// The bucket of a new key is full. A key with a full bucket is *idle*, and is removed when its space is needed; that
/// changes nothing for the key. A key that is being limited is never removed: while
/// [`max_keys`](KeyedRateLimiterBuilder::max_keys) keys are limited, new keys are rejected. Choose `max_keys` well
/// above the number of keys that are used within the time in which a bucket fills.
///
/// A key is stored as its keyed 64-bit hash. It takes 16 bytes in a table that is 7/16 to 7/8 full. Two keys with the
/// same hash share a bucket: with a million keys, the probability of such a pair is about 1 in 37 million.
///
/// ```
/// use backstay::KeyedRateLimiter;
/// use std::net::IpAddr;
///
/// let limiter = KeyedRateLimiter::<IpAddr>::builder(10).burst(20).max_keys(100_000).build()?;
/// let client = IpAddr::from([127, 0, 0, 1]);
/// assert!(limiter.try_acquire(&client));
/// # Ok::<(), backstay::BuildError>(())
/// ```
pub struct KeyedRateLimiter<K: ?Sized, S = RandomState> {
    shards: Arc<Shards>,
    hasher: S,
    keys: PhantomData<fn(&K)>,
}

/// Statistics of a keyed limiter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyedRateLimiterStats {
    /// The number of tokens granted.
    pub acquired: u64,
    /// The number of rejected requests.
    pub rejected: u64,
    /// The number of keys in the table, idle ones included.
    pub keys: usize,
}

impl<K: ?Sized> KeyedRateLimiter<K> {
    /// Returns a builder for `rate` tokens per key and second.
    ///
    /// [`per`](KeyedRateLimiterBuilder::per) sets another period.
    pub fn builder(rate: impl Into<f64>) -> KeyedRateLimiterBuilder<K> {
        KeyedRateLimiterBuilder::new(rate.into())
    }
}

impl<K: ?Sized, S: BuildHasher> KeyedRateLimiter<K, S> {
    /// Takes a token of `key`, if there is one.
    #[inline]
    #[must_use = "without a token the call must not be made"]
    pub fn try_acquire<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        self.try_acquire_n(key, 1)
    }

    /// Takes all of `tokens` of `key`, or none.
    #[inline]
    #[must_use = "without the tokens the call must not be made"]
    pub fn try_acquire_n<Q>(&self, key: &Q, tokens: u32) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        self.shards.take(self.hash(key), tokens)
    }

    /// Takes a token of `key`, or returns an error that computes when to retry.
    ///
    /// # Errors
    /// [`RateLimitExceededError`] with the time until the token is there, or until there may be space for a new key.
    pub fn check<Q>(&self, key: &Q) -> Result<(), RateLimitExceededError>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        self.check_n(key, 1)
    }

    /// Takes all of `tokens` of `key`, or returns an error that computes when to retry.
    ///
    /// # Errors
    /// [`RateLimitExceededError`] with the time until the tokens are there, or until there may be space for a new key.
    /// Its `retry_after` is `Duration::MAX` if a bucket can't hold so many tokens.
    pub fn check_n<Q>(&self, key: &Q, tokens: u32) -> Result<(), RateLimitExceededError>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let hash = self.hash(key);
        if self.shards.take(hash, tokens) { Ok(()) } else { Err(self.shards.rejection(hash, tokens)) }
    }

    /// Returns the number of tokens of `key`. Changes nothing.
    #[must_use]
    pub fn tokens<Q>(&self, key: &Q) -> f64
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        self.shards.tokens(self.hash(key))
    }

    /// Fills the bucket of `key`.
    pub fn reset<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        self.shards.reset(self.hash(key));
    }

    /// Returns the number of keys in the table, idle ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.keys()
    }

    /// Returns whether the table has no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the maximum number of keys.
    #[must_use]
    pub fn max_keys(&self) -> usize {
        self.shards.max_keys()
    }

    /// Returns the memory that the keys take, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shards.bytes()
    }

    /// Returns the quota of each key.
    #[must_use]
    pub fn quota(&self) -> Quota {
        self.shards.quota()
    }

    /// Returns the limiter's name, if it has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.shards.name()
    }

    /// Returns a snapshot of the statistics, of all keys together.
    #[must_use]
    pub fn stats(&self) -> KeyedRateLimiterStats {
        self.shards.stats()
    }

    #[inline]
    fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
    }
}

impl<K: ?Sized, S: Clone> Clone for KeyedRateLimiter<K, S> {
    fn clone(&self) -> Self {
        Self { shards: Arc::clone(&self.shards), hasher: self.hasher.clone(), keys: PhantomData }
    }
}

impl<K: ?Sized, S> fmt::Debug for KeyedRateLimiter<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shards, mut text) = (&self.shards, f.debug_struct("KeyedRateLimiter"));
        text.field("name", &shards.name()).field("quota", &shards.quota()).field("keys", &shards.keys());
        text.finish_non_exhaustive()
    }
}
