use alloc::string::ToString;
use core::time::Duration;

use proptest::prelude::*;

use super::*;

const BOOT: &str = "7bd8a1f2-0c0e-4b8e-9d58-2f1f4d1d0b6a";
const MAX_AGE: Duration = Duration::from_secs(30);
const SECOND: i128 = 1_000_000_000;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn host() -> Host {
    Host {
        hostname: "web-1".to_string(),
        boot_id: Some(BOOT.to_string()),
        pid_namespace: Some("pid:[4026531836]".to_string()),
        time_namespace: Some("time:[4026531834]".to_string()),
    }
}

/// Written 1000 s after boot, when the wall clock showed 5000 s.
fn beat() -> Beat {
    Beat { status: Some(Status::Ready), host: host(), at: stamp(5000, 1000) }
}

fn stamp(wall: i128, boottime: u64) -> Stamp {
    Stamp { wall_nanos: wall * SECOND, boottime: Some(secs(boottime)) }
}

/// What a reader on the same machine says, who sees the process started 500 s after boot.
fn seen(beat: &Beat, now: Stamp) -> Liveness {
    beat.liveness(&host(), now, Process::StartedAt(secs(500)), MAX_AGE)
}

// HB-7: on the same boot a step of the wall clock changes nothing, neither way.
#[test]
fn on_the_same_boot_age_is_by_boot_time() {
    for wall in [5010, 0, 5000 - 86_400, 5000 + 86_400, i128::from(u64::MAX)] {
        assert_eq!(seen(&beat(), stamp(wall, 1010)), Liveness::Alive { age: secs(10) }, "{wall}");
        assert_eq!(seen(&beat(), stamp(wall, 1031)), Liveness::Stale { age: secs(31) }, "{wall}");
    }
    assert_eq!(seen(&beat(), stamp(5010, 1030)), Liveness::Alive { age: secs(30) });
}

// HB-7: otherwise by time stamp, and a beat of more than 5 s in the future is no sign of life.
#[test]
fn without_a_shared_boot_age_is_by_time_stamp() {
    let other_boot = |beat: &mut Beat| beat.host.boot_id = Some("another".to_string());
    let no_boot = |beat: &mut Beat| beat.host.boot_id = None;
    let no_boottime = |beat: &mut Beat| beat.at.boottime = None;
    let other_clock = |beat: &mut Beat| beat.host.time_namespace = Some("time:[1]".to_string());
    for change in [other_boot as fn(&mut Beat), no_boot, no_boottime, other_clock] {
        let mut beat = beat();
        change(&mut beat);
        assert_eq!(seen(&beat, stamp(5030, 9999)), Liveness::Alive { age: secs(30) });
        assert_eq!(seen(&beat, stamp(5031, 1001)), Liveness::Stale { age: secs(31) });
        assert_eq!(seen(&beat, stamp(4995, 1001)), Liveness::Alive { age: Duration::ZERO });
        assert_eq!(seen(&beat, stamp(4994, 1001)), Liveness::FromFuture { ahead: secs(6) });
    }
    // A reader that has no boot clock, or no boot id, shares none.
    assert_eq!(seen(&beat(), Stamp { wall_nanos: 5031 * SECOND, boottime: None }), Liveness::Stale { age: secs(31) });
    let mut unknown = beat();
    unknown.host.boot_id = None;
    let reader = Host { boot_id: None, ..host() };
    assert_eq!(
        unknown.liveness(&reader, stamp(5031, 1001), Process::Unknown, MAX_AGE),
        Liveness::Stale { age: secs(31) }
    );
}

// HB-7: a boot time from the future of the same boot is not believed.
#[test]
fn a_boot_time_from_the_future_is_no_sign_of_life() {
    assert_eq!(seen(&beat(), stamp(5000, 994)), Liveness::FromFuture { ahead: secs(6) });
}

// HB-7: a process that is gone is dead at once, and so is one whose id another has now.
#[test]
fn a_process_that_is_gone_is_dead_at_once() {
    let verdict = |process| beat().liveness(&host(), stamp(5000, 1000), process, MAX_AGE);
    assert_eq!(verdict(Process::Gone), Liveness::ProcessGone);
    assert_eq!(verdict(Process::StartedAt(Duration::from_millis(1_000_001))), Liveness::ProcessGone);
    assert_eq!(verdict(Process::StartedAt(secs(1000))), Liveness::Alive { age: Duration::ZERO });
    assert_eq!(verdict(Process::Unknown), Liveness::Alive { age: Duration::ZERO });
}

