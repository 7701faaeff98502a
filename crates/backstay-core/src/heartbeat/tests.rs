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
    Beat { status: Some(Status::Ready), host: host(), at: timestamps(5000, 1000) }
}

fn timestamps(wall: i128, boottime: u64) -> Timestamps {
    Timestamps { wall_nanos: wall * SECOND, boottime: Some(secs(boottime)) }
}

/// Liveness for a reader on the same machine; the process was started 500 s after boot.
fn liveness_at(beat: &Beat, now: Timestamps) -> Liveness {
    beat.liveness(&host(), now, ProcessStatus::StartedAt(secs(500)), MAX_AGE)
}

// HB-7: on the same boot, steps of the wall clock change nothing.
#[test]
fn on_the_same_boot_age_is_by_boot_time() {
    for wall in [5010, 0, 5000 - 86_400, 5000 + 86_400, i128::from(u64::MAX)] {
        assert_eq!(liveness_at(&beat(), timestamps(wall, 1010)), Liveness::Alive { age: secs(10) }, "{wall}");
        assert_eq!(liveness_at(&beat(), timestamps(wall, 1031)), Liveness::Stale { age: secs(31) }, "{wall}");
    }
    assert_eq!(liveness_at(&beat(), timestamps(5010, 1030)), Liveness::Alive { age: secs(30) });
}

// HB-7: otherwise age is by timestamp. A beat more than 5 s in the future is not alive.
#[test]
fn without_a_shared_boot_age_is_by_timestamp() {
    let other_boot = |beat: &mut Beat| beat.host.boot_id = Some("another".to_string());
    let no_boot = |beat: &mut Beat| beat.host.boot_id = None;
    let no_boottime = |beat: &mut Beat| beat.at.boottime = None;
    let other_clock = |beat: &mut Beat| beat.host.time_namespace = Some("time:[1]".to_string());
    for change in [other_boot as fn(&mut Beat), no_boot, no_boottime, other_clock] {
        let mut beat = beat();
        change(&mut beat);
        assert_eq!(liveness_at(&beat, timestamps(5030, 9999)), Liveness::Alive { age: secs(30) });
        assert_eq!(liveness_at(&beat, timestamps(5031, 1001)), Liveness::Stale { age: secs(31) });
        assert_eq!(liveness_at(&beat, timestamps(4995, 1001)), Liveness::Alive { age: Duration::ZERO });
        assert_eq!(liveness_at(&beat, timestamps(4994, 1001)), Liveness::FromFuture { ahead: secs(6) });
    }
    // A reader without a boot clock or boot id cannot compare boot times.
    assert_eq!(
        liveness_at(&beat(), Timestamps { wall_nanos: 5031 * SECOND, boottime: None }),
        Liveness::Stale { age: secs(31) }
    );
    let mut unknown = beat();
    unknown.host.boot_id = None;
    let reader = Host { boot_id: None, ..host() };
    assert_eq!(
        unknown.liveness(&reader, timestamps(5031, 1001), ProcessStatus::Unknown, MAX_AGE),
        Liveness::Stale { age: secs(31) }
    );
}

// HB-7: a future boot time is not alive.
#[test]
fn a_boot_time_in_the_future_is_not_alive() {
    assert_eq!(liveness_at(&beat(), timestamps(5000, 994)), Liveness::FromFuture { ahead: secs(6) });
}

// HB-7: a process that is gone is dead at once, also if its id was reused.
#[test]
fn a_process_that_is_gone_is_dead_at_once() {
    let liveness = |process| beat().liveness(&host(), timestamps(5000, 1000), process, MAX_AGE);
    assert_eq!(liveness(ProcessStatus::Gone), Liveness::ProcessGone);
    assert_eq!(liveness(ProcessStatus::StartedAt(Duration::from_millis(1_000_001))), Liveness::ProcessGone);
    assert_eq!(liveness(ProcessStatus::StartedAt(secs(1000))), Liveness::Alive { age: Duration::ZERO });
    assert_eq!(liveness(ProcessStatus::Unknown), Liveness::Alive { age: Duration::ZERO });
}

