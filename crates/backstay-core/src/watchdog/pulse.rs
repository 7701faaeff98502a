use crate::time::Moment;

/// What a watchdog knows, in one word: the last ping in nanoseconds, and two bits below it.
///
/// The lowest bit says that the watchdog has fired since that ping. The second says that an error is owed for a firing,
/// this one or an earlier one: a ping does not pay it, only raising does. 62 bits of nanoseconds are 146 years.
///
/// ```
/// use backstay_core::time::Moment;
/// use backstay_core::watchdog::Pulse;
///
/// let fired = Pulse::started(Moment::from_nanos(10)).fired(true);
/// assert!(fired.is_triggered() && fired.is_owed());
/// let pinged = fired.pinged(Moment::from_nanos(20));
/// assert!(!pinged.is_triggered() && pinged.is_owed());
/// assert!(!pinged.raised().is_owed());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse(u64);

const TRIGGERED: u64 = 1;
const OWED: u64 = 2;
const FLAGS: u64 = TRIGGERED | OWED;

impl Pulse {
    /// Watching, and pinged at `now`.
    #[must_use]
    pub const fn started(now: Moment) -> Self {
        let nanos = now.as_nanos();
        Self(if nanos > u64::MAX >> 2 { !FLAGS } else { nanos << 2 })
    }

    /// The pulse that [`to_bits`](Self::to_bits) gave.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The pulse as one word.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// When somebody last pinged, or the watching began.
    #[must_use]
    pub const fn last_ping(self) -> Moment {
        Moment::from_nanos(self.0 >> 2)
    }

    /// Whether it has fired since the last ping.
    #[must_use]
    pub const fn is_triggered(self) -> bool {
        self.0 & TRIGGERED != 0
    }

    /// Whether an error is still to be raised.
    #[must_use]
    pub const fn is_owed(self) -> bool {
        self.0 & OWED != 0
    }

    /// After a ping at `now`: watching. A ping whose reading of the clock is older than the last one says nothing new,
    /// and changes nothing.
    #[must_use]
    pub const fn pinged(self, now: Moment) -> Self {
        let new = Self::started(now);
        if new.0 <= self.0 & !FLAGS { self } else { Self(new.0 | self.0 & OWED) }
    }

    /// After firing; `raise`: an error is owed for it.
    #[must_use]
    pub const fn fired(self, raise: bool) -> Self {
        Self(self.0 | if raise { FLAGS } else { TRIGGERED })
    }

    /// After the error that was owed has been raised.
    #[must_use]
    pub const fn raised(self) -> Self {
        Self(self.0 & !OWED)
    }
}
