//! Points in monotonic time, and readings of a clock that may be a little stale.

use core::ops::Add;
use core::time::Duration;

/// A point in monotonic time: nanoseconds since the clock's own origin.
///
/// Two moments of one clock can be compared; moments of two clocks cannot. Arithmetic saturates: 2^64 ns are 584
/// years, so only nonsense gets there, and nonsense must not panic.
///
/// ```
/// use backstay_core::time::Moment;
/// use std::time::Duration;
///
/// let start = Moment::from_nanos(5);
/// assert_eq!((start + Duration::from_nanos(3)).since(start), Duration::from_nanos(3));
/// assert_eq!(start.since(start + Duration::from_secs(1)), Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The clock's origin.
    pub const ORIGIN: Self = Self(0);
    /// Later than everything that happens.
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment `nanos` nanoseconds after the clock's origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero where it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    #[inline]
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

/// A duration in whole nanoseconds, `u64::MAX` for one that is longer.
#[inline]
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(duration.subsec_nanos()))
}

/// A reading of a clock: the true time lies between `earliest` and `latest`.
///
/// A coarse clock costs a fifth of an exact one, and is behind it by up to a few ticks. A rule that is given such a
/// reading answers when every time in the range has the same answer, and otherwise says that it must know exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// It is at least this late.
    pub earliest: Moment,
    /// Nanoseconds after that, up to which it may be later; few enough to be multiplied.
    staleness: u64,
}

/// More than a clock can be behind: 36 years.
const STALENESS_MAX: u64 = 1 << 60;

impl Reading {
    /// A reading without doubt.
    #[must_use]
    pub const fn exact(now: Moment) -> Self {
        Self { earliest: now, staleness: 0 }
    }

    /// A reading that may be up to `staleness` behind.
    #[inline]
    #[must_use]
    pub fn stale(read: Moment, staleness: Duration) -> Self {
        Self::behind(read, nanos(staleness))
    }

    /// A reading that may be up to `nanos` nanoseconds behind.
    #[inline]
    #[must_use]
    pub fn behind(read: Moment, nanos: u64) -> Self {
        Self { earliest: read, staleness: nanos.min(STALENESS_MAX) }
    }

    /// It is at most this late.
    #[inline]
    #[must_use]
    pub fn latest(self) -> Moment {
        Moment::from_nanos(self.earliest.as_nanos().saturating_add(self.staleness))
    }

    /// How many nanoseconds lie between the earliest time and the latest: 2^60 at most.
    #[inline]
    #[must_use]
    pub const fn staleness(self) -> u64 {
        self.staleness
    }

    /// Whether `moment` has come: `None` where the reading cannot tell.
    #[must_use]
    pub fn reached(self, moment: Moment) -> Option<bool> {
        match (self.earliest >= moment, self.latest() >= moment) {
            (true, _) => Some(true),
            (false, false) => Some(false),
            (false, true) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_reading_answers_only_where_every_time_in_its_range_agrees() {
        let reading = Reading::stale(Moment::from_nanos(100), Duration::from_nanos(8));
        assert_eq!(reading.reached(Moment::from_nanos(100)), Some(true));
        assert_eq!(reading.reached(Moment::from_nanos(101)), None);
        assert_eq!(reading.reached(Moment::from_nanos(108)), None);
        assert_eq!(reading.reached(Moment::from_nanos(109)), Some(false));
        assert_eq!(Reading::exact(Moment::from_nanos(100)).reached(Moment::from_nanos(101)), Some(false));
    }

    // ALL-1: no arithmetic on nonsense panics.
    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Moment::from_nanos(7) + Duration::MAX, Moment::NEVER);
        assert_eq!(Moment::ORIGIN.since(Moment::NEVER), Duration::ZERO);
        assert_eq!(nanos(Duration::MAX), u64::MAX);
    }
}
