//! Times and contents of beats.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use backstay::clock::ManualClock;
use backstay::heartbeat::{HeartbeatError, HeartbeatState, Liveness, Status};
use backstay::{BuildError, Heartbeat};
use serde_json::{Value, json};

use super::{AGE, Folder, INTERVAL, eventually};

// HB-1: the first beat is written when `start` returns.
#[test]
fn start_beats_at_once_and_stop_writes_a_final_beat() {
    let folder = Folder::new();
    let path = folder.file();
    let heartbeat = Heartbeat::builder().state_file(&path).metadata([("version", "1.0.0")]).build().unwrap();
    assert!(!heartbeat.is_running());
    assert!(matches!(Heartbeat::read_state(&path), Err(HeartbeatError::Missing { .. })));

    heartbeat.start().unwrap();
    assert!(heartbeat.is_running());
    assert!(matches!(heartbeat.start(), Err(HeartbeatError::AlreadyRunning)));
    let state = folder.state();
    assert_eq!((state.pid, state.sequence, state.status), (std::process::id(), Some(1), Some(Status::Ready)));
    assert_eq!(state.metadata["version"], "1.0.0");
    assert!(matches!(Heartbeat::liveness(&path, AGE), Ok(Liveness::Alive { .. })));

    heartbeat.stop();
    heartbeat.stop();
    assert!(!heartbeat.is_running());
    assert_eq!(Heartbeat::liveness(&path, AGE).unwrap(), Liveness::Stopped);
    assert_eq!(folder.names(), ["bot.heartbeat"]);

    heartbeat.start().unwrap();
    assert!(Heartbeat::is_alive(&path, AGE));
    drop(heartbeat);
    assert!(!Heartbeat::is_alive(&path, AGE), "the last handle stops it");
}

// HB-1: beats are due every interval, however late each one is. Missed ones are skipped.
#[test]
fn beats_come_every_interval_without_drift() {
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let heartbeat = folder.heartbeat(&clock).build().unwrap();
    folder.start(&heartbeat);
    for beat in 2..5 {
        clock.advance(INTERVAL);
        folder.wait_for(beat);
    }
    // 35 s late: one beat. The next is due 5 s later, not a whole interval later.
    clock.advance(Duration::from_secs(45));
    folder.wait_for(5);
    clock.advance(Duration::from_secs(5));
    folder.wait_for(6);
    clock.advance(Duration::from_secs(9));
    heartbeat.stop();
    assert_eq!(folder.state().sequence, Some(7), "six beats and the final one");
}

// HB-2: the fields, and times in the format that Python 3.10 reads.
#[test]
fn the_file_is_one_json_object_with_the_specified_fields() {
    let folder = Folder::new();
    let metadata = json!({"version": "1.0.0", "ports": [80, 443], "nested": {"ü": null}});
    let heartbeat = Heartbeat::builder().state_file(folder.file()).interval(Duration::from_millis(2500));
    let heartbeat = heartbeat.metadata(metadata.as_object().unwrap().clone()).build().unwrap();
    folder.start(&heartbeat);

    let json = folder.json();
    for time in ["timestamp", "started_at"] {
        let time = json[time].as_str().unwrap();
        assert_eq!(time.len(), "2026-11-23T19:16:00.250000+00:00".len(), "{time}");
        assert!(time.ends_with("+00:00") && time.as_bytes()[10] == b'T' && time.as_bytes()[19] == b'.', "{time}");
    }
    assert_eq!(json["pid"], std::process::id());
    assert!(!json["hostname"].as_str().unwrap().is_empty());
    assert_eq!(json["metadata"], metadata);
    assert_eq!((&json["sequence"], &json["interval"], &json["status"]), (&json!(1), &json!(2.5), &json!("ready")));
    if cfg!(target_os = "linux") {
        assert_eq!(json["boot_id"].as_str().unwrap().len(), 36);
        assert!(json["boottime"].as_f64().unwrap() > 0.0);
    }
    // Reading returns what was written, to the microsecond.
    let read = folder.state();
    assert_eq!(serde_json::to_value(&read).unwrap(), json);
    assert_eq!(read.interval, Some(Duration::from_millis(2500)));
}

