//! Failure rate, slow calls and buckets, beside plain lists of outcomes.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

fn rates(failure_rate: f64, minimum_calls: u32) -> RatePolicy {
    let rates = Rates { failure_rate: Some(failure_rate), minimum_calls: Some(minimum_calls), ..Rates::default() };
    RatePolicy::new(&rates).unwrap().unwrap()
}

fn counts(calls: u64, failed: u64, slow: u64) -> WindowCounts {
    WindowCounts { calls, failed, slow }
}

// CB-14: at least the share, of at least the minimum; and only when a failure is reported.
#[test]
fn a_share_of_failures_opens() {
    let cause = |failed, calls| Some(Cause::FailureRate { failed, calls });
    let half = rates(0.5, 10);
    // 4 of 9 and 5 of 9: nine calls are fewer than ten. 4 of 10 is 0.4; 5 of 10 is 0.5; 5 of 11 is 0.4545...
    let cases = [(9, 5, None), (10, 4, None), (10, 5, cause(5, 10)), (11, 5, None), (11, 6, cause(6, 11))];
    for (calls, failed, expected) in cases {
        assert_eq!(half.trips(counts(calls, failed, 0), true, false), expected, "{failed} of {calls}");
        assert_eq!(half.trips(counts(calls, failed, 0), false, true), None, "a success, though slow");
    }
    assert_eq!(rates(1.0, 1).trips(counts(3, 2, 0), true, false), None);
    assert_eq!(rates(1.0, 1).trips(counts(1, 1, 0), true, false), cause(1, 1));
}

// CB-14: 0.07 * 100 is 7.000000000000001, but 7 of 100 calls are a share of 0.07.
#[test]
fn a_share_is_what_its_decimal_says() {
    for failed in 1..=100_u32 {
        let rate = f64::from(failed) / 100.0;
        let policy = rates(rate, 1);
        assert!(policy.trips(counts(100, failed.into(), 0), true, false).is_some(), "{failed}");
        assert!(policy.trips(counts(100, u64::from(failed) - 1, 0), true, false).is_none(), "{failed}");
    }
}

// CB-15: longer than the limit is slow; at least the share of slow calls opens; a fast failure is not held against it.
#[test]
fn a_share_of_slow_calls_opens() {
    let given = Rates { slow_call: Some(2 * SECOND), minimum_calls: Some(4), ..Rates::default() };
    let policy = RatePolicy::new(&given).unwrap().unwrap();
    assert_eq!(
        (policy.slow_call(), policy.slow_call_rate(), policy.failure_rate()),
        (Some(2 * SECOND), Some(1.0), None)
    );
    assert!(!policy.is_slow(2 * SECOND) && policy.is_slow(2 * SECOND + Duration::from_nanos(1)));
    assert_eq!(policy.trips(counts(4, 4, 3), false, true), None);
    assert_eq!(policy.trips(counts(3, 0, 3), false, true), None);
    assert_eq!(policy.trips(counts(4, 0, 4), false, true), Some(Cause::SlowCallRate { slow: 4, calls: 4 }));
    assert_eq!(policy.trips(counts(4, 1, 4), true, false), None);
    let given = Rates { slow_call_rate: Some(0.25), ..given };
    let policy = RatePolicy::new(&given).unwrap().unwrap();
    assert_eq!(policy.trips(counts(4, 0, 1), false, true), Some(Cause::SlowCallRate { slow: 1, calls: 4 }));
    assert!(!rates(0.5, 1).is_slow(Duration::MAX), "without a limit nothing is slow");
    assert_eq!(rates(0.5, 1).slow_call_rate(), None);
}

// CB-15: limits below 200 ms need the exact clock.
#[test]
fn short_limits_need_the_exact_clock() {
    let exact = |milliseconds| {
        let given = Rates { slow_call: Some(Duration::from_millis(milliseconds)), ..Rates::default() };
        RatePolicy::new(&given).unwrap().unwrap().needs_exact_clock()
    };
    assert_eq!([exact(1), exact(199), exact(200)], [true, true, false]);
    assert!(!rates(0.5, 1).needs_exact_clock());
}