// HB-7: an id says nothing in another id namespace, on another boot, or on another machine.
#[test]
fn a_pid_means_the_same_only_where_ids_are_counted_together() {
    let with = |change: fn(&mut Host)| {
        let mut reader = host();
        change(&mut reader);
        beat().pid_means_the_same(&reader)
    };
    assert!(with(|_| {}));
    assert!(with(|reader| reader.hostname = "renamed".to_string()));
    assert!(with(|reader| reader.pid_namespace = None));
    assert!(!with(|reader| {
        reader.pid_namespace = None;
        reader.hostname = "container".to_string();
    }));
    assert!(!with(|reader| reader.pid_namespace = Some("pid:[2]".to_string())));
    assert!(!with(|reader| reader.boot_id = Some("another".to_string())));
    assert!(!with(|reader| reader.boot_id = None));
}

// HB-7: who stopped cleanly is not alive, however fresh the file and whatever became of the process.
#[test]
fn stopped_is_not_alive() {
    let stopped = Beat { status: Some(Status::Stopped), ..beat() };
    assert_eq!(seen(&stopped, stamp(5000, 1000)), Liveness::Stopped);
    assert_eq!(stopped.liveness(&host(), stamp(5000, 1000), Process::Gone, MAX_AGE), Liveness::Stopped);
    for status in [None, Some(Status::Starting), Some(Status::Degraded), Some(Status::Stopping)] {
        assert!(seen(&Beat { status, ..beat() }, stamp(5000, 1000)).is_alive());
    }
}

/// Whether the beat of another heartbeat makes it a rival to one that looks 10 s later.
fn rival(beat: &Beat, process: Process, news: bool) -> Rival {
    let liveness = beat.liveness(&host(), stamp(5010, 1010), process, MAX_AGE);
    beat.rival(&host(), liveness, process, news)
}

// HB-10: a process that was looked up decides at once; one that is gone, reused or has stopped is no rival.
#[test]
fn a_rival_is_a_writer_that_runs() {
    let [alive, reused] = [500, 1001].map(|secs_| Process::StartedAt(secs(secs_)));
    let stopped = Beat { status: Some(Status::Stopped), ..beat() };
    let silent = Beat { at: stamp(4900, 900), ..beat() };
    for news in [false, true] {
        assert_eq!(rival(&beat(), alive, news), Rival::Certain);
        for process in [Process::Gone, reused] {
            assert_eq!(rival(&beat(), process, news), Rival::No);
        }
        assert_eq!(rival(&stopped, alive, news), Rival::No);
    }
    assert_eq!(rival(&silent, alive, false), Rival::No);
    assert_eq!(rival(&silent, alive, true), Rival::Certain);
    assert_eq!(rival(&beat(), Process::Unknown, false), Rival::Possible, "it exists, and hides when it was started");
}

// HB-10: elsewhere only news prove a writer; a fresh beat of another host may be one's, of this host it was left behind.
#[test]
fn a_rival_elsewhere_shows_by_its_beats() {
    let elsewhere = |change: fn(&mut Host)| {
        let mut beat = beat();
        change(&mut beat.host);
        [false, true].map(|news| rival(&beat, Process::Unknown, news))
    };
    let restarted_container: fn(&mut Host) = |host| host.pid_namespace = Some("pid:[2]".to_string());
    let restarted_machine: fn(&mut Host) = |host| host.boot_id = Some("another".to_string());
    for restarted in [restarted_container, restarted_machine] {
        assert_eq!(elsewhere(restarted), [Rival::No, Rival::Certain]);
    }
    let other_host = |host: &mut Host| {
        host.hostname = "web-2".to_string();
        host.boot_id = Some("another".to_string());
    };
    assert_eq!(elsewhere(other_host), [Rival::Possible, Rival::Certain]);
    // Its clock is an hour ahead, or behind.
    for wall in [8600, 1400] {
        let mut beat = Beat { at: stamp(wall, 1000), ..beat() };
        other_host(&mut beat.host);
        assert_eq!([false, true].map(|news| rival(&beat, Process::Unknown, news)), [Rival::No, Rival::Certain]);
    }
}

#[test]
fn every_status_is_found_by_its_word() {
    for status in Status::ALL {
        assert_eq!(Status::from_word(status.as_str()), Some(status));
    }
    assert_eq!(Status::from_word("Ready"), None);
    for cause in DegradedBy::ALL {
        assert_eq!(DegradedBy::from_word(cause.as_str()), Some(cause));
    }
    assert_eq!(DegradedBy::from_word("Watchdog"), None);
}

