//! What a limiter is told, and the numbers it computes with.

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use super::bucket::{CAPACITY_BITS, Scale, TIME_SHIFT};
use crate::InvalidArgument;

/// Tokens per [`DEFAULT_PER`] where nobody says how many.
pub const DEFAULT_RATE: f64 = 10.0;

/// What a rate refers to where nobody says.
pub const DEFAULT_PER: Duration = Duration::from_secs(1);

/// The longest time that a rate can refer to: 500 years.
pub const PER_MAX: Duration = Duration::from_secs(500 * 365 * 24 * 3600);

/// Bits of the multiplier that may be given up for a large capacity; 53 stay, which is what the rate itself has.
const SPARE_BITS: i32 = 11;

/// A bucket that fills in 2^69 ns or less is taken, one that takes twice as long is not; between them it depends on how
/// near the rate and the capacity are to powers of two.
const FILL_BITS: u32 = CAPACITY_BITS + TIME_SHIFT + SPARE_BITS.cast_unsigned() - 64;

/// The same in years.
const FILL_YEARS: u128 = (1 << FILL_BITS) / (365 * 24 * 3600 * 1_000_000_000);

/// So many tokens in so much time, and how many may be taken at once.
///
/// ```
/// use backstay_core::rate_limiter::Quota;
/// use std::time::Duration;
///
/// let quota = Quota::new(10.0, Duration::from_secs(1), Some(50.0)).unwrap();
/// assert_eq!(quota.capacity(), 50.0);
/// assert!(Quota::new(f64::NAN, Duration::from_secs(1), None).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quota {
    rate: f64,
    per: Duration,
    burst: Option<f64>,
    scale: Scale,
}

impl Quota {
    /// `rate` tokens per `per`; at most `burst` at once, at least one. Without a `burst` it is `rate`.
    ///
    /// # Errors
    /// [`InvalidArgument`] names what cannot be meant: a rate or burst that is not a number, infinite or negative, a
    /// rate or `per` of zero, a `per` above [`PER_MAX`], 4 tokens per nanosecond or more, a bucket of 2^60 tokens or
    /// more, or one that takes longer to fill than about 18,700 years.
    pub fn new(rate: f64, per: Duration, burst: Option<f64>) -> Result<Self, InvalidArgument> {
        if !(rate.is_finite() && rate > 0.0) {
            return Err(InvalidArgument::new("rate", written(rate), "a number above 0"));
        }
        if per.is_zero() || per > PER_MAX {
            return Err(InvalidArgument::new("per", format!("{per:?}"), "above 0 and at most 500 years"));
        }
        if let Some(burst) = burst.filter(|burst| !(burst.is_finite() && *burst >= 0.0)) {
            return Err(InvalidArgument::new("burst", written(burst), "a number from 0 up"));
        }
        let scale = scale(rate, per, burst)?;
        Ok(Self { rate, per, burst, scale })
    }

    /// The same with another rate. A burst that was given stays; one that followed the rate goes on following it.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_rate(&self, rate: f64, per: Duration) -> Result<Self, InvalidArgument> {
        Self::new(rate, per, self.burst)
    }

    /// Tokens per [`per`](Self::per).
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// The time to which the rate refers.
    #[must_use]
    pub fn per(&self) -> Duration {
        self.per
    }

    /// How many tokens may be taken at once, where that was given.
    #[must_use]
    pub fn burst(&self) -> Option<f64> {
        self.burst
    }

    /// Whether fewer tokens come in than with `other`.
    #[must_use]
    pub fn is_slower_than(&self, other: &Self) -> bool {
        self.rate * other.per.as_secs_f64() < other.rate * self.per.as_secs_f64()
    }

    /// How many tokens the bucket holds: the burst, at least one.
    #[must_use]
    pub fn capacity(&self) -> f64 {
        self.burst.unwrap_or(self.rate).max(1.0)
    }

    /// How many tokens there are at the start: the burst where one was given, otherwise a full bucket.
    #[must_use]
    pub fn start(&self) -> f64 {
        self.burst.unwrap_or(f64::INFINITY).min(self.capacity())
    }

    /// The numbers that a bucket computes with.
    #[must_use]
    pub fn scale(&self) -> Scale {
        self.scale
    }
}

/// Chooses 2^`k` units for a token, with `k` as large as the words permit.
fn scale(rate: f64, per: Duration, burst: Option<f64>) -> Result<Scale, InvalidArgument> {
    let limiting = if burst.is_some() { "burst" } else { "rate" };
    let capacity = Binary::of(burst.unwrap_or(rate).max(1.0));

    // Tokens per nanosecond: `quotient * 2^exponent`, with 64 bits or more of precision.
    let rate_bits = Binary::of(rate);
    let normalised = u128::from(rate_bits.mantissa) << 64;
    let quotient = normalised / per.as_nanos();
    let remainder = normalised % per.as_nanos();
    let exponent = rate_bits.exponent - 64;
    let bits = 128 - quotient.leading_zeros().cast_signed();

    let for_time = 64 - TIME_SHIFT.cast_signed() - bits - exponent;
    let for_capacity = CAPACITY_BITS.cast_signed() - 64 - capacity.exponent;
    let k = for_time.min(for_capacity);
    if for_time < 0 {
        return Err(InvalidArgument::new(
            "rate",
            format!("{} per {per:?}", written(rate)),
            "less than 4 per nanosecond",
        ));
    }
    if for_capacity < 0 {
        let given = burst.unwrap_or(rate);
        return Err(InvalidArgument::new(limiting, given, format!("less than 2^{CAPACITY_BITS} tokens")));
    }
    if for_time - k > SPARE_BITS {
        let full = burst.unwrap_or(rate).max(1.0);
        let allowed = format!("enough to fill a bucket of {full} within {FILL_YEARS} years");
        return Err(InvalidArgument::new("rate", format!("{} per {per:?}", written(rate)), allowed));
    }
    // Rounded up, by less than a unit in 30 years: then a token is there in the very nanosecond in which it is due,
    // although times are rounded down.
    let shift = bits - 64 + for_time - k;
    let lost = remainder > 0 || (quotient >> shift) << shift != quotient;
    let multiplier = u64::try_from((quotient >> shift) + u128::from(lost)).unwrap_or(u64::MAX);
    Ok(Scale::new(multiplier, 1 << k, capacity.shifted(k)))
}

/// A positive number as `mantissa * 2^exponent`, the highest bit of the mantissa set.
struct Binary {
    mantissa: u64,
    exponent: i32,
}

impl Binary {
    /// Of a normal number; one below 2^-1022 is read as another that is as much too slow for a quota.
    fn of(number: f64) -> Self {
        // The sign is 0, then come 11 bits of exponent and 52 below the highest bit, which is not written.
        let bits = number.to_bits();
        let exponent = i32::try_from(bits >> 52).unwrap_or(0);
        Self { mantissa: bits << 11 | 1 << 63, exponent: exponent - 1023 - 63 }
    }

    /// The number times 2^`k`, rounded down; it must be less than 2^64.
    fn shifted(&self, k: i32) -> u64 {
        self.mantissa.checked_shr((-(self.exponent + k)).cast_unsigned()).unwrap_or(0)
    }
}

/// A number as a person writes it, without hundreds of digits.
fn written(number: f64) -> String {
    if number.abs() < 1e15 { format!("{number}") } else { format!("{number:e}") }
}

#[cfg(test)]
mod tests;
