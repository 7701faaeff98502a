use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use crate::time::Moment;

const SLOT_BITS: u32 = 22;

/// Largest delay of an item in a [`DeadlineQueue`]: about 4 ms.
pub const SLOT_LENGTH: Duration = Duration::from_nanos(1 << SLOT_BITS);

/// Holds items by deadline: they are never early and at most [`SLOT_LENGTH`] late.
///
/// Items of one slot share an entry of the tree. Inserting is cheap, and a waiting thread wakes once for the whole
/// slot.
///
/// ```
/// use backstay_core::time::Moment;
/// use backstay_core::watchdog::{SLOT_LENGTH, DeadlineQueue};
///
/// let mut queue = DeadlineQueue::default();
/// queue.insert(Moment::from_nanos(5), "a");
/// let due = queue.next_due().unwrap();
/// assert!(due >= Moment::from_nanos(5) && due <= Moment::from_nanos(5) + SLOT_LENGTH);
/// assert_eq!(queue.take_due(due), ["a"]);
/// ```
#[derive(Clone, Debug)]
pub struct DeadlineQueue<T> {
    slots: BTreeMap<u64, Vec<T>>,
    len: usize,
}

impl<T> Default for DeadlineQueue<T> {
    fn default() -> Self {
        Self { slots: BTreeMap::new(), len: 0 }
    }
}

impl<T> DeadlineQueue<T> {
    /// Inserts `item`, which is due at `due` or up to one slot later.
    pub fn insert(&mut self, due: Moment, item: T) {
        self.slots.entry(slot_from(due)).or_default().push(item);
        self.len += 1;
    }

    /// Returns the time at which the next item is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Moment> {
        self.slots.first_key_value().map(|(&slot, _)| start_of(slot))
    }

    /// Removes and returns all items due at `now`.
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

    /// Keeps only the items for which `keep` returns true.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.slots.retain(|_, slot| {
            slot.retain(&mut keep);
            !slot.is_empty()
        });
        self.len = self.slots.values().map(Vec::len).sum();
    }

    /// Returns the number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Returns the first slot that starts at `due` or later.
fn slot_from(due: Moment) -> u64 {
    due.as_nanos().div_ceil(1 << SLOT_BITS)
}

fn start_of(slot: u64) -> Moment {
    Moment::from_nanos(slot.saturating_mul(1 << SLOT_BITS))
}