// HB-2: files are compatible with those of kstlib.resilience in both directions.
#[test]
fn files_are_compatible_with_kstlib() {
    #[derive(serde::Deserialize)]
    struct KstlibState {
        timestamp: String,
        pid: i64,
        hostname: String,
        metadata: serde_json::Map<String, Value>,
    }
    let folder = Folder::new();
    Heartbeat::builder().state_file(folder.file()).build().unwrap().beat().unwrap();
    let read: KstlibState = serde_json::from_value(folder.json()).unwrap();
    assert!(!read.timestamp.is_empty() && read.pid > 0 && !read.hostname.is_empty() && read.metadata.is_empty());

    // The format of Python's `isoformat`, and other forms of RFC 3339.
    for time in ["12:00:00+00:00", "12:00:00.5Z", "12:00:00.123456789z", "14:30:00-05:00"] {
        let text = json!({"timestamp": format!("2026-11-23T{time}"), "pid": 7, "hostname": "web-1", "colour": "blue"});
        fs::write(folder.file(), text.to_string()).unwrap();
        let state = folder.state();
        assert_eq!((state.pid, &*state.hostname, state.metadata.len(), state.status), (7, "web-1", 0, None));
        assert_eq!((state.sequence, state.boot_id, state.boottime), (None, None, None));
    }
}

// HB-4: each failed beat is reported, and a later one can succeed.
#[test]
fn a_failed_write_is_reported_and_later_beats_recover() {
    let (folder, clock) = (Folder::new(), ManualClock::new());
    // A file in place of a folder: not even root can write below it.
    let in_the_way = folder.path().join("folder");
    fs::write(&in_the_way, "").unwrap();
    let path = in_the_way.join("deeper/bot.heartbeat");
    let (missed, alerts) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted_missed, counted_alerts) = (Arc::clone(&missed), Arc::clone(&alerts));
    let heartbeat = folder
        .heartbeat(&clock)
        .state_file(&path)
        .on_missed_beat(move |error| {
            assert!(matches!(error, HeartbeatError::Write { .. }));
            assert!(error.to_string().starts_with("failed to write heartbeat /"), "{error}");
            counted_missed.fetch_add(1, Ordering::SeqCst);
        })
        .on_alert(move |alert| {
            assert_eq!(alert.channel, "heartbeat");
            assert!(alert.context["state_file"].as_str().unwrap().ends_with("bot.heartbeat"));
            counted_alerts.fetch_add(1, Ordering::SeqCst);
        })
        .build()
        .unwrap();
    heartbeat.start().unwrap();
    for beats in 1..4 {
        eventually(|| missed.load(Ordering::SeqCst) == beats);
        clock.advance(INTERVAL);
    }
    eventually(|| missed.load(Ordering::SeqCst) == 4);
    assert!(heartbeat.is_running());
    assert!(matches!(heartbeat.beat(), Err(HeartbeatError::Write { .. })), "`beat` returns the error, too");

    // HB-3: missing folders are created.
    fs::remove_file(&in_the_way).unwrap();
    clock.advance(INTERVAL);
    eventually(|| Heartbeat::is_alive(&path, AGE));
    heartbeat.stop();
    assert_eq!((missed.load(Ordering::SeqCst), alerts.load(Ordering::SeqCst)), (5, 1), "one alert for each outage");
    assert_eq!(super::names(path.parent().unwrap()), ["bot.heartbeat"]);
}

// HB-5: no beat follows the final one, on any thread.
#[test]
fn nothing_is_written_after_the_final_beat() {
    for _ in 0..20 {
        let folder = Folder::new();
        let heartbeat =
            Heartbeat::builder().state_file(folder.file()).interval(Duration::from_millis(1)).build().unwrap();
        heartbeat.start().unwrap();
        let over = AtomicBool::new(false);
        let (final_beat, rejected, last) = std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while heartbeat.beat().is_ok() {
                        if over.load(Ordering::SeqCst) {
                            break;
                        }
                    }
                });
            }
            folder.wait_for(5);
            heartbeat.stop();
            let final_beat = folder.state();
            heartbeat.set_status(Status::Ready);
            let rejected = heartbeat.beat();
            over.store(true, Ordering::SeqCst);
            (final_beat, rejected, folder.state())
        });
        assert_eq!(final_beat.status, Some(Status::Stopped));
        assert!(matches!(rejected, Err(HeartbeatError::Stopped)));
        assert_eq!(last, final_beat);
        assert_eq!(folder.state().status, Some(Status::Stopped));
        assert_eq!(folder.names(), ["bot.heartbeat"]);
    }
}

