//! Tests of the bucket's arithmetic, against a naive model.

use alloc::string::ToString;

use proptest::prelude::*;

use super::*;
use crate::rate_limiter::{PER_MAX, Quota};

/// A nanosecond is one unit and a token ten; the bucket holds three tokens.
const SCALE: Scale = Scale::new(1 << TIME_SHIFT, 10, 30);

fn stale(earliest: u64, latest: u64) -> Reading {
    Reading::behind(Moment::from_nanos(earliest), latest.saturating_sub(earliest))
}

/// Whether tokens were granted, from a full bucket or not.
fn granted(take: Take) -> bool {
    matches!(take, Take::Granted(_))
}

// RL-2: a stale reading grants or rejects only if every exact one in its range does. Beyond 4 µs of staleness the
// result is the same; up to 4 µs it is that of the earliest time.
#[test]
fn a_stale_reading_decides_only_if_every_time_in_its_range_agrees() {
    let (mut grants, mut rejections) = (0, 0);
    for factor in [1, 4_000, 4_001] {
        let scale = Scale::new(1 << TIME_SHIFT, 10 * factor, 30 * factor);
        for full_at in (80..160).map(|full_at| full_at * factor) {
            for (cost, staleness) in
                [(10, 1), (20, 1), (30, 1), (40, 1)].map(|(cost, time)| (cost * factor, time * factor))
            {
                let (earliest, latest) = (100 * factor, 100 * factor + staleness);
                let result = scale.take(full_at, cost, stale(earliest, latest));
                if result == Take::Undecided {
                    continue;
                }
                for now in [earliest, (earliest + latest) / 2, latest] {
                    let exact = scale.take(full_at, cost, stale(now, now));
                    assert_eq!(granted(exact), granted(result), "{factor} {full_at} {cost}");
                    assert!(exact == result || (now > earliest && factor <= 4_000), "{factor} {full_at} {cost}");
                }
                if result == Take::Rejected { rejections += 1 } else { grants += 1 }
            }
        }
    }
    // Both results occur.
    assert!(grants > 30 && rejections > 150, "{grants} {rejections}");
}

// RL-6
#[test]
fn a_refund_excludes_what_has_overflowed() {
    let reserved = SCALE.reserve(130, 10, Moment::from_nanos(100));
    assert_eq!((reserved, SCALE.due(reserved)), (Reserved { full_at: 140, cost: 10 }, Moment::from_nanos(110)));
    let refund = |full_at, now| SCALE.refund(reserved, full_at, Moment::from_nanos(now));
    assert_eq!([refund(150, 105), refund(150, 130), refund(150, 134), refund(150, 200)], [10, 10, 6, 0]);
    assert_eq!(refund(140, 200), 10);
}

// RL-9: the number of tokens stays, up to the new capacity; waiters still lack what they lacked.
#[test]
fn a_new_scale_keeps_the_level() {
    let (now, fine) = (Moment::from_nanos(100), Scale::new(2 << TIME_SHIFT, 16, 16));
    let coarse = Scale::new(1 << TIME_SHIFT, 8, 24);
    let level = |full_at: u64| 216 - i64::try_from(coarse.convert(full_at, &fine, now)).unwrap();
    assert_eq!([level(100), level(116), level(120), level(124), level(140)], [16, 16, 8, 0, -32]);
}

// ALL-1
#[test]
fn nothing_overflows() {
    let ends = [0, 1, u64::MAX / 2, u64::MAX];
    for (multiplier, token, capacity) in [(0, 1, 0), (u64::MAX, 1 << 63, u64::MAX), (1, 1, 1)] {
        let scale = Scale::new(multiplier, token, capacity);
        for (full_at, nanos) in ends.iter().flat_map(|full_at| ends.map(|nanos| (*full_at, nanos))) {
            let now = Moment::from_nanos(nanos);
            let reserved = scale.reserve(full_at, scale.cost(u32::MAX), now);
            let _ =
                (scale.take(full_at, reserved.cost, stale(0, nanos)), scale.level(full_at, now), scale.due(reserved));
            let _ = (scale.refund(reserved, full_at, now), scale.wait(full_at, 1, now), scale.holding(f64::MAX, now));
        }
    }
}

