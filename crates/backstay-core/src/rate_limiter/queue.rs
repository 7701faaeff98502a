//! The FIFO queue of a bucket's waiters.
//!
//! A waiter's reservation *ends* at the time at which the bucket is full again after it. The ends are prefix sums: a
//! Fenwick tree holds the distances between neighbours. A waiter that leaves moves up all later ones by changing one
//! element. The distances are counted in fractions of a token that are at least as fine as any scale's units, so a
//! change of the rate moves only the origin.

use alloc::vec::Vec;

use super::bucket::{FULL_AT_MAX, Reserved, Scale};
use super::fenwick::FenwickTree;
use crate::time::Moment;

/// Identifies a waiter in its queue; later waiters have greater ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WaiterId(u64);

/// What wakes a listening waiter when it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeSource {
    /// A timer of its own, set for the time at which it was due when it began to listen.
    Own,
    /// Only the queue's owner, through [`WaiterQueue::take_due`].
    Shared,
}

/// The waiters of one bucket, first come, first served; `W` wakes a waiter.
///
/// Joining, leaving, serving, refilling and changing the scale take O(log n) time, amortized. The caller wakes the
/// waiters: [`next_wake`](Self::next_wake) returns when it must next call [`take_due`](Self::take_due). Once its waker
/// was taken, a waiter no longer listens until it [`listen`](Self::listen)s again.
///
/// ```
/// use backstay_core::rate_limiter::{Quota, WaiterQueue, WakeSource};
/// use backstay_core::time::Moment;
/// use std::time::Duration;
///
/// let second = Duration::from_secs(1);
/// let scale = Quota::new(1.0, second, None)?.scale();
/// let (now, mut queue) = (Moment::ORIGIN, WaiterQueue::default());
/// let first = scale.reserve(scale.holding(0.0, now), scale.cost(1), now);
/// let ahead = queue.join(&scale, first);
/// let behind = queue.join(&scale, scale.reserve(first.full_at, scale.cost(1), now));
/// queue.listen(behind, "behind", WakeSource::Shared);
/// assert_eq!(queue.next_wake(&scale), Some(now + second * 2));
/// queue.leave(&scale, ahead, scale.cost(1));
/// assert_eq!(queue.next_wake(&scale), Some(now + second));
/// # Ok::<(), backstay_core::InvalidArgument>(())
/// ```
#[derive(Debug)]
pub struct WaiterQueue<W> {
    /// In the order of their ids. Waiters that have left stay until they outnumber the others.
    waiters: Vec<QueueEntry<W>>,
    /// The end of each reservation minus the previous one. A waiter that has left keeps what was not refunded.
    ends: FenwickTree<i128>,
    /// 1 for each listening waiter, otherwise 0.
    listening: FenwickTree<u32>,
    /// The origin from which the first end is counted.
    origin: i128,
    /// The end of the last reservation, even if its waiter has left.
    end: i128,
    /// The number of waiters.
    len: usize,
    /// The listening waiters by [`WakeSource`].
    own_listeners: usize,
    shared_listeners: usize,
    /// Whether a waiter's own timer may fire too late, because its reservation has moved.
    own_late: bool,
    next: u64,
}

#[derive(Debug)]
struct QueueEntry<W> {
    id: WaiterId,
    tokens: u32,
    is_waiting: bool,
    source: WakeSource,
    wake: Option<W>,
}

/// The finest scale divides a token into 2^60 units.
const FRACTION_BITS: u32 = 60;

/// Up to this many waiters that have left, compaction is not worth its time.
const COMPACT_MIN: usize = 32;

impl<W> Default for WaiterQueue<W> {
    fn default() -> Self {
        Self {
            waiters: Vec::new(),
            ends: FenwickTree::default(),
            listening: FenwickTree::default(),
            origin: 0,
            end: 0,
            len: 0,
            own_listeners: 0,
            shared_listeners: 0,
            own_late: false,
            next: 0,
        }
    }
}

impl<W> WaiterQueue<W> {
    /// Adds a waiter with its reservation, and returns its id.
    pub fn join(&mut self, scale: &Scale, reserved: Reserved) -> WaiterId {
        let tokens = scale.whole_tokens(reserved.cost);
        if self.is_empty() {
            self.end = fractions(scale, reserved.full_at);
            self.origin = self.end;
        } else {
            // If the reservation follows the last one without a gap, the distance is its cost. The difference of the two ends may have been rounded, or limited
            // to the last moment that a bucket can count.
            let adjoins = reserved.full_at.saturating_sub(reserved.cost) <= units(scale, self.end);
            self.end = if adjoins { self.end + cost(tokens) } else { fractions(scale, reserved.full_at) };
        }
        let before = self.origin + self.ends.prefix_sum(self.waiters.len());
        let id = WaiterId(self.next);
        self.next = self.next.wrapping_add(1);
        self.waiters.push(QueueEntry { id, tokens, is_waiting: true, source: WakeSource::Own, wake: None });
        self.ends.push(self.end - before);
        self.listening.push(0);
        self.len += 1;
        id
    }