// CB-13: the defaults, and that of minimum_calls in a small window of calls.
#[test]
fn defaults_of_rates() {
    assert_eq!(RatePolicy::new(&Rates::default()), Ok(None));
    let of = |window| {
        let given = Rates { failure_rate: Some(0.5), window, ..Rates::default() };
        let policy = RatePolicy::new(&given).unwrap().unwrap();
        (policy.window(), policy.minimum_calls())
    };
    assert_eq!(of(None), (Window::Time(10 * SECOND), 20));
    assert_eq!(of(Some(Window::calls(100))), (Window::Calls(100), 20));
    assert_eq!(of(Some(Window::calls(5))), (Window::Calls(5), 5));
    assert_eq!(of(Some(Window::time(SECOND))), (Window::Time(SECOND), 20));
}

// CB-13, CB-14, CB-15, ALL-1: what is invalid is an error that names the argument and what is allowed.
#[test]
fn invalid_rates() {
    use alloc::string::ToString;
    let error = |rates: Rates| RatePolicy::new(&rates).unwrap_err().to_string();
    let none = Rates::default();
    let share = Rates { failure_rate: Some(0.5), ..none };
    for rate in [f64::NAN, 0.0, -0.5, 1.000_000_1, f64::INFINITY] {
        let text = error(Rates { failure_rate: Some(rate), ..none });
        assert!(text.ends_with("must be a number above 0 and up to 1"), "{text}");
        let text = error(Rates { slow_call: Some(SECOND), slow_call_rate: Some(rate), ..none });
        assert!(text.starts_with("`slow_call_rate` is"), "{text}");
    }
    let of = |window| error(Rates { window: Some(window), ..share });
    assert_eq!(of(Window::time(Duration::ZERO)), "`window` is 0ns, but must be from 100 ms to 1 day");
    assert!(of(Window::time(Duration::from_secs(365 * 86_400))).starts_with("`window` is"));
    assert_eq!(of(Window::calls(0)), "`window_calls` is 0, but must be a whole number from 1 to 1000000");
    assert!(of(Window::calls(1_000_001)).starts_with("`window_calls` is 1000001"));
    assert_eq!(
        error(Rates { minimum_calls: Some(11), window: Some(Window::calls(10)), ..share }),
        "`minimum_calls` is 11, but must be at most the window of 10 calls"
    );
    assert!(error(Rates { minimum_calls: Some(0), ..share }).starts_with("`minimum_calls` is 0"));
    let slow = |limit| error(Rates { slow_call: Some(limit), ..none });
    assert_eq!(slow(Duration::ZERO), "`slow_call` is 0ns, but must be from 1 ms to 1 day");
    assert!(slow(Duration::from_secs(86_401)).starts_with("`slow_call` is"));
    let alone = "given together with `failure_rate` or `slow_call`";
    for given in [
        Rates { window: Some(Window::time(SECOND)), ..none },
        Rates { window: Some(Window::calls(3)), ..none },
        Rates { minimum_calls: Some(3), ..none },
    ] {
        assert!(error(given).ends_with(alone), "{given:?}");
    }
    assert!(error(Rates { slow_call_rate: Some(0.5), ..share }).ends_with("given together with `slow_call`"));
    let edges = [
        Rates { failure_rate: Some(f64::MIN_POSITIVE), window: Some(Window::time(Duration::from_millis(100))), ..none },
        Rates { failure_rate: Some(1.0), window: Some(Window::time(Duration::from_secs(86_400))), ..none },
        Rates { window: Some(Window::calls(1_000_000)), minimum_calls: Some(1_000_000), ..share },
        Rates { slow_call: Some(Duration::from_millis(1)), ..none },
    ];
    assert!(edges.iter().all(|rates| matches!(RatePolicy::new(rates), Ok(Some(_)))));
}

