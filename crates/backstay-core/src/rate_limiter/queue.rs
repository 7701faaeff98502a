//! The waiters of one bucket, in the order in which they came.
//!
//! A waiter's reservation ends where the bucket is full again after it. These ends are prefix sums: the distances
//! between neighbours are kept in a Fenwick tree, so a waiter that leaves moves up all later ones by changing one
//! element. They are counted in fractions of a token that no scale is finer than, so a change of the rate moves the
//! origin and nothing else.

use alloc::vec::Vec;

use super::bucket::{FULL_AT_MAX, Place, Scale};
use super::sums::Sums;
use crate::time::Moment;

/// Names a waiter in its queue; later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// How a listening waiter learns that it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// It wakes by itself when it was due as it began to listen.
    Own,
    /// Only by being woken.
    Shared,
}

/// The waiters of one bucket, first come, first served; `W` is how each can be woken.
///
/// Joining, leaving, being served, a refill and a change of the scale take O(log n) time, on average over many calls.
/// Waking is the caller's part: [`alarm_at`](Self::alarm_at) says when [`take_due`](Self::take_due) has to be called
/// next, so that no waiter sleeps beyond its moment. A waiter that was taken does not listen any more until it
/// [`listen`](Self::listen)s again.
///
/// ```
/// use backstay_core::rate_limiter::{Alarm, Queue, Quota};
/// use backstay_core::time::Moment;
/// use std::time::Duration;
///
/// let second = Duration::from_secs(1);
/// let scale = Quota::new(1.0, second, None)?.scale();
/// let (now, mut queue) = (Moment::ORIGIN, Queue::default());
/// let first = scale.reserve(scale.holding(0.0, now), scale.cost(1), now);
/// let ahead = queue.join(&scale, first);
/// let behind = queue.join(&scale, scale.reserve(first.full_at, scale.cost(1), now));
/// queue.listen(behind, "behind", Alarm::Shared);
/// assert_eq!(queue.alarm_at(&scale), Some(now + second * 2));
/// queue.leave(&scale, ahead, scale.cost(1));
/// assert_eq!(queue.alarm_at(&scale), Some(now + second));
/// # Ok::<(), backstay_core::InvalidArgument>(())
/// ```
#[derive(Debug)]
pub struct Queue<W> {
    /// By ticket. Those that have left stay until there are more of them than of the others.
    waiters: Vec<Waiter<W>>,
    /// The end of each reservation, less the one before; those that have left keep what did not go back.
    ends: Sums<i128>,
    /// 1 for each that listens.
    listening: Sums<u32>,
    /// What the first end is counted from.
    origin: i128,
    /// Where the last reservation ends, be its waiter still here or not.
    end: i128,
    /// How many there are.
    len: usize,
    /// How many listen and have an alarm of their own, and how many have none.
    own: usize,
    shared: usize,
    /// An alarm of a waiter's own may be later than it is due.
    moved: bool,
    next: u64,
}

#[derive(Debug)]
struct Waiter<W> {
    ticket: Ticket,
    tokens: u32,
    here: bool,
    alarm: Alarm,
    wake: Option<W>,
}

/// No scale divides a token more finely than into 2^60 units.
const FRACTION_BITS: u32 = 60;

/// So many that have left are not worth being removed.
const FEW: usize = 32;

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Self {
            waiters: Vec::new(),
            ends: Sums::default(),
            listening: Sums::default(),
            origin: 0,
            end: 0,
            len: 0,
            own: 0,
            shared: 0,
            moved: false,
            next: 0,
        }
    }
}

impl<W> Queue<W> {
    /// Adds a waiter that has reserved `place`.
    pub fn join(&mut self, scale: &Scale, place: Place) -> Ticket {
        let tokens = scale.whole_tokens(place.cost);
        if self.is_empty() {
            self.end = fine(scale, place.full_at);
            self.origin = self.end;
        } else {
            // Without a gap the distance is the cost: not the difference of two ends, which may have been rounded, or
            // have met the last moment that a bucket can count.
            let adjoins = place.full_at.saturating_sub(place.cost) <= units(scale, self.end);
            self.end = if adjoins { self.end + cost(tokens) } else { fine(scale, place.full_at) };
        }
        let before = self.origin + self.ends.first(self.waiters.len());
        let ticket = Ticket(self.next);
        self.next = self.next.wrapping_add(1);
        self.waiters.push(Waiter { ticket, tokens, here: true, alarm: Alarm::Own, wake: None });
        self.ends.push(self.end - before);
        self.listening.push(0);
        self.len += 1;
        ticket
    }

