//! What one word says about a bucket, and how taking, waiting and giving back change it.

use core::time::Duration;

use crate::time::{Moment, Reading};

/// A nanosecond is `multiplier / 2^TIME_SHIFT` units: between 2 and 4 of them, fewer only for slow, large buckets.
pub(super) const TIME_SHIFT: u32 = 62;

/// A capacity has at most so many bits.
pub(super) const CAPACITY_BITS: u32 = 60;

/// The clock's 36th year, after which a bucket gets no more tokens. Times have 62 bits at most.
const LAST: Moment = Moment::from_nanos((1 << 60) - 1);

/// No `full_at` is greater: 63 bits, so that whoever stores it has a bit to spare, and a value that is none.
pub const FULL_AT_MAX: u64 = (1 << 63) - 2;

/// How uncertain, in nanoseconds, a reading may be that takes from a full bucket: 4 µs.
const FULL_WITHIN: u64 = 4_000;

/// What a bucket computes with: how many units a nanosecond, a token and the whole bucket are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Units per nanosecond, times 2^62.
    pub multiplier: u64,
    /// Units per token; a power of two.
    pub token: u64,
    /// Units in a full bucket.
    pub capacity: u64,
}

/// What becomes of a wish for tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// They are there; the bucket will be full again at this time.
    Granted(u64),
    /// They are not there; nothing changes.
    Refused,
    /// The reading is too stale to tell: ask again with an exact one.
    Unclear,
}

impl Scale {
    /// The parts of a scale, as [`Quota::scale`](super::Quota::scale) gave them.
    #[inline]
    #[must_use]
    pub const fn new(multiplier: u64, token: u64, capacity: u64) -> Self {
        Self { multiplier, token, capacity }
    }

    /// The units that have passed at `now`, rounded down.
    #[inline]
    #[must_use]
    pub fn units(&self, now: Moment) -> u64 {
        // 62 bits times 64 bits: at most 62 are left. On the way of every take, so the shift is done beforehand.
        let nanos = if now > LAST { after_last() } else { now.as_nanos() };
        let quarters = nanos << (64 - TIME_SHIFT);
        #[allow(clippy::cast_possible_truncation)]
        let units = ((u128::from(quarters) * u128::from(self.multiplier)) >> 64) as u64;
        units
    }

    /// The first moment at which `units` have passed.
    #[must_use]
    pub fn moment(&self, units: u64) -> Moment {
        let nanos = u64::try_from(self.nanos(units));
        nanos.map(Moment::from_nanos).ok().filter(|moment| *moment <= LAST).unwrap_or(Moment::NEVER)
    }

    /// The nanoseconds in which `units` pass, rounded up. 66 bits at most where a token takes centuries.
    fn nanos(&self, units: u64) -> u128 {
        // One division; `div_ceil` makes two, and each takes as long as reading a clock.
        let (units, multiplier) = (u128::from(units) << TIME_SHIFT, u128::from(self.multiplier.max(1)));
        let nanos = units / multiplier;
        nanos + u128::from(nanos * multiplier != units)
    }

    /// What `tokens` cost. More than the capacity where they are more than the bucket holds.
    #[inline]
    #[must_use]
    pub fn cost(&self, tokens: u32) -> u64 {
        u64::from(tokens).saturating_mul(self.token)
    }

    /// How many whole tokens `units` are.
    #[inline]
    #[must_use]
    pub fn whole_tokens(&self, units: u64) -> u32 {
        u32::try_from(units >> self.token.trailing_zeros()).unwrap_or(u32::MAX)
    }