/// The last nanosecond that a bucket counts, and the maximum of `full_at`.
const LAST_NANOS: u64 = 1_152_921_504_606_846_975;
const LAST_FULL: u64 = 9_223_372_036_854_775_806;

fn at(nanos: u64) -> Moment {
    Moment::from_nanos(nanos)
}

fn exact(nanos: u64) -> Reading {
    Reading::exact(at(nanos))
}

/// Ordinary times, times around the last one, and invalid ones.
fn nanos() -> impl Strategy<Value = u64> {
    prop_oneof![0..10_000_u64, LAST_NANOS - 3..LAST_NANOS + 3, any::<u64>()]
}

/// A bucket of up to 20 tokens, and up to 4 units per nanosecond.
fn scales() -> impl Strategy<Value = Scale> {
    (1_u64 << 58..=u64::MAX, 0..6_u32, 1..20_u64, 0..32_u64).prop_map(|(multiplier, k, tokens, more)| {
        let token = 1 << k;
        Scale::new(multiplier, token, tokens * token + more % token)
    })
}

proptest! {
    #![proptest_config(crate::cases(512))]

    // RL-2: compared with the formula, up to the last nanosecond that counts and beyond it.
    #[test]
    fn units_are_nanoseconds_times_the_multiplier(multiplier: u64, nanos in nanos()) {
        let units = Scale::new(multiplier, 1, 1).units(at(nanos));
        prop_assert_eq!(u128::from(units), (u128::from(nanos.min(LAST_NANOS)) * u128::from(multiplier)) >> 62);
    }

    // RL-2: a token is there in the nanosecond in which it is due, and not in the one before.
    #[test]
    fn a_moment_is_the_first_with_its_units(
        multiplier in prop_oneof![0..3_u64, any::<u64>()],
        units in prop_oneof![0..10_000_u64, any::<u64>()],
    ) {
        let scale = Scale::new(multiplier, 1, 1);
        match scale.moment(units) {
            Moment::NEVER => prop_assert!(scale.units(Moment::NEVER) < units),
            moment => {
                prop_assert!(scale.units(moment) >= units);
                prop_assert!(moment == Moment::ORIGIN || scale.units(at(moment.as_nanos() - 1)) < units);
            }
        }
    }

    // RL-1, RL-2: compared with a bucket to which each pause adds its tokens.
    #[test]
    fn a_bucket_equals_a_naive_one(scale in scales(), steps in prop::collection::vec((0..80_u64, 0..700_u64), 1..40)) {
        let (mut now, mut full_at, mut level) = (0, 0, scale.capacity);
        for (pause, cost) in steps {
            let passed = scale.units(at(now + pause)) - scale.units(at(now));
            now += pause;
            level = scale.capacity.min(level + passed);
            prop_assert_eq!(scale.level(full_at, at(now)), level);
            let wait = scale.wait(full_at, cost, at(now));
            match scale.take(full_at, cost, exact(now)) {
                Take::Granted(later) => {
                    prop_assert!(cost <= level);
                    prop_assert_eq!(wait, Duration::ZERO);
                    (full_at, level) = (later, level - cost);
                }
                refused => {
                    prop_assert_eq!(refused, Take::Rejected);
                    prop_assert!(cost > level);
                    prop_assert_eq!(wait == Duration::MAX, cost > scale.capacity);
                    if wait != Duration::MAX {
                        let due = now + crate::time::nanos(wait);
                        prop_assert!(matches!(scale.take(full_at, cost, exact(due)), Take::Granted(_)));
                        prop_assert_eq!(scale.take(full_at, cost, exact(due - 1)), Take::Rejected);
                    }
                }
            }
        }
    }

    // RL-4: a reservation is due when a bucket without other takes would have its tokens.
    #[test]
    fn a_reservation_is_due_when_its_tokens_are_there(scale in scales(), full_at in 0..9000_u64, cost in 1..99_u64, now in 0..1000_u64) {
        prop_assume!(cost <= scale.capacity);
        let reserved = scale.reserve(full_at, cost, at(now));
        prop_assert_eq!(reserved, Reserved { full_at: full_at.max(scale.units(at(now))) + cost, cost });
        prop_assert_eq!(scale.due(reserved).since(at(now)), scale.wait(full_at, cost, at(now)));
    }

    // RL-1: a bucket holds the tokens that it is given, up to its capacity.
    #[test]
    fn a_bucket_holds_the_given_tokens(scale in scales(), quarters in 0..100_u32, now in 0..1000_u64) {
        let tokens = f64::from(quarters) / 4.0;
        let level = scale.level(scale.holding(tokens, at(now)), at(now));
        prop_assert_eq!(level, (u64::from(quarters) * scale.token / 4).min(scale.capacity));
    }

    // RL-9: the number of tokens stays, rounded down and up to the new capacity; a debt stays a debt.
    #[test]
    fn a_new_scale_keeps_the_tokens(old in scales(), new in scales(), full_at in 0..9000_u64, now in 0..1000_u64) {
        let signed = i128::from;
        let level = signed(old.units(at(now))) + signed(old.capacity) - signed(full_at);
        let level = (level * signed(new.token)).div_euclid(signed(old.token)).min(signed(new.capacity));
        let full_at = old.convert(full_at, &new, at(now));
        prop_assert_eq!(signed(new.units(at(now))) + signed(new.capacity) - signed(full_at), level);
    }
}

