//! The keys of a limiter, by their hashes, in tables with a lock each.
//!
//! When all keys that there may be are limited, new ones are rejected until the first of the others is idle. That
//! moment is looked for in all shards once and then remembered (`idle_from`), so that a flood of new keys costs little.
//!
//! # Memory ordering
//! `idle_from` is one word that is only swapped, acquire and release, so that each writer sees all that those before it
//! did. A look swaps in a mark of its own, reads the words of the shards, then replaces its mark by what it found. A
//! thread that makes a key idle earlier writes the word of its shard, then swaps in 0. So either the look sees that key,
//! or it finds its mark gone and remembers nothing.
//!
//! A shard's word is written under the lock of its table. Its release, in `forgot`, follows the decrease of `keys` and
//! pairs with the acquire in `make_room`: a thread that finds no idle key any more because another one removed it sees
//! the smaller count as well, and so the room. All else is relaxed: `keys` is changed by read-modify-write alone.

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
    /// How many keys all the shards have, or are about to have.
    keys: AtomicUsize,
    shards: Box<[Shard]>,
    /// For each shard, before this time no key of its table is idle. Side by side, so that all can be read at once.
    idle_from_of: Box<[AtomicU64]>,
    /// The least of those; 0 where it is not known, or the mark of someone who is looking.
    idle_from: AtomicU64,
    looks: AtomicU64,
    counts: Striped<2>,
}

const ACQUIRED: usize = 0;
const REJECTED: usize = 1;

/// Marks are greater than any time.
const MARK: u64 = 1 << 63;

/// Greater than any time as well.
const NEVER: u64 = MARK - 1;

/// As many as 16 bits of the hash can tell apart.
const SHARDS_MAX: usize = 1 << 16;

/// So many shards are looked through by one call at most.
const LOOKS: usize = 4;

/// So few keys share a table that laying it out anew, for which callers wait, takes microseconds.
const KEYS_OF_SHARD: usize = 1024;

/// On a line of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Shard(Mutex<Table>);

impl Shards {
    pub(super) fn new(quota: Quota, max_keys: usize, clock: Clock, name: Option<Arc<str>>) -> Self {
        let shards = (max_keys / KEYS_OF_SHARD).clamp(1, SHARDS_MAX).next_power_of_two();
        Self::in_shards(shards, quota, max_keys, clock, name)
    }

    /// In so many shards, a power of two.
    fn in_shards(shards: usize, quota: Quota, max_keys: usize, clock: Clock, name: Option<Arc<str>>) -> Self {
        clock.prepare();
        Self {
            quota,
            scale: quota.scale(),
            clock,
            name,
            max_keys,
            keys: AtomicUsize::new(0),
            shards: (0..shards).map(|_| Shard(Mutex::new(Table::new()))).collect(),
            idle_from_of: (0..shards).map(|_| AtomicU64::new(NEVER)).collect(),
            idle_from: AtomicU64::new(0),
            looks: AtomicU64::new(0),
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
            self.may_be_idle(index, 0);
        }
    }

    #[inline]
    fn shard(&self, hash: u64) -> usize {
        // The table uses the low bits.
        #[allow(clippy::cast_possible_truncation)]
        let index = (hash >> 48) as usize & (self.shards.len() - 1);
        index
    }

    /// Takes `tokens` of a key if they are there, and counts what became of it.
    #[inline]
    pub(super) fn take(&self, hash: u64, tokens: u32) -> bool {
        let granted = self.take_of_known(hash, self.scale.cost(tokens));
        let granted = granted.unwrap_or_else(|| self.take_of_new(hash, self.scale.cost(tokens)));
        if granted {
            self.counts.add(ACQUIRED, u64::from(tokens));
        } else {
            self.counts.add(REJECTED, 1);
            tracing::debug!(target: "backstay", limiter = self.name.as_deref(), "rate limit of a key exceeded");
        }
        granted
    }

    /// `None` for a key that is not remembered.
    #[inline]
    fn take_of_known(&self, hash: u64, cost: u64) -> Option<bool> {
        // The clock is read before the lock is taken: others may be waiting for that. Where it does not decide, the key is
        // idle, or its next token is near.
        let (mut time, mut is_coarse) = (self.clock.coarse(), true);
        let mut table = self.shards[self.shard(hash)].0.lock();
        let full_at = table.full_at(hash)?;
        loop {
            match self.scale.take(*full_at, cost, time) {
                Take::Granted(later) => {
                    *full_at = later;
                    return Some(true);
                }
                Take::Refused => return Some(false),
                Take::Unclear if is_coarse => (time, is_coarse) = (self.clock.fine(), false),
                Take::Unclear => time = Reading::exact(self.clock.anchor()),
            }
        }
    }

