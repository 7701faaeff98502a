use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: f64) -> Moment {
    Moment::ORIGIN + Duration::from_secs_f64(seconds)
}

fn patience(seconds: u64) -> Patience {
    Patience { timeout: Duration::from_secs(seconds), staleness: Duration::from_millis(16) }
}

// WD-1: `timeout` without a ping fires, not a nanosecond earlier, whatever a stale clock made of the ping's time.
#[test]
fn silence_fires_after_the_timeout_and_never_before() {
    let watching = Pulse::started(at(100.0));
    let due = at(130.016);
    let just_before = Moment::from_nanos(due.as_nanos() - 1);
    assert_eq!(judge(watching, patience(30), &Holes::default(), just_before), Verdict::LookAgain(due));
    let verdict = judge(watching, patience(30), &Holes::default(), due);
    assert_eq!(verdict, Verdict::Fire { inactive: due.since(at(100.0)) });
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
    assert!(!is_sensible(Duration::ZERO) && !is_sensible(Duration::MAX) && is_sensible(Duration::from_nanos(1)));
}

// WD-3: once per freeze; a ping sets it back to watching, and the next freeze fires it again.
#[test]
fn a_fired_watchdog_is_quiet_until_a_ping_and_the_next_freeze() {
    let fired = Pulse::started(at(0.0)).fired(false);
    assert!(fired.is_triggered());
    assert_eq!(judge(fired, patience(30), &Holes::default(), at(31.0)), Verdict::LookAgain(at(61.0)));
    assert_eq!(judge(fired, patience(30), &Holes::default(), at(3000.0)), Verdict::LookAgain(at(3030.0)));

    let pinged = fired.pinged(at(31.0));
    assert!(!pinged.is_triggered());
    assert_eq!(judge(pinged, patience(30), &Holes::default(), at(61.0)), Verdict::LookAgain(at(61.016)));
    assert!(matches!(judge(pinged, patience(30), &Holes::default(), at(61.016)), Verdict::Fire { .. }));
}

// WD-2: threads ping in any order; one that read the clock long ago and is late with its store takes nothing back.
#[test]
fn a_late_store_of_an_old_reading_changes_nothing() {
    let pinged = Pulse::started(at(10.0));
    assert_eq!(pinged.pinged(at(3.0)), pinged);
    assert_eq!(pinged.pinged(at(10.0)), pinged);
    let fired = pinged.fired(true);
    assert_eq!(fired.pinged(at(9.0)), fired);
}

// WD-5: a firing is owed once; a ping does not pay it.
#[test]
fn what_is_owed_stays_owed_until_it_is_raised() {
    let fired = Pulse::started(at(1.0)).fired(true);
    assert!(fired.is_owed() && fired.pinged(at(2.0)).is_owed());
    let raised = fired.pinged(at(2.0)).raised();
    assert!(!raised.is_owed());
    assert_eq!(raised.last_ping(), at(2.0));
    assert!(!Pulse::started(at(1.0)).fired(false).is_owed());
}

// ALL-1
#[test]
fn nonsense_moments_keep_their_flags_apart() {
    let pulse = Pulse::started(Moment::NEVER);
    assert!(!pulse.is_triggered() && !pulse.is_owed());
    assert_eq!(pulse.pinged(Moment::NEVER), pulse);
    let last = Moment::from_nanos((1 << 62) - 1);
    assert_eq!(pulse.last_ping(), last);
    assert_eq!(Pulse::started(Moment::from_nanos(1 << 62)).last_ping(), last);
    assert_eq!(Pulse::started(last).last_ping(), last);
    let patience = Patience { timeout: Duration::MAX, staleness: Duration::MAX };
    assert_eq!(judge(Pulse::started(at(1.0)), patience, &Holes::default(), at(2.0)), Verdict::LookAgain(Moment::NEVER));
}

// WD-7: a long hole starts the clock again.
#[test]
fn a_hole_is_nobodys_freeze() {
    let mut holes = Holes::default();
    assert_eq!(holes.woke(at(10.0), at(10.05)), None);
    assert_eq!(holes.woke(at(10.0), at(9.0)), None);
    assert_eq!(holes.woke(at(10.0), at(100.0)), Some(90 * SECOND));

    let watching = Pulse::started(at(9.0));
    assert_eq!(judge(watching, patience(30), &holes, at(100.0)), Verdict::LookAgain(at(130.016)));
    assert_eq!(
        judge(watching, patience(30), &holes, at(130.016)),
        Verdict::Fire { inactive: at(130.016).since(at(100.0)) }
    );
    // One that was pinged afterwards has nothing to do with it.
    assert_eq!(judge(Pulse::started(at(101.0)), patience(30), &holes, at(102.0)), Verdict::LookAgain(at(131.016)));
}