    /// The number of tokens that `units` are.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn tokens(&self, units: u64) -> f64 {
        units as f64 / self.token as f64
    }

    /// When a bucket is full that holds `tokens` at `now`.
    #[must_use]
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn holding(&self, tokens: f64, now: Moment) -> u64 {
        // `as` saturates, and a power of two multiplies exactly.
        let held = (tokens * self.token as f64) as u64;
        self.units(now).saturating_add(self.capacity.saturating_sub(held))
    }

    /// The units in the bucket at `now`.
    #[must_use]
    pub fn level(&self, full_at: u64, now: Moment) -> u64 {
        self.capacity.saturating_sub(full_at.saturating_sub(self.units(now)))
    }

    /// Takes `cost` at once, or not at all.
    ///
    /// A stale reading grants only from a bucket that is certainly not full: from a full one, the tokens that spilled
    /// between the reading and now would be counted as there. Those of 4 µs may be: a bucket never has more than that
    /// too much, because what is taken from it moves `full_at` by the same amount whatever it was.
    #[inline]
    #[must_use]
    pub fn take(&self, full_at: u64, cost: u64, time: Reading) -> Take {
        let Some(most) = self.capacity.checked_sub(cost) else { return Take::Refused };
        let now = self.units(time.earliest);
        // A nanosecond is less than 4 units; that saves a second multiplication.
        let staleness = time.staleness() * 4;
        // What is stored here depends on the time by branches alone, so that the processor need not wait for it.
        if let Some(lacking) = full_at.checked_sub(now)
            && lacking <= most
            && lacking >= staleness.max(1)
        {
            return Take::Granted(full_at.saturating_add(cost));
        }
        let lacking = full_at.saturating_sub(now);
        if lacking > most {
            return if lacking.saturating_sub(staleness) > most { Take::Refused } else { Take::Unclear };
        }
        if staleness <= FULL_WITHIN * 4 { take_from_full(full_at.max(now), cost) } else { Take::Unclear }
    }

    /// Takes `cost`, be it there or not. Whoever takes so waits until the place is [`due`](Self::due).
    #[must_use]
    pub fn reserve(&self, full_at: u64, cost: u64, now: Moment) -> Place {
        let before = full_at.max(self.units(now)).min(FULL_AT_MAX);
        Place { full_at: before.saturating_add(cost).min(FULL_AT_MAX), cost }
    }

    /// When what was taken with `place` is there.
    #[must_use]
    pub fn due(&self, place: Place) -> Moment {
        self.moment(place.full_at.saturating_sub(self.capacity))
    }

    /// How long a newcomer would wait for `cost`; `Duration::MAX` for more than the bucket holds.
    #[must_use]
    pub fn wait(&self, full_at: u64, cost: u64, now: Moment) -> Duration {
        if cost > self.capacity {
            return Duration::MAX;
        }
        self.remaining(self.reserve(full_at, cost, now), now)
    }

    /// How long after `now` the tokens of `place` are due. A time beyond the clock's last year is told all the same: one
    /// token in 500 years takes 500 years. `Duration::MAX` where no tokens come any more, or where the word cannot hold
    /// the time.
    #[must_use]
    pub fn remaining(&self, place: Place, now: Moment) -> Duration {
        match self.due(place) {
            Moment::NEVER if now > LAST || place.full_at >= FULL_AT_MAX => Duration::MAX,
            Moment::NEVER => {
                let nanos = self.nanos(place.full_at.saturating_sub(self.capacity)) - u128::from(now.as_nanos());
                Duration::from_secs(u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX))
            }
            due => due.since(now),
        }
    }

    /// How much of an unused `place` can go back into a bucket that is now full at `full_at`.
    ///
    /// All of it, as long as the place is not due or nobody took anything after it. Otherwise only what the bucket would
    /// still lack if nobody had: the rest might have spilled over while the tokens lay unused, and those who came later
    /// may have used theirs when they were due, which was later than it would have been without this place.
    #[must_use]
    pub fn refund(&self, place: Place, full_at: u64, now: Moment) -> u64 {
        let lacking = place.full_at.saturating_sub(self.units(now));
        if full_at == place.full_at { place.cost } else { place.cost.min(lacking) }
    }

    /// Carries a `full_at` over to `new` at `now`: as many tokens as before, but no more than fit in.
    #[must_use]
    pub fn convert(&self, full_at: u64, new: &Self, now: Moment) -> u64 {
        let level = i128::from(self.units(now)) + i128::from(self.capacity) - i128::from(full_at);
        // 64 bits times 60 bits: no overflow.
        let level = (level * i128::from(new.token)) >> self.token.trailing_zeros();
        let level = level.min(i128::from(new.capacity));
        let full_at = i128::from(new.units(now)) + i128::from(new.capacity) - level;
        u64::try_from(full_at).unwrap_or(FULL_AT_MAX).min(FULL_AT_MAX)
    }
}

/// Out of line, so that the processor predicts a branch rather than waits for a minimum.
#[cold]
#[inline(never)]
const fn after_last() -> u64 {
    LAST.as_nanos()
}

/// Out of line, so that the compiler does not make one expression of this and the other way to grant.
#[cold]
#[inline(never)]
fn take_from_full(full_at: u64, cost: u64) -> Take {
    Take::Granted(full_at.saturating_add(cost))
}

/// What a caller was rejected for: enough to compute how long it has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// The bucket's scale.
    pub scale: Scale,
    /// When the bucket was to be full again.
    pub full_at: u64,
    /// What was asked for.
    pub cost: u64,
}

impl Shortage {
    /// How long after `now` the tokens are there, with nothing taken meanwhile; `Duration::MAX` for more than the bucket
    /// holds.
    #[must_use]
    pub fn wait(&self, now: Moment) -> Duration {
        self.scale.wait(self.full_at, self.cost, now)
    }
}

/// What one waiter has taken: its cost, and when the bucket is full again after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// When the bucket is full again if nobody comes after.
    pub full_at: u64,
    /// What was taken.
    pub cost: u64,
}

#[cfg(test)]
mod tests;