// RL-2: a stale reading decides if and only if every time in its range gives the same result. Up to 4 µs, the tokens
// that overflowed meanwhile do not count as another result. Here a nanosecond has its maximum, 4 units.
#[test]
fn a_stale_reading_decides_if_every_time_in_its_range_agrees() {
    let (mut decided, mut undecided) = (0, 0);
    for (factor, within) in [(1, 4), (2_000, 2), (4_001, 0)] {
        let scale = Scale::new(u64::MAX, 16 * factor, 48 * factor);
        for (full_at, staleness) in (340..=480).flat_map(|full_at| (0..4).map(move |staleness| (full_at, staleness))) {
            for cost in [0, 16, 32, 48, 64].map(|cost| cost * factor) {
                let (full_at, latest) = (full_at * factor, (100 + staleness) * factor);
                let take = |time| scale.take(full_at, cost, time);
                let (first, last) = (take(exact(100 * factor)), take(exact(latest)));
                let agreed = if staleness <= within { granted(first) == granted(last) } else { first == last };
                let result = take(stale(100 * factor, latest));
                // A unit is a quarter of a nanosecond, rounded down.
                let expected = if agreed { first } else { Take::Undecided };
                assert_eq!(result, expected, "{factor}: {full_at} {staleness} {cost}");
                if agreed { decided += 1 } else { undecided += 1 }
            }
        }
    }
    assert!(decided > 1500 && undecided > 500, "{decided} {undecided}");
}

