use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: f64) -> Moment {
    Moment::ORIGIN + Duration::from_secs_f64(seconds)
}

fn tolerance(seconds: u64) -> Tolerance {
    Tolerance { timeout: Duration::from_secs(seconds), staleness: Duration::from_millis(16) }
}

// WD-1: the watchdog fires after `timeout` without a ping, and not earlier although the ping's clock reading was stale.
#[test]
fn inactivity_fires_after_the_timeout_and_never_before() {
    let watching = PingState::started(at(100.0));
    let due = at(130.016);
    let just_before = Moment::from_nanos(due.as_nanos() - 1);
    assert_eq!(check(watching, tolerance(30), &ClockGaps::default(), just_before), CheckResult::WaitUntil(due));
    let result = check(watching, tolerance(30), &ClockGaps::default(), due);
    assert_eq!(result, CheckResult::Fire { inactive: due.since(at(100.0)) });
}

// WD-1: clamped to 1 s to 3600 s.
#[test]
fn timeouts_are_clamped() {
    assert_eq!(DEFAULT_TIMEOUT, 30 * SECOND);
    assert_eq!(clamp_timeout(Duration::ZERO), SECOND);
    assert_eq!(clamp_timeout(Duration::from_millis(999)), SECOND);
    assert_eq!(clamp_timeout(5 * SECOND), 5 * SECOND);
    assert_eq!(clamp_timeout(3601 * SECOND), 3600 * SECOND);
    assert_eq!(clamp_timeout(Duration::MAX), 3600 * SECOND);
    assert_eq!(default_check_interval(30 * SECOND), 15 * SECOND);
    assert_eq!(default_check_interval(SECOND), SECOND);
    assert_eq!(default_check_interval(Duration::MAX), 3600 * SECOND);
    assert!(
        !is_valid_timeout(Duration::ZERO)
            && !is_valid_timeout(Duration::MAX)
            && is_valid_timeout(Duration::from_nanos(1))
    );
}

// WD-3: it fires once per freeze. After a ping, the next freeze fires it again.
#[test]
fn a_fired_watchdog_fires_again_only_after_a_ping_and_another_freeze() {
    let fired = PingState::started(at(0.0)).fired(false);
    assert!(fired.is_triggered());
    assert_eq!(check(fired, tolerance(30), &ClockGaps::default(), at(31.0)), CheckResult::WaitUntil(at(61.0)));
    assert_eq!(check(fired, tolerance(30), &ClockGaps::default(), at(3000.0)), CheckResult::WaitUntil(at(3030.0)));

    let pinged = fired.pinged(at(31.0));
    assert!(!pinged.is_triggered());
    assert_eq!(check(pinged, tolerance(30), &ClockGaps::default(), at(61.0)), CheckResult::WaitUntil(at(61.016)));
    assert!(matches!(check(pinged, tolerance(30), &ClockGaps::default(), at(61.016)), CheckResult::Fire { .. }));
}

// WD-2: threads ping in any order. A late store of an earlier clock reading does not replace a later one.
#[test]
fn a_late_store_of_an_earlier_reading_changes_nothing() {
    let pinged = PingState::started(at(10.0));
    assert_eq!(pinged.pinged(at(3.0)), pinged);
    assert_eq!(pinged.pinged(at(10.0)), pinged);
    let fired = pinged.fired(true);
    assert_eq!(fired.pinged(at(9.0)), fired);
}

// WD-5: a firing makes one error pending; a ping does not clear it.
#[test]
fn a_pending_error_stays_until_it_is_returned() {
    let fired = PingState::started(at(1.0)).fired(true);
    assert!(fired.has_pending_error() && fired.pinged(at(2.0)).has_pending_error());
    let returned = fired.pinged(at(2.0)).error_returned();
    assert!(!returned.has_pending_error());
    assert_eq!(returned.last_ping(), at(2.0));
    assert!(!PingState::started(at(1.0)).fired(false).has_pending_error());
}

// ALL-1: extreme times saturate.
#[test]
fn extreme_times_do_not_change_the_flags() {
    let state = PingState::started(Moment::NEVER);
    assert!(!state.is_triggered() && !state.has_pending_error());
    assert_eq!(state.pinged(Moment::NEVER), state);
    let last = Moment::from_nanos((1 << 62) - 1);
    assert_eq!(state.last_ping(), last);
    assert_eq!(PingState::started(Moment::from_nanos(1 << 62)).last_ping(), last);
    assert_eq!(PingState::started(last).last_ping(), last);
    let tolerance = Tolerance { timeout: Duration::MAX, staleness: Duration::MAX };
    assert_eq!(
        check(PingState::started(at(1.0)), tolerance, &ClockGaps::default(), at(2.0)),
        CheckResult::WaitUntil(Moment::NEVER)
    );
}

// WD-7: a long gap restarts the timeout.
#[test]
fn a_clock_gap_is_not_a_freeze() {
    let mut gaps = ClockGaps::default();
    assert_eq!(gaps.record_wakeup(at(10.0), at(10.05)), None);
    assert_eq!(gaps.record_wakeup(at(10.0), at(9.0)), None);
    assert_eq!(gaps.record_wakeup(at(10.0), at(100.0)), Some(90 * SECOND));

    let watching = PingState::started(at(9.0));
    assert_eq!(check(watching, tolerance(30), &gaps, at(100.0)), CheckResult::WaitUntil(at(130.016)));
    assert_eq!(
        check(watching, tolerance(30), &gaps, at(130.016)),
        CheckResult::Fire { inactive: at(130.016).since(at(100.0)) }
    );
    // The gap does not affect a watchdog that was pinged after it.
    assert_eq!(
        check(PingState::started(at(101.0)), tolerance(30), &gaps, at(102.0)),
        CheckResult::WaitUntil(at(131.016))
    );
}

