//! One limit for each key.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use backstay_core::rate_limiter::{Quota, Scale, Table, Take};

use super::builder::PartialQuota;
use crate::clock::{Clock, Reading};
use crate::error::{BuildError, InvalidArgument, RateLimitExceededError};
use crate::striped::Striped;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

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
pub struct KeyedRateLimiter<K: ?Sized> {
    shared: Arc<Shared>,
    keys: PhantomData<fn(&K)>,
}

#[derive(Debug)]
struct Shared {
    quota: Quota,
    scale: Scale,
    clock: Clock,
    name: Option<Arc<str>>,
    max_keys: usize,
    /// How many keys all the shards have, or are about to have.
    keys: AtomicUsize,
    hasher: RandomState,
    shards: Box<[Shard]>,
    counts: Striped<2>,
}

const ACQUIRED: usize = 0;
const REJECTED: usize = 1;

/// On lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    table: Mutex<Table>,
    /// Before this time no key of the table is idle, so there is no sense in looking.
    idle_from: AtomicU64,
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
        let quota = PartialQuota { rate: Some(rate.into()), per: None, burst: None };
        let max_keys = DEFAULT_MAX_KEYS;
        KeyedRateLimiterBuilder { quota, max_keys, name: None, clock: Clock::default(), keys: PhantomData }
    }

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
        let granted = self.shared.take(self.hash(key), tokens);
        self.shared.count(granted, tokens);
        granted
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
        let granted = self.shared.take(hash, tokens);
        self.shared.count(granted, tokens);
        if granted {
            return Ok(());
        }
        Err(RateLimitExceededError { name: self.shared.name.clone(), retry_after: self.shared.wait_for(hash, tokens) })
    }

    /// How many tokens `key` has. Changes nothing.
    #[must_use]
    pub fn tokens<Q>(&self, key: &Q) -> f64
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let scale = self.shared.scale;
        scale.tokens(scale.level(self.shared.full_at(self.hash(key)), self.shared.clock.now()))
    }

    /// Fills the bucket of `key`.
    pub fn reset<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let hash = self.hash(key);
        let shard = self.shared.shard(hash);
        if let Some(full_at) = shard.table.lock().full_at(hash) {
            *full_at = 0;
            shard.idle_from.store(0, Ordering::Relaxed);
        }
    }

    /// How many keys are remembered, idle ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.keys.load(Ordering::Relaxed)
    }

    /// Whether no key is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many keys are remembered at most.
    #[must_use]
    pub fn max_keys(&self) -> usize {
        self.shared.max_keys
    }

    /// How many bytes the keys occupy.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shared.shards.iter().map(|shard| size_of::<Shard>() + shard.table.lock().bytes()).sum()
    }

    /// What every key is granted.
    #[must_use]
    pub fn quota(&self) -> Quota {
        self.shared.quota
    }

    /// The limiter's name, where it has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.shared.name.as_deref()
    }

    /// A snapshot of what the limiter has done so far, all keys together.
    #[must_use]
    pub fn stats(&self) -> KeyedRateLimiterStats {
        let counts = &self.shared.counts;
        KeyedRateLimiterStats { acquired: counts.sum(ACQUIRED), rejected: counts.sum(REJECTED), keys: self.len() }
    }

    #[inline]
    fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.shared.hasher.hash_one(key)
    }
}

impl Shared {
    #[inline]
    fn shard(&self, hash: u64) -> &Shard {
        // The table uses the low bits.
        #[allow(clippy::cast_possible_truncation)]
        let index = (hash >> 48) as usize & (self.shards.len() - 1);
        &self.shards[index]
    }

    fn take(&self, hash: u64, tokens: u32) -> bool {
        let cost = self.scale.cost(tokens);
        let shard = self.shard(hash);
        loop {
            let mut table = shard.table.lock();
            let known = table.full_at(hash);
            if let Some(full_at) = known.as_deref()
                && self.scale.take(*full_at, cost, self.clock.coarse()) == Take::Refused
            {
                return false;
            }
            let now = self.clock.now();
            let bucket = known.as_deref().copied().unwrap_or(0);
            let Take::Granted(full_at) = self.scale.take(bucket, cost, Reading::exact(now)) else {
                return false;
            };
            if let Some(known) = known {
                *known = full_at;
                return true;
            }
            let now = self.scale.units(now);
            if self.claim_place() {
                let removed = table.insert(hash, full_at, now);
                if removed > 0 {
                    shard.idle_from.store(table.first_full(), Ordering::Relaxed);
                } else {
                    shard.idle_from.fetch_min(full_at, Ordering::Relaxed);
                }
                self.keys.fetch_sub(removed, Ordering::Relaxed);
                return true;
            }
            drop(table);
            if !self.make_room(shard, now) {
                return false;
            }
        }
    }

