use crate::time::Moment;

/// The state of a watchdog, packed into one word.
///
/// The upper bits are the last ping in nanoseconds, the lower two are flags. The lowest bit, "triggered", says that
/// the watchdog has fired since the last ping. The second bit says that an error is pending for a firing. A ping keeps
/// it; only returning the error clears it. The remaining 62 bits hold 146 years of nanoseconds.
///
/// ```
/// use backstay_core::time::Moment;
/// use backstay_core::watchdog::PingState;
///
/// let fired = PingState::started(Moment::from_nanos(10)).fired(true);
/// assert!(fired.is_triggered() && fired.has_pending_error());
/// let pinged = fired.pinged(Moment::from_nanos(20));
/// assert!(!pinged.is_triggered() && pinged.has_pending_error());
/// assert!(!pinged.error_returned().has_pending_error());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PingState(u64);

const TRIGGERED: u64 = 1;
const ERROR_PENDING: u64 = 2;
const FLAGS: u64 = TRIGGERED | ERROR_PENDING;

impl PingState {
    /// Returns the state after a start or reset at `now`: both flags are clear.
    #[must_use]
    pub const fn started(now: Moment) -> Self {
        let nanos = now.as_nanos();
        Self(if nanos > u64::MAX >> 2 { !FLAGS } else { nanos << 2 })
    }

    /// Restores a state from [`to_bits`](Self::to_bits).
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Returns the state as one word.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// Returns the time of the last ping, start or reset.
    #[must_use]
    pub const fn last_ping(self) -> Moment {
        Moment::from_nanos(self.0 >> 2)
    }

    /// Returns whether the watchdog has fired since the last ping.
    #[must_use]
    pub const fn is_triggered(self) -> bool {
        self.0 & TRIGGERED != 0
    }

    /// Returns whether an error has yet to be returned to the caller.
    #[must_use]
    pub const fn has_pending_error(self) -> bool {
        self.0 & ERROR_PENDING != 0
    }

    /// Returns the state after a ping at `now`: no longer triggered.
    ///
    /// A ping with a clock reading that is not later than the last ping changes nothing.
    #[must_use]
    pub const fn pinged(self, now: Moment) -> Self {
        let new = Self::started(now);
        if new.0 <= self.0 & !FLAGS { self } else { Self(new.0 | self.0 & ERROR_PENDING) }
    }

    /// Returns the state after firing, with a pending error if `raise`.
    #[must_use]
    pub const fn fired(self, raise: bool) -> Self {
        Self(self.0 | if raise { FLAGS } else { TRIGGERED })
    }

    /// Returns the state after the pending error was returned.
    #[must_use]
    pub const fn error_returned(self) -> Self {
        Self(self.0 & !ERROR_PENDING)
    }
}
