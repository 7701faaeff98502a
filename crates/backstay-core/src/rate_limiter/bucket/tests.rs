//! The arithmetic of a bucket, beside a naive one.

use alloc::string::ToString;

use proptest::prelude::*;

use super::*;
use crate::rate_limiter::{PER_MAX, Quota};

/// A nanosecond is one unit and a token ten; three tokens.
const SCALE: Scale = Scale::new(1 << TIME_SHIFT, 10, 30);

fn stale(earliest: u64, latest: u64) -> Reading {
    Reading::behind(Moment::from_nanos(earliest), latest.saturating_sub(earliest))
}

// RL-2: what a stale reading grants or refuses, every exact one in its range does too, with the same result.
#[test]
fn a_stale_reading_answers_only_where_every_time_in_its_range_agrees() {
    let (mut granted, mut refused) = (0, 0);
    for full_at in 80..160 {
        for (cost, staleness) in [(10, 1), (20, 2), (30, 5), (40, 1)] {
            let answer = SCALE.take(full_at, cost, stale(100, 100 + staleness));
            if answer == Take::Unclear {
                continue;
            }
            for now in 100..=100 + staleness {
                assert_eq!(SCALE.take(full_at, cost, stale(now, now)), answer, "{full_at} {cost} {staleness}");
            }
            if answer == Take::Refused { refused += 1 } else { granted += 1 }
        }
    }
    // Neither answer is unheard of.
    assert!(granted > 10 && refused > 50, "{granted} {refused}");
}

// RL-6
#[test]
fn a_place_gives_back_what_has_not_spilled() {
    let place = SCALE.reserve(130, 10, Moment::from_nanos(100));
    assert_eq!((place, SCALE.due(place)), (Place { full_at: 140, cost: 10 }, Moment::from_nanos(110)));
    let refund = |full_at, now| SCALE.refund(place, full_at, Moment::from_nanos(now));
    assert_eq!([refund(150, 105), refund(150, 130), refund(150, 134), refund(150, 200)], [10, 10, 6, 0]);
    assert_eq!(refund(140, 200), 10);
}

// RL-9: as many tokens as before, but no more than fit in; and those who wait go on lacking what they lack.
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
            let place = scale.reserve(full_at, scale.cost(u32::MAX), now);
            let _ = (scale.take(full_at, place.cost, stale(0, nanos)), scale.level(full_at, now), scale.due(place));
            let _ = (scale.refund(place, full_at, now), scale.wait(full_at, 1, now), scale.holding(f64::MAX, now));
        }
    }
}

/// The last nanosecond that a bucket counts, and the last time at which one can be full.
const LAST_NANOS: u64 = 1_152_921_504_606_846_975;
const LAST_FULL: u64 = 9_223_372_036_854_775_806;

fn at(nanos: u64) -> Moment {
    Moment::from_nanos(nanos)
}

fn exact(nanos: u64) -> Reading {
    Reading::exact(at(nanos))
}

/// Everyday times, times around the last one, and nonsense.
fn nanos() -> impl Strategy<Value = u64> {
    prop_oneof![0..10_000_u64, LAST_NANOS - 3..LAST_NANOS + 3, any::<u64>()]
}

/// A bucket of up to 20 tokens, of up to 4 units per nanosecond.
fn scales() -> impl Strategy<Value = Scale> {
    (1_u64 << 58..=u64::MAX, 0..6_u32, 1..20_u64, 0..32_u64).prop_map(|(multiplier, k, tokens, more)| {
        let token = 1 << k;
        Scale::new(multiplier, token, tokens * token + more % token)
    })
}