// WD-7: both bounds, on each side.
#[test]
fn a_gap_is_at_least_100_ms_and_a_long_gap_a_quarter_of_the_timeout() {
    let nanosecond = Duration::from_nanos(1);
    let gap = |length: Duration| {
        let mut gaps = ClockGaps::default();
        let seen = gaps.record_wakeup(at(10.0), at(10.0) + length);
        (seen, gaps)
    };
    assert_eq!(gap(Duration::from_millis(100)).0, Some(Duration::from_millis(100)));
    assert_eq!(gap(Duration::from_millis(100) - nanosecond).0, None);
    assert_eq!(MAX_SLEEP, Duration::from_millis(250));

    let (timeout, short) = (8 * SECOND, 2 * SECOND - nanosecond);
    let (_, long) = gap(2 * SECOND);
    assert_eq!(long.inactive_since(at(9.0), timeout), at(12.0));
    assert_eq!(long.inactive_since(at(12.0), timeout), at(12.0));
    assert_eq!(long.inactive_since(at(12.5), timeout), at(12.5));
    let (_, gaps) = gap(short);
    assert_eq!(gaps.inactive_since(at(9.0), timeout), at(9.0) + short);
    assert_eq!(gaps.inactive_since(at(11.0), timeout), at(10.0) + short, "pinged during the gap");
    assert_eq!(gaps.inactive_since(at(12.5), timeout), at(12.5));
}

// WD-7: a freeze is detected on a machine that is always late.
#[test]
fn short_gaps_are_only_subtracted() {
    let mut gaps = ClockGaps::default();
    let mut now = 0.0;
    for _ in 0..1000 {
        gaps.record_wakeup(at(now + 0.25), at(now + 0.5));
        now += 0.5;
        if let CheckResult::Fire { inactive } = check(PingState::started(at(0.0)), tolerance(5), &gaps, at(now)) {
            assert!(now >= 7.5 && inactive >= 5 * SECOND, "fired after {now} s");
            return;
        }
    }
    panic!("the freeze was never detected");
}

// WD-7: many short gaps do not displace a long one.
#[test]
fn the_shortest_gap_is_dropped_first() {
    let mut gaps = ClockGaps::default();
    gaps.record_wakeup(at(10.0), at(7000.0));
    for i in 0..100 {
        let now = 7001.0 + f64::from(i);
        gaps.record_wakeup(at(now), at(now + 0.2));
    }
    assert!(gaps.inactive_since(at(5.0), 3600 * SECOND) >= at(7000.0));
}

// WD-4: an item is due exactly at the time that `next_due` returns.
#[test]
fn an_item_is_due_at_next_due() {
    let mut queue = DeadlineQueue::default();
    assert_eq!(queue.next_due(), None);
    queue.insert(Moment::from_nanos(1), "a");
    let due = Moment::from_nanos(4_194_304);
    assert_eq!((queue.next_due(), SLOT_LENGTH), (Some(due), due.since(Moment::ORIGIN)));
    assert!(queue.take_due(Moment::from_nanos(4_194_303)).is_empty());
    assert_eq!(queue.take_due(due), ["a"]);
}

proptest! {
    #![proptest_config(crate::cases(256))]

    // WD-4: items are due in any order of insertion, never early and at most one slot late.
    #[test]
    fn every_item_is_due_in_its_slot(dues in prop::collection::vec(0u64..50_000_000, 1..60), step in 1u64..9_000_000) {
        let mut queue = DeadlineQueue::default();
        for &due in &dues {
            queue.insert(Moment::from_nanos(due), due);
        }
        prop_assert_eq!(queue.len(), dues.len());
        let mut taken = 0;
        let mut now = Moment::ORIGIN;
        while !queue.is_empty() {
            let next = queue.next_due().unwrap();
            let is_due = next <= now;
            for due in queue.take_due(now) {
                prop_assert!(is_due);
                prop_assert!(due <= now.as_nanos());
                prop_assert!(now.as_nanos() < due + nanos(SLOT_LENGTH) + step);
                taken += 1;
            }
            now = now + Duration::from_nanos(step);
        }
        prop_assert_eq!(taken, dues.len());
    }

    #[test]
    fn retain_updates_the_length(dues in prop::collection::vec(0u64..50_000_000, 0..60)) {
        let mut queue = DeadlineQueue::default();
        for &due in &dues {
            queue.insert(Moment::from_nanos(due), due);
        }
        queue.retain(|due| due % 2 == 0);
        let kept = dues.iter().filter(|due| *due % 2 == 0).count();
        prop_assert_eq!(queue.len(), kept);
        prop_assert_eq!(queue.take_due(Moment::NEVER).len(), kept);
    }

    // WD-1, WD-3, WD-5: pings, firings and returned errors in any order, compared with a simple model.
    #[test]
    fn a_state_matches_its_history(steps in prop::collection::vec((0u8..4, 1u64..5), 0..80)) {
        let mut now = 1;
        let mut state = PingState::started(Moment::from_nanos(now));
        let (mut last, mut triggered, mut pending) = (now, false, 0);
        for (step, pause) in steps {
            now += pause;
            match step {
                0 => { state = state.pinged(Moment::from_nanos(now)); last = now; triggered = false; }
                1 | 2 => { state = state.fired(step == 1); triggered = true; if step == 1 { pending += 1; } }
                _ => { state = state.error_returned(); pending = 0; }
            }
            prop_assert_eq!(state.last_ping(), Moment::from_nanos(last));
            prop_assert_eq!(state.is_triggered(), triggered);
            prop_assert_eq!(state.has_pending_error(), pending > 0);
            prop_assert_eq!(PingState::from_bits(state.to_bits()), state);
        }
    }
}
