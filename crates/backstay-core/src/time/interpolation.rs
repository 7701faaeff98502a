//! Readings between exact ones, by a counter that runs at a nearly constant rate.

use super::{Moment, Reading};

/// Follows a clock by a counter of the processor, in place of reading the clock each time.
///
/// An exact reading of the clock, with the counter before and after it, is an *anchor*: for a few milliseconds the time
/// follows from the counter, with an uncertainty that grows with the anchor's age. The rate of the counter is measured
/// from one anchor to another. It is used only while two measurements in a row agree and the last one is recent, so a
/// counter that stops, jumps or changes its rate, or a clock that does (suspend, a virtual machine that moves to
/// another host, another clock source), is noticed at the next anchor.
///
/// The range of a reading holds where the rate changes by at most 500 parts per million from one measurement to the
/// next: what NTP's frequency and `adjtime` change at most ([adjtimex(2)](https://man7.org/linux/man-pages/man2/adjtimex.2.html)).
/// A privileged process may change it by up to 10 % (`tick`; chrony does while it corrects a large error): then readings
/// are outside their range until the next anchor, by 10 % of the anchor's age, which is less than half a millisecond.
///
/// ```
/// use backstay_core::time::{Interpolation, Moment};
///
/// // A counter of 2 GHz, read 50 ns after the clock.
/// let mut follows = Interpolation::NONE;
/// for millisecond in [2, 4, 6] {
///     let (ticks, now) = (millisecond * 2_000_000, Moment::from_nanos(millisecond * 1_000_000));
///     follows.anchor(ticks, now, ticks + 100);
/// }
/// let reading = follows.read(12_400_000).unwrap();
/// assert!((6_199_000..=6_200_000).contains(&reading.earliest.as_nanos()));
/// assert!(reading.staleness() < 1000);
/// assert_eq!(follows.read(30_000_000), None, "too long after the anchor");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interpolation {
    /// The last anchor: the counter after it was read, what the clock showed, and for how long both were read.
    ticks: u64,
    now: Moment,
    spread: u64,
    /// Nanoseconds per tick, times 2^32; 0 before the first measurement.
    rate: u64,
    /// Where the current measurement began.
    since: (u64, Moment),
}

/// How many ticks an anchor is followed: 2 ms to 8 ms.
const FOLLOWED: u64 = 1 << 23;
/// A counter this far away was not read yet, or belongs to an anchor that is not followed: 127 years at 2 GHz.
const UNFOLLOWED: u64 = 1 << 63;
/// An anchor that took longer to read is useless: the thread was interrupted, or a system call was necessary.
const ANCHOR_MAX: u64 = 1 << 9;
/// A measurement of the rate takes at least so many ticks, 0.5 ms to 2 ms: so an anchor's spread is 250 ppm of it.
const MEASURED_MIN: u64 = 1 << 21;
/// One of more ticks, 1 s to 4 s, says nothing about the rate of now.
const MEASURED_MAX: u64 = 1 << 32;
/// The rate is known to one part in 2^10: 250 ppm for the measurement, 500 ppm for its change.
const DRIFT_SHIFT: u32 = 10;
/// A nanosecond per tick.
const RATE_MAX: u64 = 1 << 32;
/// Nanoseconds by which a processor may read its counter before older instructions have ended, with some for rounding.
const REORDERING: u64 = 256;

impl Interpolation {
    /// Follows nothing yet.
    pub const NONE: Self =
        Self { ticks: UNFOLLOWED, now: Moment::ORIGIN, spread: 0, rate: 0, since: (UNFOLLOWED, Moment::ORIGIN) };

    /// The time when the counter shows `ticks`; `None` where an anchor is needed.
    #[inline]
    #[must_use]
    pub fn read(&self, ticks: u64) -> Option<Reading> {
        let ticks = ticks.wrapping_sub(self.ticks);
        if ticks >= FOLLOWED {
            return None;
        }
        // At the lowest rate; 23 bits times 33. Up to the highest it is a little more than twice the drift.
        let elapsed = (ticks * (self.rate - (self.rate >> DRIFT_SHIFT))) >> 32;
        let earliest = Moment::from_nanos(self.now.as_nanos().wrapping_add(elapsed));
        Some(Reading::behind(earliest, self.spread + (elapsed >> (DRIFT_SHIFT - 1))))
    }

    /// Goes on from an exact reading, `now`, which was taken while the counter went from `before` to `after`.
    pub fn anchor(&mut self, before: u64, now: Moment, after: u64) {
        let took = after.wrapping_sub(before);
        self.ticks = UNFOLLOWED;
        if took > ANCHOR_MAX {
            return;
        }
        let (ticks, began) = self.since;
        let (measured, known) = (after.wrapping_sub(ticks), self.rate);
        // Within a measurement, what was found before it still holds.
        let mut follows = self.spread > 0;
        if measured >= MEASURED_MIN {
            self.since = (after, now);
            let nanos = now.as_nanos().saturating_sub(began.as_nanos());
            follows = false;
            if measured <= MEASURED_MAX && nanos <= MEASURED_MAX {
                // A counter of less than 1 GHz is not one that Linux keeps time by.
                self.rate = Some((nanos << 31) / measured * 2).filter(|rate| *rate <= RATE_MAX).unwrap_or(0);
                follows = self.rate > 0 && self.rate.abs_diff(known) <= known >> DRIFT_SHIFT;
            }
        }
        self.spread = if follows { ((took * self.rate) >> 32) + REORDERING } else { 0 };
        if follows {
            (self.ticks, self.now) = (after, now);
        }
    }
}

#[cfg(test)]
mod tests;
