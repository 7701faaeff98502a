//! Who waits for tokens, in the order of coming.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::bucket::{FULL_AT_MAX, Place, Scale};
use crate::time::Moment;

/// Names a waiter in its queue; later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// The waiters of one bucket, first come, first served; `W` is how each can be woken.
///
/// Everyone knows when it is due and sleeps until then on its own. A waiter is woken only where that moment moved;
/// whoever was woken is not woken again before it has [`listen`](Self::listen)ed again, so that a crowd that leaves
/// together wakes each of those who stay only once.
#[derive(Debug)]
pub struct Queue<W> {
    waiters: VecDeque<Waiter<W>>,
    next: u64,
}

#[derive(Debug)]
struct Waiter<W> {
    ticket: Ticket,
    place: Place,
    wake: Option<W>,
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Self { waiters: VecDeque::new(), next: 0 }
    }
}

impl<W> Queue<W> {
    /// Stands at the end.
    pub fn join(&mut self, place: Place) -> Ticket {
        let ticket = Ticket(self.next);
        self.next = self.next.wrapping_add(1);
        self.waiters.push_back(Waiter { ticket, place, wake: None });
        ticket
    }

    /// What the waiter has taken; its end moves when others leave.
    #[must_use]
    pub fn place(&self, ticket: Ticket) -> Option<Place> {
        self.index(ticket).map(|index| self.waiters[index].place)
    }

    /// Wants to be woken by `wake` when the waiter's place moves. Gives back what it wanted before.
    pub fn listen(&mut self, ticket: Ticket, wake: W) -> Option<W> {
        let index = self.index(ticket)?;
        self.waiters[index].wake.replace(wake)
    }

    /// Leaves with everything taken.
    pub fn served(&mut self, ticket: Ticket) -> Option<W> {
        let index = self.index(ticket)?;
        self.waiters.remove(index)?.wake
    }

    /// Leaves, `refund` having gone back into the bucket: those behind move up, and are pushed to `moved`. Returns
    /// what the leaving one wanted to be woken by.
    pub fn leave(&mut self, ticket: Ticket, refund: u64, moved: &mut Vec<W>) -> Option<W> {
        let index = self.index(ticket)?;
        let left = self.waiters.remove(index);
        if refund > 0 {
            for waiter in self.waiters.range_mut(index..) {
                waiter.place.full_at = waiter.place.full_at.saturating_sub(refund);
                moved.extend(waiter.wake.take());
            }
        }
        left?.wake
    }

    /// The bucket is filled at `now`: who was not due takes from it in turn. Returns the bucket's new `full_at`.
    pub fn refill(&mut self, scale: &Scale, now: Moment, moved: &mut Vec<W>) -> u64 {
        let full = scale.units(now);
        let mut full_at = full;
        for waiter in &mut self.waiters {
            if scale.due(waiter.place) <= now {
                waiter.place.full_at = waiter.place.full_at.min(full);
            } else {
                waiter.place = scale.reserve(full_at, waiter.place.cost, now);
                full_at = waiter.place.full_at;
                moved.extend(waiter.wake.take());
            }
        }
        full_at
    }

    /// The scale of the bucket changes at `now`. Returns what the bucket's `full_at` must be at least.
    ///
    /// A slow scale has no moments for a long line: its end stands at the last moment there is. Whoever still waits keeps
    /// the distance of his cost to the one before him, so that the line stretches again when the scale becomes fast.
    pub fn convert(&mut self, old: &Scale, new: &Scale, now: Moment, moved: &mut Vec<W>) -> u64 {
        let mut end = 0_u64;
        for waiter in &mut self.waiters {
            let waits = old.due(waiter.place) > now;
            let cost = (u128::from(waiter.place.cost) * u128::from(new.token)) >> old.token.trailing_zeros();
            waiter.place.cost = u64::try_from(cost).unwrap_or(u64::MAX);
            waiter.place.full_at = old.convert(waiter.place.full_at, new, now);
            if waits {
                end = waiter.place.full_at.max(end.saturating_add(waiter.place.cost)).min(FULL_AT_MAX);
                waiter.place.full_at = end;
            }
            moved.extend(waiter.wake.take());
        }
        end
    }

    /// How many stand here.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Whether nobody stands here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    fn index(&self, ticket: Ticket) -> Option<usize> {
        self.waiters.binary_search_by_key(&ticket, |waiter| waiter.ticket).ok()
    }
}
