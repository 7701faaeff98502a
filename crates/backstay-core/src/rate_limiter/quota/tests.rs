//! Tests that a quota's bucket parameters equal its arguments, as precisely as the words permit.

use alloc::string::ToString;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// `mantissa / 2^shift`, which is exact.
fn ratio(mantissa: u64, shift: i32) -> f64 {
    #[allow(clippy::cast_precision_loss)] // 53 bits
    let mantissa = mantissa as f64;
    // Not `powi`: its last bit is unspecified, and random under Miri.
    mantissa * f64::from_bits(u64::try_from(1023 - shift).unwrap() << 52)
}

fn mantissas() -> impl Strategy<Value = u64> {
    prop_oneof![1..100_u64, 1..1_u64 << 53]
}

/// Nanoseconds, hours and centuries.
fn pers() -> impl Strategy<Value = Duration> {
    let longest = nanos(PER_MAX);
    prop_oneof![1..2_000_u64, 1..10_000_000_000_000_u64, longest / 2..=longest].prop_map(Duration::from_nanos)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 1 << 14, ..crate::cases(2048) })]

    // RL-1, RL-2: the capacity is exact, and the units of a nanosecond are the rate, rounded up in the last bit.
    #[test]
    fn a_scale_equals_the_quota_exactly(
        mantissa in mantissas(), shift in -8..60_i32, per in pers(), burst in prop::option::of((mantissas(), 0..60_i32)),
    ) {
        let rate = ratio(mantissa, shift);
        let burst = burst.map(|(mantissa, shift)| ratio(mantissa, shift));
        let quota = Quota::new(rate, per, burst);
        prop_assume!(quota.is_ok());
        let quota = quota.unwrap();
        let capacity = burst.unwrap_or(rate).max(1.0);
        prop_assert_eq!((quota.rate(), quota.per(), quota.capacity()), (rate, per, capacity));
        prop_assert_eq!(quota.start(), burst.map_or(capacity, |burst| burst.min(capacity)));

        let Scale { multiplier, token, capacity: units } = quota.scale();
        prop_assert!(token.is_power_of_two());
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let exact = (capacity * token as f64) as u64;
        prop_assert_eq!(units, exact);

        // The multiplier is `rate * token * 2^62 / per`, rounded up: compared times `per`, in integers.
        let shift = 62 + token.trailing_zeros().cast_signed() - shift;
        let wanted = u128::from(mantissa) << shift;
        prop_assert_eq!(wanted >> shift, u128::from(mantissa), "the model overflows");
        let per = u128::from(nanos(per));
        prop_assert!(u128::from(multiplier) * per >= wanted);
        prop_assert!(u128::from(multiplier - 1) * per < wanted);

        // Twice as many units per token would exceed the 60 bits of a capacity or the 64 bits of a multiplier.
        prop_assert!(units < 1 << 60);
        prop_assert!(units >= 1 << 59 || multiplier >= 1 << 63);
        prop_assert!(multiplier >= 1 << 52, "{} bits of the rate are left", multiplier.ilog2());
    }
}

fn rejected(rate: f64, per: Duration, burst: Option<f64>) -> &'static str {
    Quota::new(rate, per, burst).unwrap_err().argument
}

// RL-12: both sides of each bound.
#[test]
fn invalid_arguments_are_rejected_by_name() {
    for rate in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, -1.0] {
        assert_eq!(rejected(rate, SECOND, None), "rate");
    }
    for burst in [f64::NAN, f64::INFINITY, -f64::MIN_POSITIVE] {
        assert_eq!(rejected(1.0, SECOND, Some(burst)), "burst");
    }
    assert!(Quota::new(1.0, SECOND, Some(0.0)).is_ok());

    assert_eq!(PER_MAX, Duration::from_secs(15_768_000_000));
    assert!(Quota::new(1.0, PER_MAX, None).is_ok());
    assert_eq!(rejected(1.0, PER_MAX + Duration::from_nanos(1), None), "per");
    assert_eq!(rejected(1.0, Duration::ZERO, None), "per");
    assert!(Quota::new(1.0, Duration::from_nanos(1), None).is_ok());
}