proptest! {
    #![proptest_config(crate::cases(512))]

    // RL-1, RL-2: with readings that are uncertain by 4 µs, a bucket has at most 4 µs' worth of tokens more than one
    // with an exact clock, and never less: no burst is cut short, no window gets more than these tokens too many.
    #[test]
    fn a_fine_reading_adds_at_most_its_uncertainty(
        multiplier in 1_u64 << 58..=u64::MAX,
        tokens in 1..20_u64,
        steps in prop::collection::vec((prop_oneof![0..100_u64, 0..9_000u64, 0..600_000u64], 0..=4_000u64, 0..=4_000u64, 1..4u64), 1..100),
    ) {
        let scale = Scale::new(multiplier, 1 << 12, tokens << 12);
        let (mut now, mut fine, mut true_one) = (1_000_000, 0, 0_u64);
        for (pause, staleness, behind, cost) in steps {
            now += pause;
            let time = stale(now - behind.min(staleness), now + staleness - behind.min(staleness));
            let mut result = scale.take(fine, cost << 12, time);
            if result == Take::Undecided {
                result = scale.take(fine, cost << 12, exact(now));
            }
            let too_much = scale.units(at(4_001));
            if let Take::Granted(later) = result {
                fine = later;
                true_one = true_one.max(scale.units(at(now))) + (cost << 12);
                prop_assert!(fine <= true_one && fine + too_much >= true_one, "{fine} {true_one}");
            } else {
                prop_assert!(!granted(scale.take(true_one, cost << 12, exact(now))));
            }
        }
    }
}

// RL-2: after 36 years no tokens come, and a reservation beyond the last time ends at it.
#[test]
fn the_last_times_are_the_limits_of_the_words() {
    assert_eq!(FULL_AT_MAX, LAST_FULL);
    let scale = Scale::new(1 << 62, 8, 24);
    assert_eq!(scale.moment(LAST_NANOS), at(LAST_NANOS));
    assert_eq!(scale.moment(LAST_NANOS + 1), Moment::NEVER);
    assert_eq!(scale.reserve(LAST_FULL - 1, 8, at(0)), Reserved { full_at: LAST_FULL, cost: 8 });
    assert_eq!(scale.reserve(u64::MAX, 8, at(0)).full_at, LAST_FULL);
    assert_eq!(scale.convert(u64::MAX, &Scale::new(1 << 62, 1 << 20, 1 << 21), at(0)), LAST_FULL);
    assert_eq!(scale.wait(LAST_FULL, 8, at(0)), Duration::MAX);
    // A time beyond the last one is still computed, until the last one has come.
    let reserved = scale.reserve(LAST_NANOS + 25, 1_000_000_000, at(0));
    assert_eq!(scale.due(reserved), Moment::NEVER);
    assert_eq!(scale.remaining(reserved, at(LAST_NANOS)), Duration::from_secs(1));
    assert_eq!(scale.remaining(reserved, at(LAST_NANOS + 1)), Duration::MAX);
}

// RL-8: one token in 500 years is not "never": its token takes 500 years.
#[test]
fn a_token_in_centuries_takes_centuries() {
    let quota = Quota::new(1.0, PER_MAX, None).unwrap();
    let scale = quota.scale();
    for now in [at(0), at(86_400 * 1_000_000_000)] {
        let Take::Granted(full_at) = scale.take(0, scale.cost(1), Reading::exact(now)) else {
            panic!("it starts full")
        };
        let wait = scale.wait(full_at, scale.cost(1), now);
        assert!(wait.abs_diff(PER_MAX) <= Duration::from_secs(2), "{wait:?}");
    }
}

// RL-12: fewer than 4 tokens per nanosecond, as documented.
#[test]
fn the_highest_rate_is_below_four_a_nanosecond() {
    let quota = |rate| Quota::new(rate, Duration::from_nanos(1), None);
    let scale = quota(3.9).unwrap().scale();
    assert_eq!(scale.tokens(scale.units(at(1_000_000_000))).round(), 3.9e9 - 1.0, "3.9 is a little less in binary");
    assert!(quota(4.0_f64.next_down()).is_ok());
    let error = quota(4.0).unwrap_err().to_string();
    assert_eq!(error, "`rate` is 4 per 1ns, but must be less than 4 per nanosecond");
}

#[test]
fn units_convert_to_whole_tokens() {
    let scale = Scale::new(1 << 62, 8, 24);
    assert_eq!((scale.cost(0), scale.cost(3), scale.tokens(12)), (0, 24, 1.5));
}