proptest! {
    #![proptest_config(crate::cases(512))]

    // RL-2: against the formula, up to the last nanosecond that counts and beyond it.
    #[test]
    fn units_are_nanoseconds_times_the_multiplier(multiplier: u64, nanos in nanos()) {
        let units = Scale::new(multiplier, 1, 1).units(at(nanos));
        prop_assert_eq!(u128::from(units), (u128::from(nanos.min(LAST_NANOS)) * u128::from(multiplier)) >> 62);
    }

    // RL-2: a token is there in the very nanosecond in which it is due, and not in the one before.
    #[test]
    fn a_moment_is_the_first_with_so_many_units(
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

    // RL-1, RL-2: against a bucket that is filled with what each pause brings.
    #[test]
    fn a_bucket_is_what_a_naive_one_is(scale in scales(), steps in prop::collection::vec((0..80_u64, 0..700_u64), 1..40)) {
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
                    prop_assert_eq!(refused, Take::Refused);
                    prop_assert!(cost > level);
                    prop_assert_eq!(wait == Duration::MAX, cost > scale.capacity);
                    if wait != Duration::MAX {
                        let due = now + crate::time::nanos(wait);
                        prop_assert!(matches!(scale.take(full_at, cost, exact(due)), Take::Granted(_)));
                        prop_assert_eq!(scale.take(full_at, cost, exact(due - 1)), Take::Refused);
                    }
                }
            }
        }
    }

    // RL-4: whoever reserves is due when a bucket that nobody else takes from would have the tokens.
    #[test]
    fn a_reservation_is_due_when_its_tokens_are_there(scale in scales(), full_at in 0..9000_u64, cost in 1..99_u64, now in 0..1000_u64) {
        prop_assume!(cost <= scale.capacity);
        let place = scale.reserve(full_at, cost, at(now));
        prop_assert_eq!(place, Place { full_at: full_at.max(scale.units(at(now))) + cost, cost });
        prop_assert_eq!(scale.due(place).since(at(now)), scale.wait(full_at, cost, at(now)));
    }

    // RL-1: a bucket holds what it is told to, and no more than fits in.
    #[test]
    fn a_bucket_holds_what_it_is_told_to(scale in scales(), quarters in 0..100_u32, now in 0..1000_u64) {
        let tokens = f64::from(quarters) / 4.0;
        let level = scale.level(scale.holding(tokens, at(now)), at(now));
        prop_assert_eq!(level, (u64::from(quarters) * scale.token / 4).min(scale.capacity));
    }

    // RL-9: as many tokens as before, rounded down, but no more than fit in; a debt stays one.
    #[test]
    fn a_new_scale_keeps_the_tokens(old in scales(), new in scales(), full_at in 0..9000_u64, now in 0..1000_u64) {
        let signed = i128::from;
        let level = signed(old.units(at(now))) + signed(old.capacity) - signed(full_at);
        let level = (level * signed(new.token)).div_euclid(signed(old.token)).min(signed(new.capacity));
        let full_at = old.convert(full_at, &new, at(now));
        prop_assert_eq!(signed(new.units(at(now))) + signed(new.capacity) - signed(full_at), level);
    }
}

// RL-2: a stale reading answers if and only if every time in its range has that answer. Here a nanosecond is as long as
// it gets, 4 units.
#[test]
fn a_stale_reading_answers_wherever_every_time_in_its_range_agrees() {
    let scale = Scale::new(u64::MAX, 16, 48);
    let (mut clear, mut unclear) = (0, 0);
    for (full_at, staleness) in (340..=480).flat_map(|full_at| (0..4).map(move |staleness| (full_at, staleness))) {
        for cost in [0, 16, 32, 48, 64] {
            let first = scale.take(full_at, cost, exact(100));
            let agreed = first == scale.take(full_at, cost, exact(100 + staleness));
            let answer = scale.take(full_at, cost, stale(100, 100 + staleness));
            assert_eq!(answer, if agreed { first } else { Take::Unclear }, "{full_at} {staleness} {cost}");
            if agreed { clear += 1 } else { unclear += 1 }
        }
    }
    assert!(clear > 500 && unclear > 500, "{clear} {unclear}");
}

// RL-2: after 36 years no tokens come, and a reservation beyond the last time stands at it.
#[test]
fn the_last_times_are_where_the_words_end() {
    assert_eq!(FULL_AT_MAX, LAST_FULL);
    let scale = Scale::new(1 << 62, 8, 24);
    assert_eq!(scale.moment(LAST_NANOS), at(LAST_NANOS));
    assert_eq!(scale.moment(LAST_NANOS + 1), Moment::NEVER);
    assert_eq!(scale.reserve(LAST_FULL - 1, 8, at(0)), Place { full_at: LAST_FULL, cost: 8 });
    assert_eq!(scale.reserve(u64::MAX, 8, at(0)).full_at, LAST_FULL);
    assert_eq!(scale.convert(u64::MAX, &Scale::new(1 << 62, 1 << 20, 1 << 21), at(0)), LAST_FULL);
    assert_eq!(scale.wait(LAST_FULL, 8, at(0)), Duration::MAX);
    // A time beyond the last one is told, until the last one has come.
    let place = scale.reserve(LAST_NANOS + 25, 1_000_000_000, at(0));
    assert_eq!(scale.due(place), Moment::NEVER);
    assert_eq!(scale.remaining(place, at(LAST_NANOS)), Duration::from_secs(1));
    assert_eq!(scale.remaining(place, at(LAST_NANOS + 1)), Duration::MAX);
}

// RL-8: a rate of one token in 500 years is no "never": its token takes 500 years.
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

// RL-12: up to 4 tokens a nanosecond, as the documentation says.
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
fn a_token_is_so_many_units() {
    let scale = Scale::new(1 << 62, 8, 24);
    assert_eq!((scale.cost(0), scale.cost(3), scale.tokens(12)), (0, 24, 1.5));
}
