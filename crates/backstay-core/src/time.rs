//! Points in monotonic time, and readings of coarse clocks with their staleness.

mod interpolation;

use core::ops::Add;
use core::time::Duration;

pub use interpolation::Interpolation;

/// A point in monotonic time, in nanoseconds since its clock's origin.
///
/// Only moments of the same clock can be compared. Arithmetic saturates at 0 and at 2^64 - 1 ns, which is 584 years.
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
    /// The latest moment; it is never reached.
    pub const NEVER: Self = Self(u64::MAX);

    /// Returns the moment `nanos` nanoseconds after the clock's origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Returns the nanoseconds since the clock's origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns the time since `earlier`, zero if `earlier` is later.
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

/// Returns a duration in nanoseconds, at most `u64::MAX`.
#[inline]
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(duration.subsec_nanos()))
}

/// A reading of a clock: the true time is between `earliest` and `latest`.
///
/// Reading a coarse clock costs a fifth of reading an exact one, but the reading is up to a few ticks behind. A rule
/// with such a reading decides only if the decision is the same for every time in the range. Otherwise it requires an
/// exact reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The earliest possible time.
    pub earliest: Moment,
    /// Nanoseconds by which the true time can be later. Bounded so that products do not overflow.
    staleness: u64,
}

/// Upper bound of the staleness: 36 years.
const STALENESS_MAX: u64 = 1 << 60;

impl Reading {
    /// Returns an exact reading.
    #[must_use]
    pub const fn exact(now: Moment) -> Self {
        Self { earliest: now, staleness: 0 }
    }

    /// Returns a reading that is up to `staleness` behind.
    #[inline]
    #[must_use]
    pub fn stale(read: Moment, staleness: Duration) -> Self {
        Self::behind(read, nanos(staleness))
    }

    /// Returns a reading that is up to `nanos` nanoseconds behind.
    #[inline]
    #[must_use]
    pub fn behind(read: Moment, nanos: u64) -> Self {
        Self { earliest: read, staleness: nanos.min(STALENESS_MAX) }
    }

    /// Returns the latest possible time.
    #[inline]
    #[must_use]
    pub fn latest(self) -> Moment {
        Moment::from_nanos(self.earliest.as_nanos().saturating_add(self.staleness))
    }

    /// Returns the nanoseconds between the earliest and the latest time, at most 2^60.
    #[inline]
    #[must_use]
    pub const fn staleness(self) -> u64 {
        self.staleness
    }

    /// Returns whether the reading is exact.
    #[inline]
    #[must_use]
    pub const fn is_exact(self) -> bool {
        self.staleness == 0
    }

    /// Returns whether `moment` has been reached.
    ///
    /// `None`: the reading is too coarse to decide.
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
    use proptest::prelude::*;

    use super::*;

    /// Nanoseconds, limited to 64 bits.
    fn saturated(nanos: u128) -> u64 {
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    proptest! {
        #![proptest_config(crate::cases(256))]

        // ALL-1: arithmetic does not panic; it saturates.
        #[test]
        fn arithmetic_is_exact_and_saturates(
            moment in prop_oneof![0..1_000_u64, any::<u64>()],
            duration in prop_oneof![(0..1_000_u64).prop_map(Duration::from_nanos), any::<Duration>()],
        ) {
            prop_assert_eq!(nanos(duration), saturated(duration.as_nanos()));
            let later = Moment::from_nanos(moment) + duration;
            prop_assert_eq!(later.as_nanos(), saturated(u128::from(moment) + duration.as_nanos()));
            prop_assert_eq!(later.since(Moment::from_nanos(moment)).as_nanos(), u128::from(later.as_nanos() - moment));
            prop_assert_eq!(Moment::from_nanos(moment).since(later), Duration::ZERO);
        }

        // RL-2, CB-3: a stale reading decides only if every time in its range gives the same answer.
        #[test]
        fn a_stale_reading_decides_only_if_every_time_in_its_range_agrees(
            earliest in 0..40_u64, staleness in 0..20_u64, moment in 0..80_u64,
        ) {
            let reading = Reading::stale(Moment::from_nanos(earliest), Duration::from_nanos(staleness));
            prop_assert_eq!(reading, Reading::behind(Moment::from_nanos(earliest), staleness));
            prop_assert_eq!((reading.staleness(), reading.latest().as_nanos()), (staleness, earliest + staleness));
            let mut answers = (earliest..=earliest + staleness).map(|now| now >= moment);
            let first = answers.next();
            prop_assert_eq!(reading.reached(Moment::from_nanos(moment)), first.filter(|first| answers.all(|it| it == *first)));
        }
    }

    #[test]
    fn an_exact_reading_always_decides() {
        let reading = Reading::exact(Moment::from_nanos(100));
        assert_eq!((reading.staleness(), reading.latest()), (0, Moment::from_nanos(100)));
        assert_eq!(reading.reached(Moment::from_nanos(101)), Some(false));
    }

    // ALL-1: the staleness is bounded, so that it can be multiplied by four.
    #[test]
    fn staleness_is_bounded() {
        assert_eq!(Reading::stale(Moment::NEVER, Duration::MAX).staleness(), 1_152_921_504_606_846_976);
        assert_eq!(Reading::stale(Moment::NEVER, Duration::MAX).latest(), Moment::NEVER);
    }
}
