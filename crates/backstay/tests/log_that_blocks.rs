//! A log subscriber that blocks forever, for example on a pipe that is not read, does not block this library's threads.
#![cfg(all(feature = "shutdown", feature = "watchdog"))]
#![cfg(not(backstay_loom))]
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::mpsc::channel;
use std::time::Duration;

use backstay::clock::ManualClock;
use backstay::{GracefulShutdown, Heartbeat, Watchdog};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

struct Blocks;

impl Subscriber for Blocks {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Calls of this test log on its own thread, where nothing blocks.
        metadata.target() == "backstay" && std::thread::current().name().is_some_and(|name| name != "main")
            || *metadata.level() == Level::ERROR
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {
        if std::thread::current()
            .name()
            .is_some_and(|name| name.starts_with("backstay") || name.starts_with("heartbeat"))
        {
            loop {
                std::thread::park();
            }
        }
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

const TIMEOUT: Duration = Duration::from_secs(60);

// WD-3, HB-4, GS-4
#[test]
fn a_subscriber_that_blocks_blocks_no_other_thread() {
    tracing::subscriber::set_global_default(Blocks).unwrap();
    let clock = ManualClock::new();
    let (sender, fired) = channel();
    let watchdog = Watchdog::builder()
        .timeout(Duration::from_secs(5))
        .clock(&clock)
        .on_timeout(move |report| sender.send(report.firings).unwrap())
        .build()
        .unwrap();
    watchdog.start().unwrap();
    for firing in 1..=3 {
        clock.advance(Duration::from_secs(6));
        assert_eq!(fired.recv_timeout(TIMEOUT), Ok(firing));
        watchdog.ping();
    }

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let (sender, missed) = channel();
    let heartbeat = Heartbeat::builder()
        .state_file(folder.path().join("file").join("beat"))
        .interval(Duration::from_millis(1))
        .on_missed_beat(move |_| {
            let _ = sender.send(());
        })
        .build()
        .unwrap();
    heartbeat.start().unwrap();
    for _ in 0..3 {
        missed.recv_timeout(TIMEOUT).unwrap();
    }
    heartbeat.stop();

    let shutdown = GracefulShutdown::new();
    shutdown.register("fails", || Err::<(), &str>("not today")).unwrap();
    shutdown.register("second", || ()).unwrap();
    let report = shutdown.trigger();
    assert_eq!(report.steps.len(), 2);
    assert_eq!(report.steps[1].outcome, backstay::shutdown::CallbackOutcome::Completed);
}
