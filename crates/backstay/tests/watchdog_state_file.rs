//! Watchdogs that check a heartbeat file.
#![cfg(feature = "watchdog")]
#![cfg(not(backstay_loom))]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use backstay::clock::{Clock, ManualClock};
use backstay::heartbeat::Heartbeat;
use backstay::watchdog::TimeoutReport;
use backstay::{BuildError, Watchdog};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const WAIT_LIMIT: Duration = Duration::from_secs(60);

fn watch(path: &Path, clock: &ManualClock) -> (Watchdog, Receiver<TimeoutReport>) {
    let (sender, reports) = channel();
    let watchdog = Watchdog::from_state_file(path)
        .max_age(1000 * HOUR)
        .check_interval(SECOND)
        .clock(clock)
        .on_timeout(move |report| drop(sender.send(report.clone())))
        .build()
        .unwrap();
    (watchdog, reports)
}

/// Advances the clock by one check at a time until `done`.
fn advance_until(clock: &ManualClock, what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Clock::system().now() + WAIT_LIMIT;
    while !done() {
        assert!(Clock::system().now() < deadline, "not {what} in time");
        clock.advance(SECOND);
        let (_sender, never) = channel::<()>();
        let _ = never.recv_timeout(Duration::from_millis(2));
    }
}

/// Writes a beat of this process and returns its JSON.
fn beat(path: &Path) -> Value {
    let heartbeat = Heartbeat::builder().state_file(path).build().unwrap();
    heartbeat.beat().unwrap();
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

// WD-8: the first check runs at once, and one outage fires once.
#[test]
fn a_missing_file_fires_at_once_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bot.heartbeat");
    let clock = ManualClock::new();
    let (watchdog, reports) = watch(&path, &clock);
    watchdog.start().unwrap();
    let report = reports.recv_timeout(WAIT_LIMIT).expect("a report without any time having passed");
    assert!(watchdog.is_triggered());
    assert_eq!(report.state_file.as_deref(), Some(&*path));
    assert!(report.reason.unwrap().contains("does not exist"));
    assert_eq!(report.thread_id, None);

    let mut checks = 0;
    advance_until(&clock, "checked", || {
        checks += 1;
        checks > 20
    });
    assert_eq!(watchdog.stats().timeouts_triggered, 1);
    watchdog.reset();
    advance_until(&clock, "fired after a reset", || watchdog.is_triggered());
    assert_eq!(reports.recv_timeout(WAIT_LIMIT).unwrap().firings, 2);
}

// WD-8: whatever the file holds, the watchdog fires, detects the recovery and fires again.
#[test]
fn nothing_in_the_file_stops_the_watchdog() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bot.heartbeat");
    let mut old = beat(&path);
    old["timestamp"] = json!("2001-01-01T00:00:00+00:00");
    old["boot_id"] = json!("another");
    let mut ahead = old.clone();
    ahead["timestamp"] = json!("9999-01-01T00:00:00+00:00");
    let mut gone = beat(&path);
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    gone["pid"] = json!(child.id());

    let clock = ManualClock::new();
    let (watchdog, reports) = watch(&path, &clock);
    watchdog.start().unwrap();
    let contents: Vec<Vec<u8>> = vec![
        vec![],
        b"{".to_vec(),
        vec![0xff; 100],
        b"null".to_vec(),
        b"[]".repeat(100_000),
        vec![b'['; 100_000],
        vec![b' '; 20_000_000],
        br#"{"timestamp":"yesterday","pid":-1,"hostname":7}"#.to_vec(),
        br#"{"timestamp":"9223372036854775807-01-01","pid":1e400,"hostname":"x"}"#.to_vec(),
        old.to_string().into_bytes(),
        ahead.to_string().into_bytes(),
        gone.to_string().into_bytes(),
    ];
    for (firings, content) in (1..).zip(contents) {
        fs::write(&path, &content).unwrap();
        advance_until(&clock, "fired", || watchdog.is_triggered());
        let report = reports.recv_timeout(WAIT_LIMIT).unwrap();
        assert_eq!(report.firings, firings, "{:?}", report.reason);
        assert!(watchdog.is_running());
        beat(&path);
        advance_until(&clock, "recovered", || !watchdog.is_triggered());
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    advance_until(&clock, "fired for a folder", || watchdog.is_triggered());
}

// WD-8: it does not fire while the heartbeat is alive; a stopped heartbeat is not alive.
#[test]
fn a_live_heartbeat_prevents_firing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bot.heartbeat");
    let heartbeat = Heartbeat::builder().state_file(&path).build().unwrap();
    heartbeat.start().unwrap();
    let clock = ManualClock::new();
    let (watchdog, reports) = watch(&path, &clock);
    // Another thread writes the first beat.
    advance_until(&clock, "written", || Heartbeat::is_alive(&path, HOUR));
    watchdog.start().unwrap();
    let start = clock.now();
    advance_until(&clock, "checked five times", || {
        clock.now().since(start) > 5 * SECOND && watchdog.inactive() <= SECOND
    });
    assert!(!watchdog.is_triggered() && reports.try_recv().is_err());
    heartbeat.stop();
    advance_until(&clock, "fired", || watchdog.is_triggered());
    assert!(reports.recv_timeout(WAIT_LIMIT).unwrap().reason.unwrap().contains("stopped"));
}

// WD-8: the default interval is half of `max_age`, clamped. The default name contains the path.
#[test]
fn defaults_of_a_state_file_watchdog() {
    let build = |age: u64| Watchdog::from_state_file("/x/y").max_age(Duration::from_secs(age)).build().unwrap();
    let watchdog = Watchdog::from_state_file("/x/y").build().unwrap();
    assert_eq!(watchdog.name(), Some("state_file_watcher:/x/y"));
    assert_eq!(watchdog.timeout(), 15 * SECOND);
    assert_eq!(watchdog.state_file(), Some(Path::new("/x/y")));
    assert_eq!(build(1).timeout(), SECOND);
    assert_eq!(build(1_000_000).timeout(), HOUR);
    let interval = |interval| Watchdog::from_state_file("/x/y").check_interval(interval).build().unwrap().timeout();
    assert_eq!((interval(Duration::ZERO), interval(Duration::MAX)), (SECOND, HOUR));
    assert_eq!(Watchdog::from_state_file("/x/y").name("bot").build().unwrap().name(), Some("bot"));
    let result = Watchdog::from_state_file("/x/y").max_age(Duration::ZERO).build();
    assert!(matches!(result, Err(BuildError::InvalidArgument(error)) if error.argument == "max_age"));
    let result = Watchdog::from_state_file("/x/y").check_interval_unclamped(Duration::ZERO).build();
    assert!(matches!(result, Err(BuildError::InvalidArgument(error)) if error.argument == "check_interval_unclamped"));
}