// RL-12: both sides of what the words of a bucket can hold.
#[test]
fn arguments_beyond_the_words_are_rejected_by_name() {
    let most = ratio((1 << 53) - 1, -7);
    assert!(Quota::new(most, PER_MAX, None).is_ok());
    assert_eq!(rejected(most.next_up(), PER_MAX, None), "rate");
    assert!(Quota::new(1e8, SECOND, Some(most)).is_ok());
    assert_eq!(rejected(1e8, SECOND, Some(most.next_up())), "burst");

    // 2^40 tokens are 2^59 units, and the rate keeps its 53 bits down to a multiplier of 2^52.
    let slowest = 1e9 / ratio(1 << 29, 0);
    let tokens = Some(ratio(1 << 40, 0));
    assert_eq!(Quota::new(slowest, SECOND, tokens).unwrap().scale(), Scale::new(1 << 52, 1 << 19, 1 << 59));
    let error = Quota::new(slowest.next_down(), SECOND, tokens).unwrap_err();
    // The bound, 2^69 nanoseconds, in years of 365 days.
    assert_eq!(
        (error.argument, &*error.allowed),
        ("rate", "enough to fill a bucket of 1099511627776 within 18718 years")
    );
    // Subnormal numbers are slower still.
    assert_eq!(rejected(f64::from_bits(1), Duration::from_nanos(1), None), "rate");
    assert_eq!(rejected(f64::MIN_POSITIVE, Duration::from_nanos(1), Some(0.0)), "rate");
}

// RL-12: a number is shown briefly.
#[test]
fn a_rejected_number_is_shown_briefly() {
    let shown = |rate: f64| Quota::new(rate, Duration::from_nanos(1), None).unwrap_err().given;
    assert_eq!((shown(-0.5), shown(-1e15)), ("-0.5".to_string(), "-1e15".to_string()));
    assert_eq!(shown((1e15_f64).next_down()), "999999999999999.9 per 1ns");
    assert_eq!(shown(f64::INFINITY), "inf");
}

// RL-9: a given burst stays; a burst that defaulted to the rate follows it.
#[test]
fn a_new_rate_keeps_a_given_burst() {
    let capacity = |burst| Quota::new(5.0, SECOND, burst).unwrap().with_rate(7.0, SECOND * 2).unwrap().capacity();
    assert_eq!((capacity(None), capacity(Some(3.0))), (7.0, 3.0));
    let quota = Quota::new(5.0, SECOND, None).unwrap().with_rate(7.0, SECOND * 2).unwrap();
    assert_eq!((quota.rate(), quota.per(), quota.start()), (7.0, SECOND * 2, 7.0));
    assert!(quota.with_rate(0.0, SECOND).is_err());
}

// RL-9: a quota returns its arguments, and compares rates.
#[test]
fn a_quota_returns_its_arguments() {
    let quota = |rate, seconds, burst| Quota::new(rate, SECOND * seconds, burst).unwrap();
    // One and a half per second.
    let given = quota(3.0, 2, Some(5.0));
    assert_eq!((given.rate(), given.per(), given.burst()), (3.0, SECOND * 2, Some(5.0)));
    assert_eq!(quota(3.0, 2, None).burst(), None);
    assert!(given.is_slower_than(&quota(6.4, 4, None)));
    assert!(!given.is_slower_than(&quota(5.6, 4, None)));
    assert!(!given.is_slower_than(&quota(6.0, 4, None)));
}

// RL-1: the fastest rate that the words can hold.
#[test]
fn a_quota_may_be_nearly_four_tokens_a_nanosecond() {
    let quota = |rate| Quota::new(rate, Duration::from_nanos(1), None);
    assert!(quota(3.9).is_ok() && quota(4.0_f64.next_down()).is_ok());
    assert!(quota(4.0).is_err());
}