// WD-7: the bounds, at both sides.
#[test]
fn a_hole_is_100_ms_long_and_a_long_one_a_quarter_of_the_timeout() {
    let nanosecond = Duration::from_nanos(1);
    let hole = |length: Duration| {
        let mut holes = Holes::default();
        let seen = holes.woke(at(10.0), at(10.0) + length);
        (seen, holes)
    };
    assert_eq!(hole(Duration::from_millis(100)).0, Some(Duration::from_millis(100)));
    assert_eq!(hole(Duration::from_millis(100) - nanosecond).0, None);
    assert_eq!(NAP, Duration::from_millis(250));

    let (timeout, short) = (8 * SECOND, 2 * SECOND - nanosecond);
    let (_, long) = hole(2 * SECOND);
    assert_eq!(long.excused(at(9.0), timeout), at(12.0));
    assert_eq!(long.excused(at(12.0), timeout), at(12.0));
    assert_eq!(long.excused(at(12.5), timeout), at(12.5));
    let (_, holes) = hole(short);
    assert_eq!(holes.excused(at(9.0), timeout), at(9.0) + short);
    assert_eq!(holes.excused(at(11.0), timeout), at(10.0) + short, "pinged within the hole");
    assert_eq!(holes.excused(at(12.5), timeout), at(12.5));
}

// WD-7: a machine that is late all the time does not keep a freeze from being seen.
#[test]
fn short_holes_are_left_out_and_no_more() {
    let mut holes = Holes::default();
    let mut now = 0.0;
    for _ in 0..1000 {
        holes.woke(at(now + 0.25), at(now + 0.5));
        now += 0.5;
        if let Verdict::Fire { inactive } = judge(Pulse::started(at(0.0)), patience(5), &holes, at(now)) {
            assert!(now >= 7.5 && inactive >= 5 * SECOND, "fired after {now} s");
            return;
        }
    }
    panic!("a frozen thread was never seen");
}

// WD-7: many short holes do not push out the memory of a long one.
#[test]
fn the_shortest_hole_is_forgotten_first() {
    let mut holes = Holes::default();
    holes.woke(at(10.0), at(7000.0));
    for i in 0..100 {
        let now = 7001.0 + f64::from(i);
        holes.woke(at(now), at(now + 0.2));
    }
    assert!(holes.excused(at(5.0), 3600 * SECOND) >= at(7000.0));
}

// WD-4: it comes out in the very moment for which the monitor was told to wake.
#[test]
fn what_is_due_next_is_due_then() {
    let mut schedule = Schedule::default();
    assert_eq!(schedule.next_due(), None);
    schedule.insert(Moment::from_nanos(1), "a");
    let due = Moment::from_nanos(4_194_304);
    assert_eq!((schedule.next_due(), SLOT), (Some(due), due.since(Moment::ORIGIN)));
    assert!(schedule.take_due(Moment::from_nanos(4_194_303)).is_empty());
    assert_eq!(schedule.take_due(due), ["a"]);
}

proptest! {
    #![proptest_config(crate::cases(256))]

    // WD-4: what is due comes out, never early and at most one slot late, whatever the order.
    #[test]
    fn a_schedule_gives_everything_in_its_slot(dues in prop::collection::vec(0u64..50_000_000, 1..60), step in 1u64..9_000_000) {
        let mut schedule = Schedule::default();
        for &due in &dues {
            schedule.insert(Moment::from_nanos(due), due);
        }
        prop_assert_eq!(schedule.len(), dues.len());
        let mut out = 0;
        let mut now = Moment::ORIGIN;
        while !schedule.is_empty() {
            let next = schedule.next_due().unwrap();
            let late = next <= now;
            for due in schedule.take_due(now) {
                prop_assert!(late);
                prop_assert!(due <= now.as_nanos());
                prop_assert!(now.as_nanos() < due + nanos(SLOT) + step);
                out += 1;
            }
            now = now + Duration::from_nanos(step);
        }
        prop_assert_eq!(out, dues.len());
    }

    #[test]
    fn retain_drops_and_counts(dues in prop::collection::vec(0u64..50_000_000, 0..60)) {
        let mut schedule = Schedule::default();
        for &due in &dues {
            schedule.insert(Moment::from_nanos(due), due);
        }
        schedule.retain(|due| due % 2 == 0);
        let kept = dues.iter().filter(|due| *due % 2 == 0).count();
        prop_assert_eq!(schedule.len(), kept);
        prop_assert_eq!(schedule.take_due(Moment::NEVER).len(), kept);
    }

    // WD-1, WD-3, WD-5, against the rule in words: pings, firings and raisings in any order.
    #[test]
    fn a_pulse_is_what_its_history_says(steps in prop::collection::vec((0u8..4, 1u64..5), 0..80)) {
        let mut now = 1;
        let mut pulse = Pulse::started(Moment::from_nanos(now));
        let (mut last, mut triggered, mut owed) = (now, false, 0);
        for (step, pause) in steps {
            now += pause;
            match step {
                0 => { pulse = pulse.pinged(Moment::from_nanos(now)); last = now; triggered = false; }
                1 | 2 => { pulse = pulse.fired(step == 1); triggered = true; if step == 1 { owed += 1; } }
                _ => { pulse = pulse.raised(); owed = 0; }
            }
            prop_assert_eq!(pulse.last_ping(), Moment::from_nanos(last));
            prop_assert_eq!(pulse.is_triggered(), triggered);
            prop_assert_eq!(pulse.is_owed(), owed > 0);
            prop_assert_eq!(Pulse::from_bits(pulse.to_bits()), pulse);
        }
    }
}
