//! Two heartbeats that write one file.

use std::fs;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use backstay::clock::ManualClock;
use backstay::heartbeat::{HeartbeatBuilder, HeartbeatError, Status};
use backstay::{Alert, BuildError, Heartbeat};
use serde_json::{Value, json};

use super::{Folder, INTERVAL, eventually};

/// A process that runs until this is dropped.
struct RunningProcess(Child);

impl RunningProcess {
    fn new() -> Self {
        Self(Command::new("sleep").arg("600").spawn().unwrap())
    }
}

impl Drop for RunningProcess {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Writes a fresh beat, with `changes`, as another heartbeat would.
fn write_beat(folder: &Folder, changes: &[(&str, Value)]) {
    let elsewhere = Folder::new();
    Heartbeat::builder().state_file(elsewhere.file()).build().unwrap().beat().unwrap();
    let mut json = elsewhere.json();
    for (name, value) in changes {
        json[name] = value.clone();
    }
    fs::write(folder.file(), json.to_string()).unwrap();
}

type Alerts = Arc<Mutex<Vec<Alert>>>;

fn with_alerts(builder: HeartbeatBuilder) -> (Result<Heartbeat, BuildError>, Alerts) {
    let alerts = Alerts::default();
    let received = Arc::clone(&alerts);
    (builder.on_alert(move |alert| received.lock().unwrap().push(alert.clone())).build(), alerts)
}

fn is_taken_by(result: Result<(), HeartbeatError>, folder: &Folder, process: u32) -> bool {
    matches!(result, Err(HeartbeatError::Taken { path, pid, .. }) if path == folder.file() && pid == process)
}

// HB-10: a heartbeat that finds another process's heartbeat alerts once and names it. An exclusive one does not write
// the file until that process is gone.
#[test]
fn the_second_heartbeat_detects_the_first() {
    let (folder, other) = (Folder::new(), RunningProcess::new());
    let pid = other.0.id();
    write_beat(&folder, &[("pid", json!(pid))]);
    let written = folder.json();
    let exclusive = Heartbeat::builder().state_file(folder.file()).exclusive(true).build().unwrap();
    assert!(is_taken_by(exclusive.beat(), &folder, pid));
    assert!(is_taken_by(exclusive.start(), &folder, pid));
    assert!(!exclusive.is_running());
    exclusive.stop();
    assert_eq!(folder.json(), written, "no final beat either");

    let (heartbeat, alerts) = with_alerts(Heartbeat::builder().state_file(folder.file()));
    let heartbeat = heartbeat.unwrap();
    for _ in 0..2 {
        heartbeat.beat().unwrap();
        write_beat(&folder, &[("pid", json!(pid))]);
    }
    heartbeat.beat().unwrap();
    let alerts = alerts.lock().unwrap();
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert!(alerts[0].message.contains(&format!("process {pid} on ")), "{alerts:?}");
    assert_eq!(alerts[0].context["pid"], pid);

    write_beat(&folder, &[("pid", json!(pid))]);
    assert!(is_taken_by(exclusive.beat(), &folder, pid));
    drop(other);
    exclusive.start().unwrap();
    assert_eq!(folder.state().pid, std::process::id());
}

// HB-10: a file is free at once if its process is gone or has a reused id, if its container or machine was restarted,
// if its service has stopped, or if this process wrote it before an `exec`.
#[test]
fn a_file_that_was_left_behind_is_free() {
    let other = RunningProcess::new();
    let left: [&[(&str, Value)]; 6] = [
        &[("pid", json!(i32::MAX))],
        &[("pid", json!(other.0.id())), ("boottime", json!(0.001))],
        &[("pid", json!(1)), ("pid_namespace", json!("pid:[1]"))],
        &[("pid", json!(1)), ("boot_id", json!("another"))],
        &[("pid", json!(other.0.id())), ("status", json!("stopped"))],
        &[],
    ];
    for changes in left {
        let folder = Folder::new();
        write_beat(&folder, changes);
        let (heartbeat, alerts) = with_alerts(Heartbeat::builder().state_file(folder.file()).exclusive(true));
        let heartbeat = heartbeat.unwrap();
        heartbeat.start().unwrap();
        heartbeat.stop();
        let (heartbeat, more_alerts) = with_alerts(Heartbeat::builder().state_file(folder.file()));
        write_beat(&folder, changes);
        heartbeat.unwrap().beat().unwrap();
        assert!(alerts.lock().unwrap().is_empty() && more_alerts.lock().unwrap().is_empty(), "{changes:?}");
    }
}

// HB-10: a process of another host cannot be looked up. An exclusive heartbeat does not start while its beat is fresh.
// Any other heartbeat alerts when a new beat appears.
#[test]
fn a_writer_on_another_host_is_detected_by_its_beats() {
    let other = |status: &str, timestamp: Option<&str>| {
        let folder = Folder::new();
        let mut changes = vec![("hostname", json!("far-away")), ("boot_id", json!("another")), ("pid", json!(7))];
        changes.push(("status", json!(status)));
        changes.extend(timestamp.map(|timestamp| ("timestamp", json!(timestamp))));
        write_beat(&folder, &changes);
        (folder, changes)
    };
    let exclusive = |folder: &Folder| Heartbeat::builder().state_file(folder.file()).exclusive(true).build().unwrap();
    let (folder, fresh) = other("ready", None);
    assert!(is_taken_by(exclusive(&folder).start(), &folder, 7));
    for free in [other("stopped", None).0, other("ready", Some("2026-01-01T00:00:00Z")).0] {
        exclusive(&free).start().unwrap();
    }

    let (heartbeat, alerts) = with_alerts(Heartbeat::builder().state_file(folder.file()));
    let heartbeat = heartbeat.unwrap();
    heartbeat.beat().unwrap();
    heartbeat.beat().unwrap();
    assert!(alerts.lock().unwrap().is_empty(), "the file may have been left behind");
    write_beat(&folder, &fresh);
    heartbeat.beat().unwrap();
    let alerts = alerts.lock().unwrap();
    assert_eq!(alerts.len(), 1);
    assert_eq!((&alerts[0].context["pid"], &alerts[0].context["hostname"]), (&json!(7), &json!("far-away")));
}

// HB-10: in one process, the second heartbeat detects the first, exactly one of two exclusive ones starts, and the
// first to stop writes no final beat for the other.
#[test]
fn two_heartbeats_in_one_process_detect_each_other() {
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let first = folder.heartbeat(&clock).exclusive(true).build().unwrap();
    let (second, alerts) = with_alerts(folder.heartbeat(&clock));
    let second = second.unwrap();
    folder.start(&first);
    let third = folder.heartbeat(&clock).exclusive(true).build().unwrap();
    assert!(is_taken_by(third.start(), &folder, std::process::id()));
    second.start().unwrap();
    eventually(|| alerts.lock().unwrap().len() == 1);
    assert_eq!(alerts.lock().unwrap()[0].context["pid"], std::process::id());

    first.stop();
    assert_eq!(folder.state().status, Some(Status::Ready), "the second is still running");
    second.stop();
    assert_eq!(folder.state().status, Some(Status::Stopped));
    third.start().unwrap();
    third.stop();
    third.start().unwrap();
    assert_eq!(folder.state().status, Some(Status::Ready), "a restart after its own final beat");

    for _ in 0..20 {
        let folder = Folder::new();
        let two = [(); 2].map(|()| Heartbeat::builder().state_file(folder.file()).interval(INTERVAL).exclusive(true));
        let two = two.map(|builder| builder.build().unwrap());
        let started = std::thread::scope(|scope| {
            let other = scope.spawn(|| two[0].start().is_ok());
            [two[1].start().is_ok(), other.join().unwrap()]
        });
        assert!(started[0] != started[1], "exactly one of {started:?}");
    }
}

// HB-10: an exclusive heartbeat with an overwritten file misses its beats, and writes no final beat.
#[test]
fn an_exclusive_heartbeat_that_is_overwritten_misses_beats() {
    let (folder, clock, other) = (Folder::new(), ManualClock::new(), RunningProcess::new());
    let missed = Arc::new(Mutex::new(Vec::new()));
    let received = Arc::clone(&missed);
    let builder = folder.heartbeat(&clock).exclusive(true);
    let heartbeat = builder.on_missed_beat(move |error| received.lock().unwrap().push(error.clone())).build().unwrap();
    folder.start(&heartbeat);
    write_beat(&folder, &[("pid", json!(other.0.id()))]);
    let written = folder.json();
    clock.advance(INTERVAL);
    eventually(|| !missed.lock().unwrap().is_empty());
    assert!(is_taken_by(Err(missed.lock().unwrap()[0].clone()), &folder, other.0.id()));
    heartbeat.stop();
    assert_eq!(folder.json(), written);
}

// HB-9, HB-10: a forked child that writes its parent's file is another heartbeat.
#[test]
fn a_forked_child_is_another_heartbeat() {
    let folder = Folder::new();
    let heartbeat = Heartbeat::builder().state_file(folder.file()).exclusive(true).build().unwrap();
    heartbeat.start().unwrap();
    let in_child = heartbeat.clone();
    assert!(super::forked::in_a_child(move || matches!(in_child.start(), Err(HeartbeatError::Taken { .. }))));
    assert_eq!(folder.state().status, Some(Status::Ready));
}