// HB-7: a process id is meaningless in another namespace, on another boot, or on another machine.
#[test]
fn process_ids_are_shared_only_in_one_namespace_of_one_boot() {
    let with = |change: fn(&mut Host)| {
        let mut reader = host();
        change(&mut reader);
        beat().shares_pids_with(&reader)
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

// HB-7: a service that has stopped cleanly is not alive, whatever its age and its process.
#[test]
fn stopped_is_not_alive() {
    let stopped = Beat { status: Some(Status::Stopped), ..beat() };
    assert_eq!(liveness_at(&stopped, timestamps(5000, 1000)), Liveness::Stopped);
    assert_eq!(stopped.liveness(&host(), timestamps(5000, 1000), ProcessStatus::Gone, MAX_AGE), Liveness::Stopped);
    for status in [None, Some(Status::Starting), Some(Status::Degraded), Some(Status::Stopping)] {
        assert!(liveness_at(&Beat { status, ..beat() }, timestamps(5000, 1000)).is_alive());
    }
}

/// The conflict that a beat of another heartbeat means for one that checks 10 s later.
fn conflict(beat: &Beat, process: ProcessStatus, is_new: bool) -> Conflict {
    let liveness = beat.liveness(&host(), timestamps(5010, 1010), process, MAX_AGE);
    beat.conflict(&host(), liveness, process, is_new)
}

// HB-10: a running process is a conflict at once. One that is gone or stopped, or has a reused id, is none.
#[test]
fn a_running_writer_is_a_conflict() {
    let [alive, reused] = [500, 1001].map(|secs_| ProcessStatus::StartedAt(secs(secs_)));
    let stopped = Beat { status: Some(Status::Stopped), ..beat() };
    let silent = Beat { at: timestamps(4900, 900), ..beat() };
    for is_new in [false, true] {
        assert_eq!(conflict(&beat(), alive, is_new), Conflict::Certain);
        for process in [ProcessStatus::Gone, reused] {
            assert_eq!(conflict(&beat(), process, is_new), Conflict::No);
        }
        assert_eq!(conflict(&stopped, alive, is_new), Conflict::No);
    }
    assert_eq!(conflict(&silent, alive, false), Conflict::No);
    assert_eq!(conflict(&silent, alive, true), Conflict::Certain);
    assert_eq!(
        conflict(&beat(), ProcessStatus::Unknown, false),
        Conflict::Possible,
        "it exists, but its start time is hidden"
    );
}

// HB-10: a writer that cannot be looked up is certain only by a new beat. Without one it is possible on another host
// only.
#[test]
fn a_writer_that_cannot_be_looked_up_is_certain_only_by_a_new_beat() {
    let elsewhere = |change: fn(&mut Host)| {
        let mut beat = beat();
        change(&mut beat.host);
        [false, true].map(|is_new| conflict(&beat, ProcessStatus::Unknown, is_new))
    };
    let restarted_container: fn(&mut Host) = |host| host.pid_namespace = Some("pid:[2]".to_string());
    let restarted_machine: fn(&mut Host) = |host| host.boot_id = Some("another".to_string());
    for restarted in [restarted_container, restarted_machine] {
        assert_eq!(elsewhere(restarted), [Conflict::No, Conflict::Certain]);
    }
    let other_host = |host: &mut Host| {
        host.hostname = "web-2".to_string();
        host.boot_id = Some("another".to_string());
    };
    assert_eq!(elsewhere(other_host), [Conflict::Possible, Conflict::Certain]);
    // Its clock is an hour ahead, or behind.
    for wall in [8600, 1400] {
        let mut beat = Beat { at: timestamps(wall, 1000), ..beat() };
        other_host(&mut beat.host);
        assert_eq!(
            [false, true].map(|is_new| conflict(&beat, ProcessStatus::Unknown, is_new)),
            [Conflict::No, Conflict::Certain]
        );
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

// HB-8: a dead target degrades a live service and is the cause. A service that is stopping keeps its status.
#[test]
fn a_dead_target_degrades_a_live_service() {
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

// HB-1: beats are due at whole intervals after the first, however late each one is.
#[test]
fn beats_do_not_drift() {
    let start = Moment::from_nanos(7);
    let schedule = BeatSchedule::new(start, secs(10));
    assert_eq!(schedule.next(start), start + secs(10));
    assert_eq!(schedule.next(start + Duration::from_millis(10_900)), start + secs(20));
    assert_eq!(schedule.next(start + Duration::from_millis(29_999)), start + secs(30));
    // 30, 40 and 50 were missed: one beat, not four.
    assert_eq!(schedule.next(start + secs(55)), start + secs(60));
    assert_eq!(schedule.next(Moment::ORIGIN), start);
}

proptest! {
    #![proptest_config(crate::cases(512))]

    // HB-1: compared with a list of all due times.
    #[test]
    fn the_next_beat_is_the_first_due_after_now(first in 0_u64..1000, interval in 1_u64..100, now in 0_u64..5000) {
        let due = (0..).map(|k| first + k * interval).find(|due| *due > now || now < first).unwrap();
        let schedule = BeatSchedule::new(Moment::from_nanos(first), Duration::from_nanos(interval));
        prop_assert_eq!(schedule.next(Moment::from_nanos(now)), Moment::from_nanos(due));
    }

    // ALL-1: no input panics, and a beat older than `max_age` is not alive.
    #[test]
    fn no_input_panics(first: u64, interval: Duration, now: u64, wall: i128, read_wall: i128, boot: Duration,
                       read_boot: Duration, started: Duration, max_age: Duration, same_boot: bool) {
        let _ = BeatSchedule::new(Moment::from_nanos(first), interval).next(Moment::from_nanos(now));
        let mut beat = Beat { at: Timestamps { wall_nanos: wall, boottime: Some(boot) }, ..beat() };
        if !same_boot {
            beat.host.boot_id = None;
        }
        let now = Timestamps { wall_nanos: read_wall, boottime: Some(read_boot) };
        let liveness = beat.liveness(&host(), now, ProcessStatus::StartedAt(started), max_age);
        prop_assert!(!liveness.to_string().is_empty());
        if let Liveness::Alive { age } = liveness {
            prop_assert!(age <= max_age);
        }
    }
}

#[test]
fn the_default_maximum_age_grows_with_the_interval_within_bounds() {
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

// HB-7: only `Alive` is alive, and each variant has a message.
#[test]
fn only_one_variant_is_alive_and_each_has_a_message() {
    let second = Duration::from_millis(1_250);
    let variants = [
        (Liveness::Alive { age: second }, "alive, last beat 1.2 s ago"),
        (Liveness::Stale { age: second }, "stale, last beat 1.2 s ago"),
        (Liveness::FromFuture { ahead: second }, "last beat 1.2 s in the future"),
        (Liveness::ProcessGone, "its process is gone"),
        (Liveness::Stopped, "stopped"),
    ];
    for (liveness, text) in variants {
        assert_eq!(
            (liveness.to_string().as_str(), liveness.is_alive()),
            (text, matches!(liveness, Liveness::Alive { .. }))
        );
    }
}
