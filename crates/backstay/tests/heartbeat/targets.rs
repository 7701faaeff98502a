//! Targets of a heartbeat.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use backstay::clock::ManualClock;
use backstay::heartbeat::{DegradedBy, HeartbeatBuilder, Status, Target};
use backstay::{Heartbeat, Watchdog};

use super::{Folder, INTERVAL, eventually};

struct Worker(Arc<AtomicBool>);

impl Target for Worker {
    fn is_dead(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    fn name(&self) -> Option<String> {
        Some("worker".to_owned())
    }
}

// HB-8: the status is degraded while a target is dead, and each death is reported once.
#[test]
fn a_dead_target_degrades_the_service_and_is_reported_once() {
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let dead = Arc::new(AtomicBool::new(false));
    let (deaths, alerts) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (counted, received) = (Arc::clone(&deaths), Arc::clone(&alerts));
    let heartbeat = folder
        .heartbeat(&clock)
        .target(|| false)
        .target(Worker(Arc::clone(&dead)))
        .on_target_dead(move |death| {
            assert_eq!(death.name.as_deref(), Some("worker"));
            counted.fetch_add(1, Ordering::SeqCst);
        })
        .on_alert(move |alert| received.lock().unwrap().push((alert.message.clone(), alert.context["target"].clone())))
        .build()
        .unwrap();
    folder.start(&heartbeat);
    let mut beats = 1;
    let mut beat = || {
        beats += 1;
        clock.advance(INTERVAL);
        folder.wait_for(beats);
        let state = folder.state();
        (state.status.unwrap(), state.degraded_by)
    };
    let (ready, degraded) = ((Status::Ready, None), (Status::Degraded, Some(DegradedBy::Target)));
    assert_eq!(beat(), ready);
    for _ in 0..2 {
        dead.store(true, Ordering::SeqCst);
        assert_eq!([beat(), beat()], [degraded; 2]);
        dead.store(false, Ordering::SeqCst);
        assert_eq!([beat(), beat()], [ready; 2]);
    }
    dead.store(true, Ordering::SeqCst);
    heartbeat.set_status(Status::Stopping);
    eventually(|| folder.state().status == Some(Status::Stopping));
    heartbeat.stop();
    assert_eq!(deaths.load(Ordering::SeqCst), 3);
    assert_eq!(*alerts.lock().unwrap(), vec![("target \"worker\" is dead".to_owned(), "worker".into()); 3]);
}

// ALL-1: a beat that a target makes does not check the targets again.
#[test]
fn a_target_may_beat() {
    struct Beats(Arc<OnceLock<Heartbeat>>, Arc<AtomicUsize>);

    impl Target for Beats {
        fn is_dead(&self) -> bool {
            self.0.wait().beat().unwrap();
            self.1.fetch_add(1, Ordering::SeqCst).is_multiple_of(2)
        }

        fn name(&self) -> Option<String> {
            self.0.wait().beat().unwrap();
            None
        }
    }

    let folder = Folder::new();
    let (own, checks) = (Arc::new(OnceLock::new()), Arc::new(AtomicUsize::new(0)));
    let target = Beats(Arc::clone(&own), Arc::clone(&checks));
    let heartbeat = Heartbeat::builder().state_file(folder.file()).interval(INTERVAL).target(target).build().unwrap();
    own.set(heartbeat.clone()).unwrap();
    heartbeat.beat().unwrap();
    assert_eq!((checks.load(Ordering::SeqCst), folder.state().sequence), (1, Some(3)));
    assert_eq!(folder.state().status, Some(Status::Degraded));
    heartbeat.beat().unwrap();
    assert_eq!(folder.state().status, Some(Status::Ready));
}

// HB-8: a frozen main loop does not look healthy although the heartbeat's thread still beats.
#[test]
fn a_watchdog_that_has_fired_degrades_the_service() {
    let folder = Folder::new();
    let heartbeat = |builder: HeartbeatBuilder, watchdog: &Watchdog| {
        builder.state_file(folder.file()).interval(INTERVAL).target(watchdog.clone()).build().unwrap()
    };
    let clock = ManualClock::new();
    let watchdog = Watchdog::builder().timeout(INTERVAL).clock(&clock).build().unwrap();
    let heartbeat = heartbeat(Heartbeat::builder().target(|| true), &watchdog);
    let beat = || {
        heartbeat.beat().unwrap();
        let state = folder.state();
        (state.status.unwrap(), state.degraded_by)
    };
    watchdog.start().unwrap();
    assert_eq!(beat(), (Status::Degraded, Some(DegradedBy::Target)));

    clock.advance(INTERVAL * 2);
    eventually(|| watchdog.is_triggered());
    assert_eq!(beat(), (Status::Degraded, Some(DegradedBy::Watchdog)), "the worse cause of the two");

    watchdog.ping();
    assert_eq!(beat(), (Status::Degraded, Some(DegradedBy::Target)));
}

// HB-8: the file names the cause, including a status that the service set own.
#[test]
fn the_file_names_the_cause() {
    let folder = Folder::new();
    let heartbeat = Heartbeat::builder().state_file(folder.file()).build().unwrap();
    let written = || {
        heartbeat.beat().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.file()).unwrap()).unwrap();
        json.get("degraded_by").cloned()
    };
    assert_eq!(written(), None);
    heartbeat.set_status(Status::Degraded);
    assert_eq!(written(), Some("service".into()));
    heartbeat.set_status(Status::Stopping);
    assert_eq!(written(), None);
}
