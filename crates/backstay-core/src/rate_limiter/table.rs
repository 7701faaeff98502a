//! Many buckets of one scale, each in 16 bytes, found by the hash of its key.

use alloc::boxed::Box;
use alloc::vec;

/// A bucket that is full looks like one that was never used, so it needs no entry.
///
/// An open-addressing table that is never more than 7/8 full. Removing happens only while it is laid out anew, so
/// there are no graves in it.
#[derive(Clone, Debug, Default)]
pub struct Table {
    slots: Box<[Slot]>,
    len: usize,
}

/// Free where the hash is 0.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    hash: u64,
    full_at: u64,
}

const FREE: u64 = 0;

impl Table {
    /// A table without entries, and without memory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// When the bucket of `hash` is full; `None` where there is none.
    #[inline]
    #[must_use]
    pub fn full_at(&mut self, hash: u64) -> Option<&mut u64> {
        let index = self.probe(hash | 1)?;
        let slot = &mut self.slots[index];
        (slot.hash != FREE).then_some(&mut slot.full_at)
    }

    /// Adds a bucket of which [`full_at`](Self::full_at) knew nothing. Returns how many idle ones had to go for it:
    /// those that are full at `now`, when there was no space left.
    pub fn insert(&mut self, hash: u64, full_at: u64, now: u64) -> usize {
        let removed = if self.has_space() { 0 } else { self.sweep(now) };
        if let Some(index) = self.probe(hash | 1) {
            self.slots[index] = Slot { hash: hash | 1, full_at };
            self.len += 1;
        }
        removed
    }

    /// Removes the buckets that are full at `now`, and leaves space for one more: how many there were.
    pub fn sweep(&mut self, now: u64) -> usize {
        let before = self.len;
        let live = self.slots.iter().filter(|slot| slot.hash != FREE && slot.full_at > now).count();
        // Space enough that this, which looks at every slot, pays; and not too much, at 16 bytes each.
        let size = ((live + 1) * 16).div_ceil(13).next_power_of_two().max(8);
        let old = core::mem::replace(&mut self.slots, vec![Slot::default(); size].into_boxed_slice());
        for slot in old.iter().filter(|slot| slot.hash != FREE && slot.full_at > now) {
            if let Some(index) = self.probe(slot.hash) {
                self.slots[index] = *slot;
            }
        }
        self.len = live;
        before - live
    }

    /// When the first of the buckets is full; `u64::MAX` where there is none.
    #[must_use]
    pub fn first_full(&self) -> u64 {
        let used = self.slots.iter().filter(|slot| slot.hash != FREE);
        used.map(|slot| slot.full_at).min().unwrap_or(u64::MAX)
    }

    /// How many buckets there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no buckets.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes the buckets occupy.
    #[must_use]
    pub fn bytes(&self) -> usize {
        core::mem::size_of_val(&*self.slots)
    }

    fn has_space(&self) -> bool {
        (self.len + 1) * 8 <= self.slots.len() * 7
    }

    /// The slot of `hash`, or the free one where it belongs; `None` in a table without slots.
    #[inline]
    #[allow(clippy::cast_possible_truncation)]
    fn probe(&self, hash: u64) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        // The lowest bit is always set.
        let mut index = (hash >> 1) as usize & mask;
        loop {
            let slot = &self.slots[index];
            if slot.hash == hash || slot.hash == FREE {
                return Some(index);
            }
            index = (index + 1) & mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }) })]

        // RL-11: only what is idle goes; whoever is limited stays, as it was.
        #[test]
        fn nothing_but_idle_buckets_is_lost(steps in prop::collection::vec((0..300u64, 1..50u64, 0..3u64), 0..if cfg!(miri) { 60 } else { 600 })) {
            let mut table = Table::new();
            let mut model = BTreeMap::new();
            let mut now = 0;
            for (key, busy, passed) in steps {
                now += passed;
                let hash = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) << 1;
                let full_at = now + busy;
                match table.full_at(hash) {
                    Some(known) => *known = full_at,
                    None => {
                        prop_assert!(model.get(&key).is_none_or(|known| *known <= now));
                        table.insert(hash, full_at, now);
                    }
                }
                model.insert(key, full_at);
                for (key, full_at) in model.iter().filter(|(_, full_at)| **full_at > now) {
                    let hash = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) << 1;
                    prop_assert_eq!(table.full_at(hash).copied(), Some(*full_at));
                }
                prop_assert!(table.len() * 8 <= table.slots.len() * 7);
            }
        }
    }

    // RL-11: at most 40 bytes a key.
    #[test]
    fn a_thousand_and_more_busy_keys_cost_at_most_40_bytes_each() {
        let mut table = Table::new();
        for key in 1..=if cfg!(miri) { 2_000 } else { 100_000u64 } {
            table.insert(key.wrapping_mul(0x9E37_79B9_7F4A_7C15) << 1, u64::MAX, 0);
            if key >= 1_000 {
                assert!(table.bytes() <= 40 * table.len(), "{} bytes for {} keys", table.bytes(), table.len());
            }
        }
    }
}
