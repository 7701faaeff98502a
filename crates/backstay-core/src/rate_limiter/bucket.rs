//! The arithmetic of a token bucket: taking, reserving and refunding tokens.

use core::time::Duration;

use crate::time::{Moment, Reading};

/// A nanosecond is `multiplier / 2^TIME_SHIFT` units: between 2 and 4 units, or fewer for slow, large buckets.
pub(super) const TIME_SHIFT: u32 = 62;

/// The maximum number of bits of a capacity.
pub(super) const CAPACITY_BITS: u32 = 60;

/// The clock's 36th year, after which a bucket gets no more tokens. Times have at most 62 bits.
const LAST: Moment = Moment::from_nanos((1 << 60) - 1);

/// The maximum of `full_at`.
///
/// It has 63 bits, which leaves one bit of a word free and one value that is not a time.
pub const FULL_AT_MAX: u64 = (1 << 63) - 2;

/// The maximum uncertainty, in nanoseconds, of a reading that takes from a full bucket: 4 µs.
const FULL_WITHIN: u64 = 4_000;

/// The integer parameters of a bucket: what a nanosecond and a token count for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Units per nanosecond, times 2^62.
    pub multiplier: u64,
    /// Units per token; a power of two.
    pub token: u64,
    /// Units in a full bucket.
    pub capacity: u64,
}

/// The result of an attempt to take tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// The tokens are taken; the bucket will be full again at this time.
    Granted(u64),
    /// There are too few tokens; nothing changes.
    Rejected,
    /// The reading is too stale to decide: try again with an exact one.
    Undecided,
}

impl Scale {
    /// Puts together the parts that [`Quota::scale`](super::Quota::scale) computed.
    #[inline]
    #[must_use]
    pub const fn new(multiplier: u64, token: u64, capacity: u64) -> Self {
        Self { multiplier, token, capacity }
    }

    /// Returns the units that have passed at `now`, rounded down.
    #[inline]
    #[must_use]
    pub fn units(&self, now: Moment) -> u64 {
        // 62 bits times 64 bits leave at most 62. This is on the path of every take, so the shift is done beforehand.
        let nanos = if now > LAST { after_last() } else { now.as_nanos() };
        let quarters = nanos << (64 - TIME_SHIFT);
        #[allow(clippy::cast_possible_truncation)]
        let units = ((u128::from(quarters) * u128::from(self.multiplier)) >> 64) as u64;
        units
    }

    /// Returns the first moment at which `units` have passed.
    #[must_use]
    pub fn moment(&self, units: u64) -> Moment {
        let nanos = u64::try_from(self.nanos(units));
        nanos.map(Moment::from_nanos).ok().filter(|moment| *moment <= LAST).unwrap_or(Moment::NEVER)
    }

    /// Returns the nanoseconds in which `units` pass, rounded up. At most 66 bits, where a token takes centuries.
    fn nanos(&self, units: u64) -> u128 {
        // One division: `div_ceil` makes two, and each takes as long as reading a clock.
        let (units, multiplier) = (u128::from(units) << TIME_SHIFT, u128::from(self.multiplier.max(1)));
        let nanos = units / multiplier;
        nanos + u128::from(nanos * multiplier != units)
    }

    /// Returns the units of `tokens`; more than the capacity if they don't fit.
    #[inline]
    #[must_use]
    pub fn cost(&self, tokens: u32) -> u64 {
        u64::from(tokens).saturating_mul(self.token)
    }

    /// Returns the number of whole tokens in `units`.
    #[inline]
    #[must_use]
    pub fn whole_tokens(&self, units: u64) -> u32 {
        u32::try_from(units >> self.token.trailing_zeros()).unwrap_or(u32::MAX)
    }

