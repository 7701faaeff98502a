use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use crate::time::Moment;

const SLOT_BITS: u32 = 22;

/// How late something may come out of a [`Schedule`]: about 4 ms.
pub const SLOT: Duration = Duration::from_nanos(1 << SLOT_BITS);

/// Things by the moment at which they are due, in slots of [`SLOT`]: never early, and late by one slot at most.
///
/// Many things share a slot, so that putting one in costs next to nothing and whoever waits wakes once for all of them.
///
/// ```
/// use backstay_core::time::Moment;
/// use backstay_core::watchdog::{SLOT, Schedule};
///
/// let mut schedule = Schedule::default();
/// schedule.insert(Moment::from_nanos(5), "a");
/// let due = schedule.next_due().unwrap();
/// assert!(due >= Moment::from_nanos(5) && due <= Moment::from_nanos(5) + SLOT);
/// assert_eq!(schedule.take_due(due), ["a"]);
/// ```
#[derive(Clone, Debug)]
pub struct Schedule<T> {
    slots: BTreeMap<u64, Vec<T>>,
    len: usize,
}

impl<T> Default for Schedule<T> {
    fn default() -> Self {
        Self { slots: BTreeMap::new(), len: 0 }
    }
}

impl<T> Schedule<T> {
    /// Puts `thing` in, to come out at `due` or up to one slot later.
    pub fn insert(&mut self, due: Moment, thing: T) {
        self.slots.entry(slot_from(due)).or_default().push(thing);
        self.len += 1;
    }

    /// When something next comes out.
    #[must_use]
    pub fn next_due(&self) -> Option<Moment> {
        self.slots.first_key_value().map(|(&slot, _)| start_of(slot))
    }

    /// Takes out all that is due at `now`.
    #[must_use]
    pub fn take_due(&mut self, now: Moment) -> Vec<T> {
        let mut due = Vec::new();
        while let Some(first) = self.slots.first_entry() {
            if start_of(*first.key()) > now {
                break;
            }
            let slot = first.remove();
            self.len -= slot.len();
            if due.is_empty() {
                due = slot;
            } else {
                due.extend(slot);
            }
        }
        due
    }

    /// Drops what `keep` does not want.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.slots.retain(|_, slot| {
            slot.retain(&mut keep);
            !slot.is_empty()
        });
        self.len = self.slots.values().map(Vec::len).sum();
    }

    /// How many things are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The first slot that starts at `due` or later.
fn slot_from(due: Moment) -> u64 {
    due.as_nanos().div_ceil(1 << SLOT_BITS)
}

fn start_of(slot: u64) -> Moment {
    Moment::from_nanos(slot.saturating_mul(1 << SLOT_BITS))
}