    /// What the waiter has reserved; its end moves when others leave.
    #[must_use]
    pub fn place(&self, scale: &Scale, ticket: Ticket) -> Option<Place> {
        let index = self.index(ticket)?;
        let full_at = units(scale, self.end_at(index));
        Some(Place { full_at, cost: scale.cost(self.waiters[index].tokens) })
    }

    /// Asks that `wake` be given out when the waiter is due. Returns what it listened with before.
    pub fn listen(&mut self, ticket: Ticket, wake: W, alarm: Alarm) -> Option<W> {
        let index = self.index(ticket)?;
        let before = self.deafen(index);
        let waiter = &mut self.waiters[index];
        (waiter.wake, waiter.alarm) = (Some(wake), alarm);
        self.listening.add(index, 1);
        *self.count(alarm) += 1;
        before
    }

    /// The waiter leaves with its tokens. Returns what it listened with.
    pub fn served(&mut self, ticket: Ticket) -> Option<W> {
        let index = self.index(ticket)?;
        self.remove(index)
    }

    /// The waiter leaves, `refund` having gone back into the bucket: those behind it move up. Returns what it listened
    /// with.
    pub fn leave(&mut self, scale: &Scale, ticket: Ticket, refund: u64) -> Option<W> {
        let index = self.index(ticket)?;
        if refund > 0 {
            self.ends.add(index, -fine(scale, refund));
            self.end -= fine(scale, refund);
            self.note_move();
        }
        self.remove(index)
    }

    /// The bucket is filled at `now`: those not yet due take from it in turn. Returns the bucket's new `full_at`.
    pub fn refill(&mut self, scale: &Scale, now: Moment) -> u64 {
        let full = scale.units(now);
        let due = self.count_due(scale, now);
        // Those that are due have their tokens. What they do not use has spilled over, now that the bucket is full.
        let spilled = fine(scale, scale.capacity);
        self.origin -= spilled;
        self.ends.add(due, spilled);
        self.end -= if due == self.waiters.len() { spilled } else { 0 };
        let Some(first) = (due..self.waiters.len()).find(|index| self.waiters[*index].here) else { return full };
        // One after the other they wait for nothing but the tokens of those before: all move by the same distance.
        let distance = fine(scale, full) + cost(self.waiters[first].tokens) - self.end_at(first);
        self.ends.add(due, distance);
        self.end += distance;
        self.note_move();
        units(scale, self.end)
    }

    /// The scale changes at `now`, and `full_at` is the bucket's so far. Returns the new one.
    ///
    /// A slow scale has no moments for a long queue: its end then stands at the last moment that there is. The queue
    /// keeps its distances, so that it stretches again when the scale becomes fast.
    pub fn convert(&mut self, old: &Scale, new: &Scale, now: Moment, full_at: u64) -> u64 {
        if self.waiters.is_empty() {
            return old.convert(full_at, new, now);
        }
        let was_last = full_at == units(old, self.end);
        let moved = horizon(new, now) - horizon(old, now);
        self.origin += moved;
        self.end += moved;
        self.note_move();
        // What was taken since stands behind the queue, and stays there: both are rounded up.
        if was_last { units(new, self.end) } else { old.convert(full_at, new, now) }
    }

    /// When [`take_due`](Self::take_due) has to be called; `None` where all who listen wake by themselves in time.
    #[must_use]
    pub fn alarm_at(&self, scale: &Scale) -> Option<Moment> {
        if self.shared == 0 && !self.moved {
            return None;
        }
        self.listener(0).map(|first| due(scale, self.end_at(first)))
    }

    /// Takes out the wakers of those who are due and listen, the first `most` of them.
    pub fn take_due(&mut self, scale: &Scale, now: Moment, most: usize, taken: &mut Vec<W>) {
        if self.shared == 0 && !self.moved {
            return;
        }
        while let Some(index) = self.listener(0).filter(|_| taken.len() < most) {
            if due(scale, self.end_at(index)) > now {
                return;
            }
            taken.extend(self.deafen(index));
        }
    }

