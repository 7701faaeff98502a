use core::time::Duration;

use crate::time::{Moment, nanos};

/// A slot for a half-open call: free, or held until a moment. One word. The moment also names the holder, because a call
/// that takes over an expired slot holds it until later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalfOpenSlot(Moment);

impl HalfOpenSlot {
    /// The slot is free.
    pub const FREE: Self = Self(Moment::ORIGIN);

    pub(super) const fn until(moment: Moment) -> Self {
        Self(moment)
    }

    pub(super) fn is_free(self, timeout: Duration, since: Moment, now: Moment) -> bool {
        now >= self.0 || self.0.as_nanos().saturating_sub(nanos(timeout)) < since.as_nanos()
    }

    /// When the holder loses the slot.
    #[must_use]
    pub const fn lost_at(self) -> Moment {
        self.0
    }

    /// The slot as a word.
    #[must_use]
    pub const fn pack(self) -> u64 {
        self.0.as_nanos()
    }

    /// The slot that [`pack`](Self::pack) made `word` of.
    #[must_use]
    pub const fn unpack(word: u64) -> Self {
        Self(Moment::from_nanos(word))
    }
}
