use core::time::Duration;

use crate::time::{Moment, nanos};

/// The division of a time window into buckets, which the clock advances and which are dropped as a whole.
///
/// Buckets are numbered by time: number n covers the moments from n widths on. The window of a moment is its own bucket,
/// as far as it has come, and those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buckets {
    /// Nanoseconds, at least 1.
    width: u64,
}

impl Buckets {
    /// Buckets in a window. So it covers between nine tenths of its length and the whole.
    pub const COUNT: u64 = 10;

    /// The buckets of a window of this length.
    #[must_use]
    pub fn of(window: Duration) -> Self {
        Self { width: (nanos(window) / Self::COUNT).max(1) }
    }

    /// The number of the bucket to which a moment belongs.
    #[must_use]
    pub const fn number(self, moment: Moment) -> u64 {
        moment.as_nanos() / self.width
    }

    /// The number of the first bucket in the window whose last bucket is `last`.
    #[must_use]
    pub const fn first(self, last: u64) -> u64 {
        last.saturating_sub(Self::COUNT - 1)
    }

    /// When the bucket with this number ends.
    #[must_use]
    pub const fn end(self, number: u64) -> Moment {
        Moment::from_nanos(number.saturating_add(1).saturating_mul(self.width))
    }
}