// HB-8: a dead target degrades what lives, and the cause is named; what stops keeps its status.
#[test]
fn a_dead_target_degrades_what_lives() {
    for dead in [DegradedBy::Target, DegradedBy::Watchdog] {
        assert_eq!(
            Status::ALL.map(|status| status.with_dead_target(Some(dead))),
            [
                (Status::Degraded, Some(dead)),
                (Status::Degraded, Some(dead)),
                (Status::Degraded, Some(dead)),
                (Status::Stopping, None),
                (Status::Stopped, None)
            ]
        );
    }
    for status in Status::ALL {
        let cause = (status == Status::Degraded).then_some(DegradedBy::Service);
        assert_eq!(status.with_dead_target(None), (status, cause));
    }
    assert!(DegradedBy::Service < DegradedBy::Target && DegradedBy::Target < DegradedBy::Watchdog);
}

// HB-1: whole intervals after the first beat, however late each one was.
#[test]
fn beats_do_not_drift() {
    let start = Moment::from_nanos(7);
    let schedule = Schedule::new(start, secs(10));
    assert_eq!(schedule.next(start), start + secs(10));
    assert_eq!(schedule.next(start + Duration::from_millis(10_900)), start + secs(20));
    assert_eq!(schedule.next(start + Duration::from_millis(29_999)), start + secs(30));
    // Slept through 30, 40 and 50: one beat, not four.
    assert_eq!(schedule.next(start + secs(55)), start + secs(60));
    assert_eq!(schedule.next(Moment::ORIGIN), start);
}

proptest! {
    #![proptest_config(crate::cases(512))]

    // HB-1: against a list of the due times.
    #[test]
    fn the_next_beat_is_the_first_due_after_now(first in 0_u64..1000, interval in 1_u64..100, now in 0_u64..5000) {
        let due = (0..).map(|k| first + k * interval).find(|due| *due > now || now < first).unwrap();
        let schedule = Schedule::new(Moment::from_nanos(first), Duration::from_nanos(interval));
        prop_assert_eq!(schedule.next(Moment::from_nanos(now)), Moment::from_nanos(due));
    }

    // ALL-1: nonsense neither panics nor counts as life that is older than `max_age`.
    #[test]
    fn no_input_panics(first: u64, interval: Duration, now: u64, wall: i128, read_wall: i128, boot: Duration,
                       read_boot: Duration, started: Duration, max_age: Duration, same_boot: bool) {
        let _ = Schedule::new(Moment::from_nanos(first), interval).next(Moment::from_nanos(now));
        let mut beat = Beat { at: Stamp { wall_nanos: wall, boottime: Some(boot) }, ..beat() };
        if !same_boot {
            beat.host.boot_id = None;
        }
        let now = Stamp { wall_nanos: read_wall, boottime: Some(read_boot) };
        let verdict = beat.liveness(&host(), now, Process::StartedAt(started), max_age);
        prop_assert!(!verdict.to_string().is_empty());
        if let Liveness::Alive { age } = verdict {
            prop_assert!(age <= max_age);
        }
    }
}

#[test]
fn a_slow_beat_is_given_more_time_within_bounds() {
    assert_eq!(tolerated_age(None), secs(30));
    assert_eq!(tolerated_age(Some(secs(1))), secs(30));
    assert_eq!(tolerated_age(Some(secs(60))), secs(180));
    assert_eq!(tolerated_age(Some(Duration::MAX)), secs(900));
}

#[test]
fn words_and_numbers_of_the_state_file() {
    assert_eq!(MAX_FILE_SIZE, 1_048_576);
    assert_eq!(Status::Degraded.to_string(), "degraded");
    assert_eq!(
        [DegradedBy::Service, DegradedBy::Target, DegradedBy::Watchdog].map(|cause| cause.to_string()),
        ["service", "target", "watchdog"]
    );
    for cause in DegradedBy::ALL {
        assert_eq!(DegradedBy::from_word(cause.as_str()), Some(cause));
    }
    assert_eq!(DegradedBy::from_word("Target"), None);
}

// HB-7: of all that a beat can tell, one is life.
#[test]
fn one_verdict_is_alive_and_each_says_why() {
    let second = Duration::from_millis(1_250);
    let verdicts = [
        (Liveness::Alive { age: second }, "alive, last beat 1.2 s ago"),
        (Liveness::Stale { age: second }, "stale, last beat 1.2 s ago"),
        (Liveness::FromFuture { ahead: second }, "last beat 1.2 s in the future"),
        (Liveness::ProcessGone, "its process is gone"),
        (Liveness::Stopped, "stopped"),
    ];
    for (verdict, text) in verdicts {
        assert_eq!(
            (verdict.to_string().as_str(), verdict.is_alive()),
            (text, matches!(verdict, Liveness::Alive { .. }))
        );
    }
}