// CB-22: a cause has a name, and a phrase with its numbers.
#[test]
fn a_cause_is_shown_with_its_numbers() {
    use alloc::string::ToString;
    let cases = [
        (Cause::ConsecutiveFailures(5), "consecutive_failures", "5 consecutive failures"),
        (Cause::FailureRate { failed: 12, calls: 20 }, "failure_rate", "12 of 20 calls failed"),
        (Cause::SlowCallRate { slow: 3, calls: 4 }, "slow_call_rate", "3 of 4 calls were slow"),
        (Cause::RetryAfter(30 * SECOND), "retry_after", "the service asked to retry after 30s"),
        (Cause::HalfOpenFailure, "half_open_failure", "a half-open call failed"),
        (Cause::ResetTimeout, "reset_timeout", "the open period ended"),
        (Cause::Successes(2), "successes", "2 half-open calls succeeded"),
        (Cause::Manual, "manual", "manual"),
    ];
    for (cause, name, phrase) in cases {
        assert_eq!((cause.as_str(), cause.to_string().as_str()), (name, phrase));
    }
}

proptest! {
    #![proptest_config(crate::cases(256))]

    // CB-13: a bucket is in the window as a whole or not at all; the window covers nine tenths of its length at least,
    // and never more than the length.
    #[test]
    fn a_window_covers_nine_tenths_to_the_whole(
        length in prop_oneof![100_000_000..200_000_000_u64, Just(10_000_000_000), Just(86_400_000_000_000)],
        now in any::<u32>(), ages in prop::collection::vec(0.0..1.2_f64, 1..20),
    ) {
        let buckets = Buckets::of(Duration::from_nanos(length));
        let now = Moment::from_nanos(u64::from(now) * 1_000_003 + length);
        let last = buckets.number(now);
        prop_assert!(now < buckets.end(last) && last.checked_sub(1).is_none_or(|before| buckets.end(before) <= now));
        for age in ages {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let then = Moment::from_nanos(now.as_nanos() - ((length as f64 * age) as u64).min(now.as_nanos()));
            let inside = buckets.number(then) >= buckets.first(last);
            let age = now.since(then);
            prop_assert!(inside || age > Duration::from_nanos(length / 10 * 9));
            prop_assert!(!inside || age < Duration::from_nanos(length + 10));
        }
    }

    // CB-13, CB-14, CB-15: beside a list in which every outcome of the window is counted again at each report.
    #[test]
    fn rates_are_those_of_a_list(
        minimum in 1..8_u32, rate in 1..=10_u32, slow_rate in 1..=10_u32,
        outcomes in prop::collection::vec((any::<bool>(), any::<bool>()), 1..60),
    ) {
        let (rate, slow_rate) = (f64::from(rate) / 10.0, f64::from(slow_rate) / 10.0);
        let policy = RatePolicy::new(&Rates {
            failure_rate: Some(rate), window: Some(Window::calls(8)), minimum_calls: Some(minimum),
            slow_call: Some(SECOND), slow_call_rate: Some(slow_rate),
        }).unwrap().unwrap();
        let mut list: Vec<(bool, bool)> = Vec::new();
        for (failed, slow) in outcomes {
            list.push((failed, slow));
            let window = &list[list.len().saturating_sub(8)..];
            let (calls, failures) = (window.len(), window.iter().filter(|call| call.0).count());
            let slows = window.iter().filter(|call| call.1).count();
            let many = |part: usize, rate: f64| part as f64 / calls as f64 >= rate;
            let expected = calls >= minimum as usize && (failed && many(failures, rate) || slow && many(slows, slow_rate));
            let found = policy.trips(counts(calls as u64, failures as u64, slows as u64), failed, slow);
            prop_assert_eq!(found.is_some(), expected);
        }
    }
}

#[test]
fn times_at_the_end_of_all_time() {
    let buckets = Buckets::of(Duration::ZERO);
    assert_eq!(buckets.end(u64::MAX), Moment::NEVER);
    assert_eq!((buckets.number(Moment::NEVER), buckets.first(3)), (u64::MAX, 0));
}