    /// Takes out the wakers of those who listen and came after `ticket` (or at all), the first `most` of them. Returns
    /// the last one whose waker was taken.
    pub fn take_behind(&mut self, ticket: Option<Ticket>, most: usize, taken: &mut Vec<W>) -> Option<Ticket> {
        let from = ticket.map_or(0, |ticket| self.waiters.partition_point(|waiter| waiter.ticket <= ticket));
        let mut last = None;
        while let Some(index) = self.listener(from).filter(|_| taken.len() < most) {
            taken.extend(self.deafen(index));
            last = Some(self.waiters[index].ticket);
        }
        last
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no waiter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn index(&self, ticket: Ticket) -> Option<usize> {
        // Without those that were compacted away, tickets are consecutive.
        let guess = ticket.0.wrapping_sub(self.waiters.first()?.ticket.0);
        let guess = usize::try_from(guess)
            .ok()
            .filter(|guess| self.waiters.get(*guess).is_some_and(|waiter| waiter.ticket == ticket));
        let index = guess.or_else(|| self.waiters.binary_search_by_key(&ticket, |waiter| waiter.ticket).ok())?;
        self.waiters[index].here.then_some(index)
    }

    /// Where the reservation at `index` ends.
    fn end_at(&self, index: usize) -> i128 {
        self.origin + self.ends.first(index + 1)
    }

    /// How many at the front are due, those that have left among them included.
    fn count_due(&self, scale: &Scale, now: Moment) -> usize {
        let horizon = horizon(scale, now);
        self.ends.count_while(|sum| self.origin + sum <= horizon)
    }

    /// The first that listens, at `from` or later.
    fn listener(&self, from: usize) -> Option<usize> {
        let before = self.listening.first(from);
        let index = self.listening.count_while(|sum| sum <= before);
        (index < self.waiters.len()).then_some(index)
    }

    fn deafen(&mut self, index: usize) -> Option<W> {
        let waiter = &mut self.waiters[index];
        let wake = waiter.wake.take()?;
        let alarm = waiter.alarm;
        *self.count(alarm) -= 1;
        self.moved &= self.own > 0;
        self.listening.add(index, u32::MAX);
        Some(wake)
    }

    fn note_move(&mut self) {
        self.moved |= self.own > 0;
    }

    fn count(&mut self, alarm: Alarm) -> &mut usize {
        match alarm {
            Alarm::Own => &mut self.own,
            Alarm::Shared => &mut self.shared,
        }
    }

    fn remove(&mut self, index: usize) -> Option<W> {
        let wake = self.deafen(index);
        self.waiters[index].here = false;
        self.len -= 1;
        if self.len == 0 {
            self.clear();
        } else if self.waiters.len() >= 2 * self.len + FEW {
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

    /// Forgets those that have left. They are at least as many as the others, so that each call pays for a bounded
    /// part of it.
    fn compact(&mut self) {
        let ends = core::mem::take(&mut self.ends);
        self.listening.clear();
        let (mut count, mut before) = (0, 0);
        self.waiters.retain(|waiter| {
            count += 1;
            if waiter.here {
                let end = ends.first(count);
                self.ends.push(end - before);
                self.listening.push(u32::from(waiter.wake.is_some()));
                before = end;
            }
            waiter.here
        });
        self.shrink();
    }

    /// Gives back memory after a crowd.
    fn shrink(&mut self) {
        let capacity = 2 * self.len + FEW;
        if self.waiters.capacity() > 2 * capacity {
            self.waiters.shrink_to(capacity);
            self.ends.shrink_to(capacity);
            self.listening.shrink_to(capacity);
        }
    }
}

/// Units of `scale` in the fractions that a queue counts in.
fn fine(scale: &Scale, units: u64) -> i128 {
    i128::from(units) << shift(scale)
}

fn shift(scale: &Scale) -> u32 {
    FRACTION_BITS.saturating_sub(scale.token.trailing_zeros())
}

fn cost(tokens: u32) -> i128 {
    i128::from(tokens) << FRACTION_BITS
}

/// Whole units of `scale`, rounded up: no waiter is due before its token is there.
fn units(scale: &Scale, end: i128) -> u64 {
    let units = -(-end >> shift(scale));
    u64::try_from(units.max(0)).unwrap_or(FULL_AT_MAX).min(FULL_AT_MAX)
}

/// Reservations that end up to here are due at `now`.
fn horizon(scale: &Scale, now: Moment) -> i128 {
    fine(scale, scale.units(now)) + fine(scale, scale.capacity)
}

fn due(scale: &Scale, end: i128) -> Moment {
    scale.due(Place { full_at: units(scale, end), cost: 0 })
}

#[cfg(test)]
mod tests;