    fn claim_place(&self) -> bool {
        let more = |keys: usize| (keys < self.max_keys).then_some(keys + 1);
        self.keys.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Forgets idle keys, of `first` or else of another shard. Whether there were any.
    fn make_room(&self, first: &Shard, now: u64) -> bool {
        std::iter::once(first).chain(&self.shards).any(|shard| {
            if shard.idle_from.load(Ordering::Relaxed) > now {
                return false;
            }
            let mut table = shard.table.lock();
            let removed = table.sweep(now);
            shard.idle_from.store(table.first_full(), Ordering::Relaxed);
            drop(table);
            self.keys.fetch_sub(removed, Ordering::Relaxed);
            removed > 0
        })
    }

    fn full_at(&self, hash: u64) -> u64 {
        self.shard(hash).table.lock().full_at(hash).map_or(0, |full_at| *full_at)
    }

    fn wait_for(&self, hash: u64, tokens: u32) -> Duration {
        let now = self.clock.now();
        match self.scale.wait(self.full_at(hash), self.scale.cost(tokens), now) {
            // It was refused for want of a place.
            Duration::ZERO => {
                let idle_from = self.shards.iter().map(|shard| shard.idle_from.load(Ordering::Relaxed)).min();
                self.scale.moment(idle_from.unwrap_or(0)).since(now)
            }
            wait => wait,
        }
    }

    #[inline]
    fn count(&self, granted: bool, tokens: u32) {
        if granted {
            self.counts.add(ACQUIRED, u64::from(tokens));
        } else {
            self.counts.add(REJECTED, 1);
            tracing::debug!(target: "backstay", limiter = self.name.as_deref(), "rate limit of a key exceeded");
        }
    }
}

impl<K: ?Sized> Clone for KeyedRateLimiter<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), keys: PhantomData }
    }
}

impl<K: ?Sized> fmt::Debug for KeyedRateLimiter<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("KeyedRateLimiter");
        text.field("name", &self.name()).field("quota", &self.shared.quota).field("keys", &self.len());
        text.finish_non_exhaustive()
    }
}

/// Builds a [`KeyedRateLimiter`]; made by [`KeyedRateLimiter::builder`].
#[must_use]
pub struct KeyedRateLimiterBuilder<K: ?Sized> {
    quota: PartialQuota,
    max_keys: usize,
    name: Option<Arc<str>>,
    clock: Clock,
    keys: PhantomData<fn(&K)>,
}

impl<K: ?Sized> KeyedRateLimiterBuilder<K> {
    /// The time to which the rate refers; one second where nothing is said.
    pub fn per(mut self, per: Duration) -> Self {
        self.quota.per = Some(per);
        self
    }

    /// How many tokens a key may take at once after a pause; the rate where nothing is said, and at least one.
    pub fn burst(mut self, burst: impl Into<f64>) -> Self {
        self.quota.burst = Some(burst.into());
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

    /// The limiter.
    ///
    /// # Errors
    /// As [`RateLimiterBuilder::build`](super::RateLimiterBuilder::build), and for room for no key at all.
    pub fn build(self) -> Result<KeyedRateLimiter<K>, BuildError> {
        if self.max_keys == 0 {
            return Err(InvalidArgument::new("max_keys", 0, "at least 1").into());
        }
        let quota = self.quota.complete(self.name.as_deref())?;
        // Few keys need no shards; many need enough that laying one out anew takes microseconds.
        let shards = (self.max_keys / 4096).clamp(1, 256).next_power_of_two();
        let shard = || Shard { table: Mutex::new(Table::new()), idle_from: AtomicU64::new(u64::MAX) };
        let shared = Shared {
            quota,
            scale: quota.scale(),
            clock: self.clock,
            name: self.name,
            max_keys: self.max_keys,
            keys: AtomicUsize::new(0),
            hasher: RandomState::new(),
            shards: (0..shards).map(|_| shard()).collect(),
            counts: Striped::new(),
        };
        Ok(KeyedRateLimiter { shared: Arc::new(shared), keys: PhantomData })
    }
}

impl<K: ?Sized> fmt::Debug for KeyedRateLimiterBuilder<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedRateLimiterBuilder").field("quota", &self.quota).finish_non_exhaustive()
    }
}
