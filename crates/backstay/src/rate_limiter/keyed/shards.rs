//! The keys of a limiter, by their hashes, in tables with a lock each.

use std::sync::Arc;
use std::time::Duration;

use backstay_core::rate_limiter::{Quota, Scale, Table, Take};

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

impl Shards {
    pub(super) fn new(quota: Quota, max_keys: usize, clock: Clock, name: Option<Arc<str>>) -> Self {
        // Few keys need no shards; many need enough that laying one out anew takes microseconds.
        let shards = (max_keys / 4096).clamp(1, 256).next_power_of_two();
        let shard = || Shard { table: Mutex::new(Table::new()), idle_from: AtomicU64::new(u64::MAX) };
        Self {
            quota,
            scale: quota.scale(),
            clock,
            name,
            max_keys,
            keys: AtomicUsize::new(0),
            shards: (0..shards).map(|_| shard()).collect(),
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
        self.shards.iter().map(|shard| size_of::<Shard>() + shard.table.lock().bytes()).sum()
    }

    pub(super) fn stats(&self) -> KeyedRateLimiterStats {
        let (acquired, rejected) = (self.counts.sum(ACQUIRED), self.counts.sum(REJECTED));
        KeyedRateLimiterStats { acquired, rejected, keys: self.keys() }
    }

    pub(super) fn tokens(&self, hash: u64) -> f64 {
        self.scale.tokens(self.scale.level(self.full_at(hash), self.clock.now()))
    }

    pub(super) fn reset(&self, hash: u64) {
        let shard = self.shard(hash);
        if let Some(full_at) = shard.table.lock().full_at(hash) {
            *full_at = 0;
            shard.idle_from.store(0, Ordering::Relaxed);
        }
    }

    #[inline]
    fn shard(&self, hash: u64) -> &Shard {
        // The table uses the low bits.
        #[allow(clippy::cast_possible_truncation)]
        let index = (hash >> 48) as usize & (self.shards.len() - 1);
        &self.shards[index]
    }

    /// Takes `tokens` of a key if they are there, and counts what became of it.
    #[inline]
    pub(super) fn take(&self, hash: u64, tokens: u32) -> bool {
        let cost = self.scale.cost(tokens);
        // The clock is read before the lock is taken: others may be waiting for that.
        let granted = match self.take_of_known(hash, cost, self.clock.coarse()) {
            Take::Granted(_) => true,
            Take::Refused => false,
            Take::Unclear => self.take_exactly(hash, cost),
        };
        if granted {
            self.counts.add(ACQUIRED, u64::from(tokens));
        } else {
            self.counts.add(REJECTED, 1);
            tracing::debug!(target: "backstay", limiter = self.name.as_deref(), "rate limit of a key exceeded");
        }
        granted
    }

    #[inline]
    fn take_of_known(&self, hash: u64, cost: u64, time: Reading) -> Take {
        let mut table = self.shard(hash).table.lock();
        let Some(full_at) = table.full_at(hash) else { return Take::Unclear };
        let take = self.scale.take(*full_at, cost, time);
        if let Take::Granted(later) = take {
            *full_at = later;
        }
        take
    }

    #[inline(never)]
    fn take_exactly(&self, hash: u64, cost: u64) -> bool {
        let shard = self.shard(hash);
        loop {
            let mut table = shard.table.lock();
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

    /// Why `tokens` were refused that were not there, and when they, or a place for a new key, may be.
    pub(super) fn refusal(&self, hash: u64, tokens: u32) -> RateLimitExceededError {
        RateLimitExceededError { name: self.name.clone(), retry_after: self.wait_for(hash, tokens) }
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
}