    /// Returns a waiter's reservation; its end moves when waiters before it leave.
    #[must_use]
    pub fn reserved(&self, scale: &Scale, id: WaiterId) -> Option<Reserved> {
        let index = self.index(id)?;
        let full_at = units(scale, self.end_at(index));
        Some(Reserved { full_at, cost: scale.cost(self.waiters[index].tokens) })
    }

    /// Registers `wake`, to be taken when the waiter is due.
    ///
    /// Returns the waker that it replaces.
    pub fn listen(&mut self, id: WaiterId, wake: W, source: WakeSource) -> Option<W> {
        let index = self.index(id)?;
        let before = self.stop_listening(index);
        let waiter = &mut self.waiters[index];
        (waiter.wake, waiter.source) = (Some(wake), source);
        self.listening.add(index, 1);
        *self.listeners_of(source) += 1;
        before
    }

    /// Removes a waiter that takes its tokens. Returns its waker.
    pub fn serve(&mut self, id: WaiterId) -> Option<W> {
        let index = self.index(id)?;
        self.remove(index)
    }

    /// Removes a waiter without its tokens; later waiters move up.
    ///
    /// `refund` is the number of units that went back into the bucket. Returns the waiter's waker.
    pub fn leave(&mut self, scale: &Scale, id: WaiterId, refund: u64) -> Option<W> {
        let index = self.index(id)?;
        if refund > 0 {
            self.ends.add(index, -fractions(scale, refund));
            self.end -= fractions(scale, refund);
            self.note_moved();
        }
        self.remove(index)
    }

    /// Fills the bucket at `now`; waiters that are not due take from it in order.
    ///
    /// Returns the bucket's new `full_at`.
    pub fn refill(&mut self, scale: &Scale, now: Moment) -> u64 {
        let full = scale.units(now);
        let due = self.count_due(scale, now);
        // Due waiters have their tokens. What they don't use overflows, now that the bucket is full.
        let spilled = fractions(scale, scale.capacity);
        self.origin -= spilled;
        self.ends.add(due, spilled);
        self.end -= if due == self.waiters.len() { spilled } else { 0 };
        let Some(first) = (due..self.waiters.len()).find(|index| self.waiters[*index].is_waiting) else { return full };
        // These waiters wait only for the tokens of those before them, so all move by the same distance.
        let distance = fractions(scale, full) + cost(self.waiters[first].tokens) - self.end_at(first);
        self.ends.add(due, distance);
        self.end += distance;
        self.note_moved();
        units(scale, self.end)
    }

    /// Changes the scale at `now`, and converts the bucket's `full_at`.
    ///
    /// A slow scale may not be able to express the end of a long queue: its end is then the last moment. The queue
    /// keeps its distances, so it is right again when the scale becomes fast.
    pub fn convert(&mut self, old: &Scale, new: &Scale, now: Moment, full_at: u64) -> u64 {
        if self.waiters.is_empty() {
            return old.convert(full_at, new, now);
        }
        let was_last = full_at == units(old, self.end);
        let moved = horizon(new, now) - horizon(old, now);
        self.origin += moved;
        self.end += moved;
        self.note_moved();
        // What was taken since is behind the queue and stays there: both are rounded up.
        if was_last { units(new, self.end) } else { old.convert(full_at, new, now) }
    }

    /// Returns when [`take_due`](Self::take_due) must be called.
    ///
    /// `None` if each listening waiter wakes itself in time.
    #[must_use]
    pub fn next_wake(&self, scale: &Scale) -> Option<Moment> {
        if self.shared_listeners == 0 && !self.own_late {
            return None;
        }
        self.first_listening(0).map(|first| due(scale, self.end_at(first)))
    }

    /// Takes the wakers of the first `most` listening waiters that are due.
    pub fn take_due(&mut self, scale: &Scale, now: Moment, most: usize, taken: &mut Vec<W>) {
        if self.shared_listeners == 0 && !self.own_late {
            return;
        }
        while let Some(index) = self.first_listening(0).filter(|_| taken.len() < most) {
            if due(scale, self.end_at(index)) > now {
                return;
            }
            taken.extend(self.stop_listening(index));
        }
    }

    /// Takes the wakers of the first `most` listening waiters after `id`.
    ///
    /// Without `id`, of the first ones in the queue. Returns the last of these waiters.
    pub fn take_after(&mut self, id: Option<WaiterId>, most: usize, taken: &mut Vec<W>) -> Option<WaiterId> {
        let from = id.map_or(0, |id| self.waiters.partition_point(|waiter| waiter.id <= id));
        let mut last = None;
        while let Some(index) = self.first_listening(from).filter(|_| taken.len() < most) {
            taken.extend(self.stop_listening(index));
            last = Some(self.waiters[index].id);
        }
        last
    }

