//! A limiter's arguments, and the bucket parameters computed from them.

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use super::bucket::{CAPACITY_BITS, Scale, TIME_SHIFT};
use crate::InvalidArgument;

/// The default rate, in tokens per [`DEFAULT_PER`].
pub const DEFAULT_RATE: f64 = 10.0;

/// The default period of a rate: one second.
pub const DEFAULT_PER: Duration = Duration::from_secs(1);

/// The maximum period of a rate: 500 years.
pub const PER_MAX: Duration = Duration::from_secs(500 * 365 * 24 * 3600);

/// Bits of the multiplier that may be traded for a large capacity. 53 remain, the precision of the rate itself.
const SPARE_BITS: i32 = 11;

/// A bucket that fills within 2^69 ns is accepted, one that takes twice as long is rejected. Between them the result
/// depends on how near the rate and the capacity are to powers of two.
const FILL_BITS: u32 = CAPACITY_BITS + TIME_SHIFT + SPARE_BITS.cast_unsigned() - 64;

/// The same in years.
const FILL_YEARS: u128 = (1 << FILL_BITS) / (365 * 24 * 3600 * 1_000_000_000);

/// A rate in tokens per period, and the number of tokens that can be taken at once.
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
    /// Creates a quota of `rate` tokens per `per`.
    ///
    /// At most `burst` tokens can be taken at once; it defaults to `rate`.
    ///
    /// The bucket holds at least one token, even if `burst` is lower.
    ///
    /// # Errors
    /// [`InvalidArgument`] names the argument that is out of range: a rate or burst that is NaN, infinite or negative,
    /// a rate or `per` of zero, a `per` above [`PER_MAX`], 4 tokens per nanosecond or more, a bucket of 2^60 tokens or
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

    /// Returns the quota with another rate.
    ///
    /// A given burst stays; a burst that defaulted to the rate follows it.
    ///
    /// # Errors
    /// [`InvalidArgument`] names an argument that is out of range, as for [`new`](Self::new).
    pub fn with_rate(&self, rate: f64, per: Duration) -> Result<Self, InvalidArgument> {
        Self::new(rate, per, self.burst)
    }

    /// Returns the tokens per [`per`](Self::per).
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Returns the period of the rate.
    #[must_use]
    pub fn per(&self) -> Duration {
        self.per
    }

    /// Returns the burst, if it was given.
    #[must_use]
    pub fn burst(&self) -> Option<f64> {
        self.burst
    }

    /// Returns whether the rate is lower than that of `other`.
    #[must_use]
    pub fn is_slower_than(&self, other: &Self) -> bool {
        self.rate * other.per.as_secs_f64() < other.rate * self.per.as_secs_f64()
    }

    /// Returns the capacity of the bucket: the burst, at least one token.
    #[must_use]
    pub fn capacity(&self) -> f64 {
        self.burst.unwrap_or(self.rate).max(1.0)
    }

    /// Returns the tokens at the start: the given burst, or a full bucket.
    #[must_use]
    pub fn start(&self) -> f64 {
        self.burst.unwrap_or(f64::INFINITY).min(self.capacity())
    }

    /// Returns the bucket parameters.
    #[must_use]
    pub fn scale(&self) -> Scale {
        self.scale
    }
}

/// Chooses 2^`k` units for a token, with `k` as large as fits.
fn scale(rate: f64, per: Duration, burst: Option<f64>) -> Result<Scale, InvalidArgument> {
    let limiting = if burst.is_some() { "burst" } else { "rate" };
    let capacity = Binary::of(burst.unwrap_or(rate).max(1.0));

    // Tokens per nanosecond: `quotient * 2^exponent`, with a precision of at least 64 bits.
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
    // Rounded up, by less than a unit in 30 years. So a token is there in the nanosecond in which it is due, although
    // times are rounded down.
    let shift = bits - 64 + for_time - k;
    let lost = remainder > 0 || (quotient >> shift) << shift != quotient;
    let multiplier = u64::try_from((quotient >> shift) + u128::from(lost)).unwrap_or(u64::MAX);
    Ok(Scale::new(multiplier, 1 << k, capacity.shifted(k)))
}

/// A positive number as `mantissa * 2^exponent`; the highest bit of the mantissa is set.
struct Binary {
    mantissa: u64,
    exponent: i32,
}

impl Binary {
    /// Splits a normal number. A subnormal one is misread as a number that is also too small for a quota.
    fn of(number: f64) -> Self {
        // The sign is 0; then come 11 bits of exponent and 52 bits below the implied highest bit.
        let bits = number.to_bits();
        let exponent = i32::try_from(bits >> 52).unwrap_or(0);
        Self { mantissa: bits << 11 | 1 << 63, exponent: exponent - 1023 - 63 }
    }

    /// Returns the number times 2^`k`, rounded down; the result must be less than 2^64.
    fn shifted(&self, k: i32) -> u64 {
        self.mantissa.checked_shr((-(self.exponent + k)).cast_unsigned()).unwrap_or(0)
    }
}

/// Formats a number without hundreds of digits.
fn written(number: f64) -> String {
    if number.abs() < 1e15 { format!("{number}") } else { format!("{number:e}") }
}

#[cfg(test)]
mod tests;
