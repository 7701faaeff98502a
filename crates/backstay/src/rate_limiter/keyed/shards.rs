//! The keys of a limiter, by their hashes, in shards: tables with one lock each.
//!
//! When all keys are limited, a new one is rejected until the first of the others is idle. One search over all shards
//! finds that time and stores it in `idle_from`, so that a flood of new keys costs little.
//!
//! # Memory ordering
//! `idle_from` is one word that is only swapped, with acquire and release, so each writer sees all that earlier
//! writers did. A search swaps in its own mark, reads the words of the shards, then replaces its mark by what it
//! found. A thread that makes a key idle earlier writes the word of its shard, then swaps in 0. So either the search
//! sees that key, or it finds its mark replaced and stores nothing.
//!
//! A shard's word is written under the lock of its table. Its release store in `note_removed` follows the decrease of
//! `keys`, and pairs with the acquire load in `make_room`: a thread that finds no idle key because another thread
//! removed it also sees the smaller count, and so the space. All other accesses are relaxed: `keys` is changed by
//! read-modify-write operations only.

use std::sync::Arc;

use backstay_core::rate_limiter::{Quota, Scale, Shortage, Table, Take};

use super::KeyedRateLimiterStats;
use crate::clock::{Clock, Reading};
use crate::error::RateLimitExceededError;
use crate::striped::Striped;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

#[derive(Debug)]
pub(super) struct Shards {
    quota: Quota,
    scale: Scale,
    clock: Clock,
    name: Option<Arc<str>>,
    max_keys: usize,
    /// The number of keys in all shards, including those about to be inserted.
    keys: AtomicUsize,
    shards: Box<[Shard]>,
    /// For each shard, a time before which no key of its table is idle. In one array, so that a search reads them
    /// quickly.
    shard_idle_from: Box<[AtomicU64]>,
    /// The least of those times; 0 if unknown, or the mark of a search in progress.
    idle_from: AtomicU64,
    searches: AtomicU64,
    counts: Striped<2>,
}

const ACQUIRED: usize = 0;
const REJECTED: usize = 1;

/// Marks are greater than any time.
const MARK: u64 = 1 << 63;

/// Greater than any time, too.
const NEVER: u64 = MARK - 1;

/// The maximum number of shards: 16 bits of the hash choose the shard.
const SHARDS_MAX: usize = 1 << 16;

/// The maximum number of shards that one call searches.
const SEARCHED_SHARDS_MAX: usize = 4;

/// So few keys share a table that rebuilding it, under its lock, takes microseconds.
const KEYS_PER_SHARD: usize = 1024;

/// Alone on its cache line.
#[derive(Debug)]
#[repr(align(64))]
struct Shard(Mutex<Table>);

impl Shards {
    pub(super) fn new(quota: Quota, max_keys: usize, clock: Clock, name: Option<Arc<str>>) -> Self {
        let shards = (max_keys / KEYS_PER_SHARD).clamp(1, SHARDS_MAX).next_power_of_two();
        Self::with_shards(shards, quota, max_keys, clock, name)
    }

    /// Creates the given number of shards, a power of two.
    fn with_shards(shards: usize, quota: Quota, max_keys: usize, clock: Clock, name: Option<Arc<str>>) -> Self {
        clock.prepare();
        Self {
            quota,
            scale: quota.scale(),
            clock,
            name,
            max_keys,
            keys: AtomicUsize::new(0),
            shards: (0..shards).map(|_| Shard(Mutex::new(Table::new()))).collect(),
            shard_idle_from: (0..shards).map(|_| AtomicU64::new(NEVER)).collect(),
            idle_from: AtomicU64::new(0),
            searches: AtomicU64::new(0),
            counts: Striped::new(),
        }
    }