    /// Returns the number of waiters.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no waiters.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn index(&self, id: WaiterId) -> Option<usize> {
        // Ids are consecutive, unless waiters were compacted away.
        let guess = id.0.wrapping_sub(self.waiters.first()?.id.0);
        let guess =
            usize::try_from(guess).ok().filter(|guess| self.waiters.get(*guess).is_some_and(|waiter| waiter.id == id));
        let index = guess.or_else(|| self.waiters.binary_search_by_key(&id, |waiter| waiter.id).ok())?;
        self.waiters[index].is_waiting.then_some(index)
    }

    /// Returns where the reservation at `index` ends.
    fn end_at(&self, index: usize) -> i128 {
        self.origin + self.ends.prefix_sum(index + 1)
    }

    /// Counts the due waiters at the front, including those that have left.
    fn count_due(&self, scale: &Scale, now: Moment) -> usize {
        let horizon = horizon(scale, now);
        self.ends.count_while(|sum| self.origin + sum <= horizon)
    }

    /// Returns the first listening waiter at or after `from`.
    fn first_listening(&self, from: usize) -> Option<usize> {
        let before = self.listening.prefix_sum(from);
        let index = self.listening.count_while(|sum| sum <= before);
        (index < self.waiters.len()).then_some(index)
    }

    fn stop_listening(&mut self, index: usize) -> Option<W> {
        let waiter = &mut self.waiters[index];
        let wake = waiter.wake.take()?;
        let source = waiter.source;
        *self.listeners_of(source) -= 1;
        self.own_late &= self.own_listeners > 0;
        self.listening.add(index, u32::MAX);
        Some(wake)
    }

    fn note_moved(&mut self) {
        self.own_late |= self.own_listeners > 0;
    }

    fn listeners_of(&mut self, source: WakeSource) -> &mut usize {
        match source {
            WakeSource::Own => &mut self.own_listeners,
            WakeSource::Shared => &mut self.shared_listeners,
        }
    }

    fn remove(&mut self, index: usize) -> Option<W> {
        let wake = self.stop_listening(index);
        self.waiters[index].is_waiting = false;
        self.len -= 1;
        if self.len == 0 {
            self.clear();
        } else if self.waiters.len() >= 2 * self.len + COMPACT_MIN {
            self.compact();
        }
        wake
    }

    fn clear(&mut self) {
        self.waiters.clear();
        self.ends.clear();
        self.listening.clear();
        self.shrink();
    }

    /// Removes the entries of waiters that have left. These are at least half of all, so the cost per call is bounded.
    fn compact(&mut self) {
        let ends = core::mem::take(&mut self.ends);
        self.listening.clear();
        let (mut count, mut before) = (0, 0);
        self.waiters.retain(|waiter| {
            count += 1;
            if waiter.is_waiting {
                let end = ends.prefix_sum(count);
                self.ends.push(end - before);
                self.listening.push(u32::from(waiter.wake.is_some()));
                before = end;
            }
            waiter.is_waiting
        });
        self.shrink();
    }

    /// Frees memory after a burst of waiters.
    fn shrink(&mut self) {
        let capacity = 2 * self.len + COMPACT_MIN;
        if self.waiters.capacity() > 2 * capacity {
            self.waiters.shrink_to(capacity);
            self.ends.shrink_to(capacity);
            self.listening.shrink_to(capacity);
        }
    }
}

/// Converts units of `scale` to the fractions of the queue.
fn fractions(scale: &Scale, units: u64) -> i128 {
    i128::from(units) << shift(scale)
}

fn shift(scale: &Scale) -> u32 {
    FRACTION_BITS.saturating_sub(scale.token.trailing_zeros())
}

fn cost(tokens: u32) -> i128 {
    i128::from(tokens) << FRACTION_BITS
}

/// Converts to whole units of `scale`, rounded up, so that no waiter is due before its token is there.
fn units(scale: &Scale, end: i128) -> u64 {
    let units = -(-end >> shift(scale));
    u64::try_from(units.max(0)).unwrap_or(FULL_AT_MAX).min(FULL_AT_MAX)
}

/// Returns the latest end of a reservation that is due at `now`.
fn horizon(scale: &Scale, now: Moment) -> i128 {
    fractions(scale, scale.units(now)) + fractions(scale, scale.capacity)
}

fn due(scale: &Scale, end: i128) -> Moment {
    scale.due(Reserved { full_at: units(scale, end), cost: 0 })
}

#[cfg(test)]
mod tests;
