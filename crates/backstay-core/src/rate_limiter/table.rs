//! A hash table of buckets that share one scale; each takes 16 bytes.

use alloc::boxed::Box;
use alloc::vec;

/// Buckets by the hash of their key.
///
/// A full bucket equals a new one, so it needs no entry.
///
/// An open-addressing table that is at most 7/8 full. Entries are removed only when the table is rebuilt, so it has no
/// tombstones.
#[derive(Clone, Debug, Default)]
pub struct Table {
    groups: Box<[Group]>,
    len: usize,
}

/// A cache line, compared as a whole. With a million keys the line is not in the cache, and a branch that depends on a
/// single slot would often be mispredicted.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Group([Slot; WIDTH]);

const WIDTH: usize = 4;

/// A hash of 0 marks a free slot.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    hash: u64,
    full_at: u64,
}

const FREE: u64 = 0;

impl Group {
    /// Returns the position of `hash`, or `WIDTH` if it is not in the group.
    #[inline]
    fn position(&self, hash: u64) -> usize {
        self.0.iter().enumerate().fold(WIDTH, |found, (index, slot)| if slot.hash == hash { index } else { found })
    }
}

impl Table {
    /// Creates a table without entries; it allocates no memory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the `full_at` of the bucket of `hash`, or `None` if it has no entry.
    #[inline]
    #[must_use]
    pub fn full_at(&mut self, hash: u64) -> Option<&mut u64> {
        let hash = hash | 1;
        let mut index = self.home(hash)?;
        loop {
            let position = self.groups[index].position(hash);
            if position < WIDTH {
                return Some(&mut self.groups[index].0[position].full_at);
            }
            if self.groups[index].position(FREE) < WIDTH {
                return None;
            }
            index = (index + 1) & (self.groups.len() - 1);
        }
    }

    /// Adds a bucket that has no entry.
    ///
    /// If there is no space left, it removes the buckets that are full at `now`. Returns how many it removed.
    pub fn insert(&mut self, hash: u64, full_at: u64, now: u64) -> usize {
        let removed = if self.has_space() { 0 } else { self.sweep(now) };
        self.put(Slot { hash: hash | 1, full_at });
        self.len += 1;
        removed
    }

    /// Removes the buckets that are full at `now`, and makes space for one more.
    ///
    /// Returns how many were removed.
    pub fn sweep(&mut self, now: u64) -> usize {
        let before = self.len;
        let live = self.slots().filter(|slot| slot.full_at > now).count();
        // Enough slots that this pass over all of them pays off; not too many, at 16 bytes each.
        let slots = (live * 16).div_ceil(13).next_power_of_two().max(2 * WIDTH);
        let old = core::mem::replace(&mut self.groups, vec![Group::default(); slots / WIDTH].into_boxed_slice());
        let old = Self { groups: old, len: before };
        old.slots().filter(|slot| slot.full_at > now).for_each(|slot| self.put(*slot));
        self.len = live;
        before - live
    }

    /// Returns the earliest time at which a bucket is full.
    ///
    /// `u64::MAX` if there are no buckets.
    #[must_use]
    pub fn first_full(&self) -> u64 {
        self.slots().map(|slot| slot.full_at).min().unwrap_or(u64::MAX)
    }

    /// Returns the number of buckets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no buckets.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the bytes that the buckets take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        core::mem::size_of_val(&*self.groups)
    }

    fn has_space(&self) -> bool {
        (self.len + 1) * 8 <= self.groups.len() * WIDTH * 7
    }

    /// Returns the slots in use.
    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.groups.iter().flat_map(|group| &group.0).filter(|slot| slot.hash != FREE)
    }

    /// Stores `slot` where a search will find it. The table must have space.
    fn put(&mut self, slot: Slot) {
        let Some(mut index) = self.home(slot.hash) else { return };
        loop {
            let position = self.groups[index].position(FREE);
            if position < WIDTH {
                self.groups[index].0[position] = slot;
                return;
            }
            index = (index + 1) & (self.groups.len() - 1);
        }
    }

    /// Returns the group in which the search for `hash` starts, or `None` if the table has no slots.
    #[inline]
    #[allow(clippy::cast_possible_truncation)]
    fn home(&self, hash: u64) -> Option<usize> {
        // The lowest bit is always set.
        Some((hash >> 1) as usize & self.groups.len().checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(crate::cases(256))]

        // RL-11: only idle buckets are removed; a limited one stays unchanged.
        #[test]
        fn only_idle_buckets_are_removed(steps in prop::collection::vec((0..300u64, 1..50u64, 0..3u64), 0..if cfg!(miri) { 30 } else { 600 })) {
            let mut table = Table::new();
            let mut model = BTreeMap::new();
            let mut now = 0;
            for (key, busy, passed) in steps {
                now += passed;
                let hash = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
                let full_at = now + busy;
                match table.full_at(hash) {
                    Some(known) => *known = full_at,
                    None => {
                        prop_assert!(model.get(&key).is_none_or(|known| *known <= now));
                        let before = table.len();
                        let removed = table.insert(hash, full_at, now);
                        prop_assert_eq!(table.len() + removed, before + 1);
                    }
                }
                model.insert(key, full_at);
                for (key, full_at) in model.iter().filter(|(_, full_at)| **full_at > now) {
                    let hash = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
                    prop_assert_eq!(table.full_at(hash).copied(), Some(*full_at));
                }
                prop_assert_eq!(table.len(), table.slots().count());
                prop_assert!(table.len() * 8 <= table.groups.len() * WIDTH * 7);
            }
        }
    }

    // RL-11: a table reports its buckets and when the first one is idle; `sweep` removes the idle ones.
    #[test]
    fn a_table_reports_its_buckets() {
        let mut table = Table::new();
        assert_eq!((table.is_empty(), table.first_full(), table.bytes()), (true, u64::MAX, 0));
        assert_eq!([table.insert(2, 50, 0), table.insert(4, 40, 0), table.insert(6, 60, 0)], [0; 3]);
        assert_eq!((table.is_empty(), table.len(), table.first_full()), (false, 3, 40));
        assert_eq!((table.sweep(39), table.len()), (0, 3));
        assert_eq!((table.sweep(40), table.len(), table.first_full()), (1, 2, 50));
        assert_eq!([4, 2].map(|hash| table.full_at(hash).copied()), [None, Some(50)]);
        assert_eq!((table.sweep(60), table.is_empty(), table.first_full()), (2, true, u64::MAX));
    }

    // RL-11: the table grows only when seven eighths of the slots are used.
    #[test]
    fn a_table_grows_when_it_is_seven_eighths_full() {
        let mut table = Table::new();
        for key in 1..=28 {
            assert_eq!(table.insert(key << 1, u64::MAX, 0), 0);
            let slots = match key {
                1..=7 => 8,
                8..=14 => 16,
                _ => 32,
            };
            assert_eq!((table.len() as u64, table.bytes()), (key, slots * 16), "{key} keys");
        }
    }

    // RL-11: at most 40 bytes per key.
    #[test]
    fn a_thousand_or_more_limited_keys_take_at_most_40_bytes_each() {
        let mut table = Table::new();
        for key in 1..=if cfg!(miri) { 1_030 } else { 100_000u64 } {
            table.insert(key.wrapping_mul(0x9E37_79B9_7F4A_7C15) << 1, u64::MAX, 0);
            if key >= 1_000 {
                assert!(table.bytes() <= 40 * table.len(), "{} bytes for {} keys", table.bytes(), table.len());
            }
        }
    }
}