    pub(super) fn quota(&self) -> Quota {
        self.quota
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(super) fn max_keys(&self) -> usize {
        self.max_keys
    }

    pub(super) fn keys(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> usize {
        let shard = size_of::<Shard>() + size_of::<AtomicU64>();
        self.shards.iter().map(|Shard(table)| shard + table.lock().bytes()).sum()
    }

    pub(super) fn stats(&self) -> KeyedRateLimiterStats {
        let (acquired, rejected) = (self.counts.sum(ACQUIRED), self.counts.sum(REJECTED));
        KeyedRateLimiterStats { acquired, rejected, keys: self.keys() }
    }

    pub(super) fn tokens(&self, hash: u64) -> f64 {
        self.scale.tokens(self.scale.level(self.full_at(hash), self.clock.now()))
    }

    pub(super) fn reset(&self, hash: u64) {
        let index = self.shard(hash);
        if let Some(full_at) = self.shards[index].0.lock().full_at(hash) {
            *full_at = 0;
            self.note_idle_from(index, 0);
        }
    }

    #[inline]
    fn shard(&self, hash: u64) -> usize {
        // The table uses the low bits.
        #[allow(clippy::cast_possible_truncation)]
        let index = (hash >> 48) as usize & (self.shards.len() - 1);
        index
    }

    /// Takes all of `tokens` of a key, or none, and counts the result.
    #[inline]
    pub(super) fn take(&self, hash: u64, tokens: u32) -> bool {
        let granted = self.take_known_key(hash, self.scale.cost(tokens));
        let granted = granted.unwrap_or_else(|| self.take_new_key(hash, self.scale.cost(tokens)));
        if granted {
            self.counts.add(ACQUIRED, u64::from(tokens));
        } else {
            self.counts.add(REJECTED, 1);
            tracing::debug!(target: "backstay", limiter = self.name.as_deref(), "rate limit of a key exceeded");
        }
        granted
    }

    /// Takes `cost` from a key in the table; `None` if the key is not there.
    #[inline]
    fn take_known_key(&self, hash: u64, cost: u64) -> Option<bool> {
        // The clock is read before the lock is taken, which other threads may be waiting for. If the coarse clock does
        // not decide, the key is idle or its next token is near.
        let (mut time, mut is_coarse) = (self.clock.coarse(), true);
        let mut table = self.shards[self.shard(hash)].0.lock();
        let full_at = table.full_at(hash)?;
        loop {
            match self.scale.take(*full_at, cost, time) {
                Take::Granted(later) => {
                    *full_at = later;
                    return Some(true);
                }
                Take::Rejected => return Some(false),
                Take::Undecided if is_coarse => (time, is_coarse) = (self.clock.fine(), false),
                Take::Undecided => time = Reading::exact(self.clock.anchor()),
            }
        }
    }

    #[inline(never)]
    fn take_new_key(&self, hash: u64, cost: u64) -> bool {
        let shard = self.shard(hash);
        loop {
            let mut table = self.shards[shard].0.lock();
            // Read under the lock: a key that was removed meanwhile is full now, and was not when this call began.
            let now = self.clock.now();
            let known = table.full_at(hash);
            let bucket = known.as_deref().copied().unwrap_or(0);
            let Take::Granted(full_at) = self.scale.take(bucket, cost, Reading::exact(now)) else {
                return false;
            };
            if let Some(known) = known {
                *known = full_at;
                return true;
            }
            let now = self.scale.units(now);
            if self.claim_key() {
                let removed = table.insert(hash, full_at, now);
                if removed > 0 {
                    self.note_removed(removed, shard, &table);
                }
                self.note_idle_from(shard, full_at);
                return true;
            }
            drop(table);
            // Another thread may have removed more idle keys than it needed.
            if !self.make_room(shard, now) && self.keys() >= self.max_keys {
                return false;
            }
        }
    }

    fn claim_key(&self) -> bool {
        let more = |keys: usize| (keys < self.max_keys).then_some(keys + 1);
        self.keys.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Notes, under the lock of the shard, that one of its keys is idle at `full_at`.
    fn note_idle_from(&self, shard: usize, full_at: u64) {
        // Most keys become idle later than the first one of the table.
        if self.shard_idle_from[shard].load(Ordering::Relaxed) > full_at {
            self.shard_idle_from[shard].store(full_at, Ordering::Release);
            self.idle_from.swap(0, Ordering::AcqRel);
        }
    }

    /// Notes, under the lock of the shard, that keys were removed from its `table`.
    fn note_removed(&self, removed: usize, shard: usize, table: &Table) {
        self.keys.fetch_sub(removed, Ordering::Relaxed);
        self.shard_idle_from[shard].store(table.first_full().min(NEVER), Ordering::Release);
    }

    /// Removes idle keys, from `first` or else from another shard, and returns whether any were found. Searches the
    /// tables of at most [`SEARCHED_SHARDS_MAX`] shards; the next call continues with the following ones.
    fn make_room(&self, first: usize, now: u64) -> bool {
        let known = self.idle_from.load(Ordering::Acquire);
        if known < MARK && known > now {
            return false;
        }
        let mark = MARK | self.searches.fetch_add(1, Ordering::Relaxed);
        self.idle_from.swap(mark, Ordering::AcqRel);
        let (mut least, mut searches_left) = (NEVER, SEARCHED_SHARDS_MAX);
        for shard in std::iter::once(first).chain(0..self.shards.len()) {
            let idle_from = self.shard_idle_from[shard].load(Ordering::Acquire);
            if idle_from > now {
                least = least.min(idle_from);
                continue;
            }
            let Some(left) = searches_left.checked_sub(1) else { return false };
            searches_left = left;
            let mut table = self.shards[shard].0.lock();
            let idle = table.first_full() <= now;
            let removed = if idle { table.sweep(now) } else { 0 };
            self.note_removed(removed, shard, &table);
            if removed > 0 {
                return true;
            }
            least = least.min(table.first_full());
        }
        // If the mark was replaced, another search began, or a key became idle earlier.
        let _ = self.idle_from.compare_exchange(mark, least, Ordering::AcqRel, Ordering::Relaxed);
        false
    }

    fn full_at(&self, hash: u64) -> u64 {
        self.shards[self.shard(hash)].0.lock().full_at(hash).map_or(0, |full_at| *full_at)
    }

    /// Returns the error of a rejected request, with the time at which the tokens, or space for a new key, may be
    /// there.
    pub(super) fn rejection(&self, hash: u64, tokens: u32) -> RateLimitExceededError {
        let mut shortage = Shortage { scale: self.scale, full_at: self.full_at(hash), cost: self.scale.cost(tokens) };
        if shortage.wait(self.clock.now()).is_zero() {
            // The tokens were there, but no space for a new key: there is some when the first key is idle.
            let known = Some(self.idle_from.load(Ordering::Relaxed)).filter(|known| (1..MARK).contains(known));
            let least = || self.shard_idle_from.iter().map(|idle_from| idle_from.load(Ordering::Relaxed)).min();
            let idle_from = known.or_else(least).unwrap_or(0);
            shortage = Shortage { full_at: idle_from.saturating_add(self.scale.capacity), cost: 0, ..shortage };
        }
        RateLimitExceededError::until(self.name.clone(), shortage, &self.clock)
    }
}

#[cfg(all(test, backstay_loom))]
mod loom_tests;