#[test]
fn beat_works_without_start() {
    let folder = Folder::new();
    let heartbeat = Heartbeat::builder().state_file(folder.file()).build().unwrap();
    heartbeat.stop();
    heartbeat.beat().unwrap();
    heartbeat.beat().unwrap();
    assert_eq!((folder.state().sequence, heartbeat.is_running()), (Some(2), false));
    assert!(Heartbeat::is_alive(folder.file(), AGE));
}

#[test]
fn a_status_is_written_at_once_and_metadata_with_the_next_beat() {
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let heartbeat = folder.heartbeat(&clock).status(Status::Starting).build().unwrap();
    folder.start(&heartbeat);
    assert_eq!(folder.state().status, Some(Status::Starting));
    heartbeat.set_metadata([("orders", 12)]).unwrap();
    heartbeat.set_status(Status::Ready);
    eventually(|| folder.state().status == Some(Status::Ready));
    assert_eq!(folder.state().metadata["orders"], 12);
    heartbeat.set_status(Status::Stopped);
    eventually(|| folder.state().status == Some(Status::Stopping));
}

#[test]
fn without_a_state_file_it_only_runs_callbacks() {
    let beats = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&beats);
    let heartbeat = Heartbeat::builder()
        .interval(Duration::from_millis(1))
        .on_beat(move |_: &HeartbeatState| {
            counted.fetch_add(1, Ordering::SeqCst);
        })
        .build()
        .unwrap();
    assert_eq!(heartbeat.state_file(), None);
    heartbeat.start().unwrap();
    eventually(|| beats.load(Ordering::SeqCst) > 3);
}

// ALL-1, CF-5: an error names the invalid argument.
#[test]
fn invalid_arguments_are_named() {
    let argument = |result: Result<Heartbeat, BuildError>| match result.unwrap_err() {
        BuildError::InvalidArgument(error) => error.argument,
        error => panic!("{error}"),
    };
    for invalid in [Duration::ZERO, Duration::MAX, Duration::from_micros(999)] {
        assert_eq!(argument(Heartbeat::builder().interval(invalid).build()), "interval");
    }
    for invalid in ["", "/", "..", "a/..", "a/b/", "a/b/.", "a\0b"] {
        assert_eq!(
            argument(Heartbeat::builder().state_file(invalid).interval(AGE).build()),
            "state_file",
            "{invalid:?}"
        );
    }
    let deep = (0..126).fold(json!(1), |inner, _| json!([inner]));
    let large = json!("x".repeat(1 << 20));
    for invalid in [deep, large] {
        let built = Heartbeat::builder().interval(AGE).metadata([("a", invalid.clone())]).build();
        assert_eq!(argument(built), "metadata");
        let heartbeat = Heartbeat::builder().interval(AGE).build().unwrap();
        assert_eq!(heartbeat.set_metadata([("a", invalid)]).unwrap_err().argument, "metadata");
    }
}

// ALL-1: metadata so deep that recursion would overflow the stack.
#[test]
fn extremely_deep_metadata_is_an_error() {
    let deep = (0..3000).fold(json!(1), |inner, _| serde_json::Value::Array(vec![inner]));
    let error = Heartbeat::builder().interval(AGE).metadata([("a", deep)]).build().unwrap_err();
    assert!(error.to_string().starts_with("`metadata` is"), "{error}");
}

// Readers can read all metadata that a heartbeat accepts.
#[test]
fn the_deepest_valid_metadata_can_be_read() {
    let folder = Folder::new();
    let deep = (0..125).fold(json!(1), |inner, _| json!([inner]));
    let heartbeat =
        Heartbeat::builder().state_file(folder.file()).interval(AGE).metadata([("a", deep)]).build().unwrap();
    heartbeat.beat().unwrap();
    assert_eq!(folder.state().metadata.len(), 1);
}