    #[inline(never)]
    fn take_of_new(&self, hash: u64, cost: u64) -> bool {
        let shard = self.shard(hash);
        loop {
            let mut table = self.shards[shard].0.lock();
            // A key that was forgotten is full now, and was not when somebody began to wait for the lock.
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
            if self.claim_place() {
                let removed = table.insert(hash, full_at, now);
                if removed > 0 {
                    self.forgot(removed, shard, &table);
                }
                self.may_be_idle(shard, full_at);
                return true;
            }
            drop(table);
            // Where there was no idle key, another thread may have removed more of them than it needed.
            if !self.make_room(shard, now) && self.keys() >= self.max_keys {
                return false;
            }
        }
    }

    fn claim_place(&self) -> bool {
        let more = |keys: usize| (keys < self.max_keys).then_some(keys + 1);
        self.keys.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Notes, under the lock of the shard, that a key of it is idle at `full_at`.
    fn may_be_idle(&self, shard: usize, full_at: u64) {
        // Most keys become idle after those that were there.
        if self.idle_from_of[shard].load(Ordering::Relaxed) > full_at {
            self.idle_from_of[shard].store(full_at, Ordering::Release);
            self.idle_from.swap(0, Ordering::AcqRel);
        }
    }

    /// Notes, under the lock of the shard, that so many keys have gone from its `table`.
    fn forgot(&self, removed: usize, shard: usize, table: &Table) {
        self.keys.fetch_sub(removed, Ordering::Relaxed);
        self.idle_from_of[shard].store(table.first_full().min(NEVER), Ordering::Release);
    }

    /// Forgets idle keys, of `first` or else of another shard. Whether any were found, in at most [`LOOKS`] shards: the
    /// next call goes on where this one stops.
    fn make_room(&self, first: usize, now: u64) -> bool {
        let known = self.idle_from.load(Ordering::Acquire);
        if known < MARK && known > now {
            return false;
        }
        let mark = MARK | self.looks.fetch_add(1, Ordering::Relaxed);
        self.idle_from.swap(mark, Ordering::AcqRel);
        let (mut least, mut looks) = (NEVER, LOOKS);
        for shard in std::iter::once(first).chain(0..self.shards.len()) {
            let idle_from = self.idle_from_of[shard].load(Ordering::Acquire);
            if idle_from > now {
                least = least.min(idle_from);
                continue;
            }
            let Some(left) = looks.checked_sub(1) else { return false };
            looks = left;
            let mut table = self.shards[shard].0.lock();
            let idle = table.first_full() <= now;
            let removed = if idle { table.sweep(now) } else { 0 };
            self.forgot(removed, shard, &table);
            if removed > 0 {
                return true;
            }
            least = least.min(table.first_full());
        }
        // A mark that was replaced means that others looked, or that a key became idle earlier.
        let _ = self.idle_from.compare_exchange(mark, least, Ordering::AcqRel, Ordering::Relaxed);
        false
    }

    fn full_at(&self, hash: u64) -> u64 {
        self.shards[self.shard(hash)].0.lock().full_at(hash).map_or(0, |full_at| *full_at)
    }

    /// Why `tokens` were refused, and when they, or a place for a new key, may be there.
    pub(super) fn refusal(&self, hash: u64, tokens: u32) -> RateLimitExceededError {
        let mut shortage = Shortage { scale: self.scale, full_at: self.full_at(hash), cost: self.scale.cost(tokens) };
        if shortage.wait(self.clock.now()).is_zero() {
            // For want of a place, then: one is free when the first key is idle.
            let known = Some(self.idle_from.load(Ordering::Relaxed)).filter(|known| (1..MARK).contains(known));
            let least = || self.idle_from_of.iter().map(|idle_from| idle_from.load(Ordering::Relaxed)).min();
            let idle_from = known.or_else(least).unwrap_or(0);
            shortage = Shortage { full_at: idle_from.saturating_add(self.scale.capacity), cost: 0, ..shortage };
        }
        RateLimitExceededError::until(self.name.clone(), shortage, &self.clock)
    }
}

#[cfg(all(test, backstay_loom))]
mod loom_tests;
