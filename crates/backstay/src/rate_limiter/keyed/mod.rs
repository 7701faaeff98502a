//! One limit for each key.

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

/// How many keys a limiter remembers at most where nobody says: about a million.
pub const DEFAULT_MAX_KEYS: usize = 1 << 20;

/// Limits each user, address or other key for itself. Refuses; does not wait.
///
/// Every key has a full bucket of its own to begin with. A key whose bucket is full again is forgotten when its place
/// is needed, which changes nothing for it. One that is being limited is never forgotten: while there are
/// [`max_keys`](KeyedRateLimiterBuilder::max_keys) of those, new keys are refused. So choose it well above the number
/// of keys that are seen within the time in which a bucket fills.
///
/// A key is known by a keyed 64-bit hash of it, and costs 16 bytes in a table that is 7/16 to 7/8 full. Two keys with
/// the same hash would share a bucket: among a million keys the chance of one such pair is about 1 in 37 million.
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

/// What a keyed limiter has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyedRateLimiterStats {
    /// Tokens granted.
    pub acquired: u64,
    /// Requests refused.
    pub rejected: u64,
    /// Keys remembered, idle ones included.
    pub keys: usize,
}

impl<K: ?Sized> KeyedRateLimiter<K> {
    /// A limiter of `rate` tokens per second for each key, or per whatever
    /// [`per`](KeyedRateLimiterBuilder::per) says.
    pub fn builder(rate: impl Into<f64>) -> KeyedRateLimiterBuilder<K> {
        KeyedRateLimiterBuilder::new(rate.into())
    }
}

impl<K: ?Sized, S: BuildHasher> KeyedRateLimiter<K, S> {
    /// Takes a token of `key` if there is one.
    #[inline]
    #[must_use = "without a token the call must not be made"]
    pub fn try_acquire<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        self.try_acquire_n(key, 1)
    }

    /// Takes `tokens` of `key` if they are there, all or none.
    #[inline]
    #[must_use = "without the tokens the call must not be made"]
    pub fn try_acquire_n<Q>(&self, key: &Q, tokens: u32) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        self.shards.take(self.hash(key), tokens)
    }

    /// Takes a token of `key` if there is one, and otherwise says when to come back.
    ///
    /// # Errors
    /// [`RateLimitExceededError`] with the time until the token is there, or until a place for a new key may be.
    pub fn check<Q>(&self, key: &Q) -> Result<(), RateLimitExceededError>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        self.check_n(key, 1)
    }

    /// Takes `tokens` of `key` if they are there, all or none, and otherwise says when to come back.
    ///
    /// # Errors
    /// [`RateLimitExceededError`], `retry_after` being `Duration::MAX` for more tokens than a bucket ever holds.
    pub fn check_n<Q>(&self, key: &Q, tokens: u32) -> Result<(), RateLimitExceededError>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let hash = self.hash(key);
        if self.shards.take(hash, tokens) { Ok(()) } else { Err(self.shards.refusal(hash, tokens)) }
    }

    /// How many tokens `key` has. Changes nothing.
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

    /// How many keys are remembered, idle ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.keys()
    }

    /// Whether no key is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many keys are remembered at most.
    #[must_use]
    pub fn max_keys(&self) -> usize {
        self.shards.max_keys()
    }

    /// How many bytes the keys occupy.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shards.bytes()
    }

    /// What every key is granted.
    #[must_use]
    pub fn quota(&self) -> Quota {
        self.shards.quota()
    }

    /// The limiter's name, where it has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.shards.name()
    }

    /// A snapshot of what the limiter has done so far, all keys together.
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
