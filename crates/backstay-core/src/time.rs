//! Points in monotonic time, and readings of a clock that may be a little stale.

mod interpolation;

use core::ops::Add;
use core::time::Duration;

pub use interpolation::Interpolation;

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

    /// Whether it is without doubt.
    #[inline]
    #[must_use]
    pub const fn is_exact(self) -> bool {
        self.staleness == 0
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
    use proptest::prelude::*;

    use super::*;

    /// Nanoseconds, as the clock's words limit them.
    fn limited(nanos: u128) -> u64 {
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    proptest! {
        #![proptest_config(crate::cases(256))]

        // ALL-1: no arithmetic on nonsense panics; it ends at the ends.
        #[test]
        fn arithmetic_is_exact_and_saturates(
            moment in prop_oneof![0..1_000_u64, any::<u64>()],
            duration in prop_oneof![(0..1_000_u64).prop_map(Duration::from_nanos), any::<Duration>()],
        ) {
            prop_assert_eq!(nanos(duration), limited(duration.as_nanos()));
            let later = Moment::from_nanos(moment) + duration;
            prop_assert_eq!(later.as_nanos(), limited(u128::from(moment) + duration.as_nanos()));
            prop_assert_eq!(later.since(Moment::from_nanos(moment)).as_nanos(), u128::from(later.as_nanos() - moment));
            prop_assert_eq!(Moment::from_nanos(moment).since(later), Duration::ZERO);
        }

        // RL-2, CB-3: a stale reading answers only where every time in its range agrees.
        #[test]
        fn a_stale_reading_answers_only_where_every_time_in_its_range_agrees(
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
    fn an_exact_reading_has_no_doubt() {
        let reading = Reading::exact(Moment::from_nanos(100));
        assert_eq!((reading.staleness(), reading.latest()), (0, Moment::from_nanos(100)));
        assert_eq!(reading.reached(Moment::from_nanos(101)), Some(false));
    }

    // ALL-1: a staleness can be multiplied by four.
    #[test]
    fn staleness_has_an_end() {
        assert_eq!(Reading::stale(Moment::NEVER, Duration::MAX).staleness(), 1_152_921_504_606_846_976);
        assert_eq!(Reading::stale(Moment::NEVER, Duration::MAX).latest(), Moment::NEVER);
    }
}