    /// Returns the number of tokens in `units`.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn tokens(&self, units: u64) -> f64 {
        units as f64 / self.token as f64
    }

    /// Returns the `full_at` of a bucket that holds `tokens` at `now`.
    #[must_use]
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn holding(&self, tokens: f64, now: Moment) -> u64 {
        // `as` saturates, and multiplying by a power of two is exact.
        let held = (tokens * self.token as f64) as u64;
        self.units(now).saturating_add(self.capacity.saturating_sub(held))
    }

    /// Returns the units in the bucket at `now`.
    #[must_use]
    pub fn level(&self, full_at: u64, now: Moment) -> u64 {
        self.capacity.saturating_sub(full_at.saturating_sub(self.units(now)))
    }

    /// Takes all of `cost` at once, or nothing.
    ///
    /// A stale reading grants only if the bucket is certainly not full. From a full bucket it would also count the
    /// tokens that overflowed between the reading and now. Up to 4 µs of these are accepted: they never add up,
    /// because a take moves `full_at` by the same amount, whatever it was.
    #[inline]
    #[must_use]
    pub fn take(&self, full_at: u64, cost: u64, time: Reading) -> Take {
        let Some(most) = self.capacity.checked_sub(cost) else { return Take::Rejected };
        let now = self.units(time.earliest);
        // A nanosecond is less than 4 units; the bound saves a second multiplication.
        let staleness = time.staleness() * 4;
        // The stored value depends on the time by branches alone, so the processor need not wait for the time.
        if let Some(lacking) = full_at.checked_sub(now)
            && lacking <= most
            && lacking >= staleness.max(1)
        {
            return Take::Granted(full_at.saturating_add(cost));
        }
        let lacking = full_at.saturating_sub(now);
        if lacking > most {
            return if lacking.saturating_sub(staleness) > most { Take::Rejected } else { Take::Undecided };
        }
        if staleness <= FULL_WITHIN * 4 { take_from_full(full_at.max(now), cost) } else { Take::Undecided }
    }

    /// Takes `cost` even if the bucket lacks it.
    ///
    /// The caller has to wait until the reservation is [`due`](Self::due).
    #[must_use]
    pub fn reserve(&self, full_at: u64, cost: u64, now: Moment) -> Reserved {
        let before = full_at.max(self.units(now)).min(FULL_AT_MAX);
        Reserved { full_at: before.saturating_add(cost).min(FULL_AT_MAX), cost }
    }

    /// Returns when the tokens of `reserved` are due.
    #[must_use]
    pub fn due(&self, reserved: Reserved) -> Moment {
        self.moment(reserved.full_at.saturating_sub(self.capacity))
    }

    /// Returns how long a new waiter would wait for `cost`.
    ///
    /// `Duration::MAX` if the bucket can't hold it.
    #[must_use]
    pub fn wait(&self, full_at: u64, cost: u64, now: Moment) -> Duration {
        if cost > self.capacity {
            return Duration::MAX;
        }
        self.remaining(self.reserve(full_at, cost, now), now)
    }

    /// Returns how long after `now` the tokens of `reserved` are due.
    ///
    /// A time beyond the clock's last year is still computed: one token in 500 years takes 500 years. `Duration::MAX`
    /// if no more tokens come, or if a word can't hold the time.
    #[must_use]
    pub fn remaining(&self, reserved: Reserved, now: Moment) -> Duration {
        match self.due(reserved) {
            Moment::NEVER if now > LAST || reserved.full_at >= FULL_AT_MAX => Duration::MAX,
            Moment::NEVER => {
                let nanos = self.nanos(reserved.full_at.saturating_sub(self.capacity)) - u128::from(now.as_nanos());
                Duration::from_secs(u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX))
            }
            due => due.since(now),
        }
    }

    /// Returns how much of an unused reservation can be refunded.
    ///
    /// `full_at` is the bucket's at `now`.
    ///
    /// All of it, if the reservation is not due yet or is the last one. Otherwise only what the bucket would still
    /// lack without later reservations. The rest may have overflowed while the tokens lay unused, and later waiters
    /// may have used theirs when due, which was later than it would have been without this reservation.
    #[must_use]
    pub fn refund(&self, reserved: Reserved, full_at: u64, now: Moment) -> u64 {
        let lacking = reserved.full_at.saturating_sub(self.units(now));
        if full_at == reserved.full_at { reserved.cost } else { reserved.cost.min(lacking) }
    }

    /// Converts `full_at` to the scale `new` at `now`.
    ///
    /// The number of tokens stays, up to the new capacity.
    #[must_use]
    pub fn convert(&self, full_at: u64, new: &Self, now: Moment) -> u64 {
        let level = i128::from(self.units(now)) + i128::from(self.capacity) - i128::from(full_at);
        // 64 bits times 60 bits don't overflow.
        let level = (level * i128::from(new.token)) >> self.token.trailing_zeros();
        let level = level.min(i128::from(new.capacity));
        let full_at = i128::from(new.units(now)) + i128::from(new.capacity) - level;
        u64::try_from(full_at).unwrap_or(FULL_AT_MAX).min(FULL_AT_MAX)
    }
}

/// Out of line, so that the processor predicts a branch instead of waiting for a minimum.
#[cold]
#[inline(never)]
const fn after_last() -> u64 {
    LAST.as_nanos()
}

/// Out of line, so that the compiler does not merge it with the other way to grant.
#[cold]
#[inline(never)]
fn take_from_full(full_at: u64, cost: u64) -> Take {
    Take::Granted(full_at.saturating_add(cost))
}

/// A rejected request: enough to compute its `retry_after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// The bucket's scale.
    pub scale: Scale,
    /// When the bucket would have been full again.
    pub full_at: u64,
    /// The units that were asked for.
    pub cost: u64,
}

impl Shortage {
    /// Returns how long after `now` the tokens are there.
    ///
    /// Assumes that nothing else is taken; `Duration::MAX` if the bucket can't hold them.
    #[must_use]
    pub fn wait(&self, now: Moment) -> Duration {
        self.scale.wait(self.full_at, self.cost, now)
    }
}

/// Tokens that a waiter has reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// When the bucket is full again if nothing is taken after this reservation.
    pub full_at: u64,
    /// The reserved units.
    pub cost: u64,
}

#[cfg(test)]
mod tests;
