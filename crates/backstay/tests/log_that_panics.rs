//! A log subscriber that panics at every event disables the log and nothing else.
#![cfg(all(feature = "circuit-breaker", feature = "shutdown", feature = "watchdog"))]
#![cfg(not(backstay_loom))]
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::mpsc::channel;
use std::time::Duration;

use backstay::clock::ManualClock;
use backstay::heartbeat::Status;
use backstay::{CircuitBreaker, CircuitState, GracefulShutdown, Heartbeat, Watchdog};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

struct Panics;

impl Subscriber for Panics {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "backstay"
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {
        panic!("the subscriber");
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

const TIMEOUT: Duration = Duration::from_secs(60);

// ALL-1, ALL-3: the panic ends neither the process, in a destructor of a thread that unwinds, nor a thread of the
// library.
#[test]
fn a_subscriber_that_panics_ends_no_thread() {
    tracing::subscriber::set_global_default(Panics).unwrap();
    let clock = ManualClock::new();

    let (sender, heard) = channel();
    let breaker = CircuitBreaker::builder().max_failures(1).clock(&clock).on_state_change(move |change| {
        sender.send(change.to).unwrap();
        panic!("the listener");
    });
    let breaker = breaker.build().unwrap();
    let theirs = breaker.clone();
    let unwound = std::thread::spawn(move || {
        let _permit = theirs.try_acquire().unwrap();
        panic!("the call");
    });
    unwound.join().unwrap_err();
    assert_eq!(heard.recv_timeout(TIMEOUT), Ok(CircuitState::Open));
    breaker.reset();
    assert_eq!(heard.recv_timeout(TIMEOUT), Ok(CircuitState::Closed));

    let (sender, fired) = channel();
    let watchdog = Watchdog::builder().timeout(Duration::from_secs(5)).clock(&clock).on_timeout(move |report| {
        sender.send(report.firings).unwrap();
        panic!("the callback");
    });
    let watchdog = watchdog.build().unwrap();
    watchdog.start().unwrap();
    // More often than there are threads in the pool.
    for firing in 1..=20 {
        clock.advance(Duration::from_secs(6));
        assert_eq!(fired.recv_timeout(TIMEOUT), Ok(firing));
        watchdog.ping();
    }
    watchdog.stop();

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bot.heartbeat");
    let (sender, beats) = channel();
    let heartbeat = Heartbeat::builder()
        .state_file(&path)
        .interval(Duration::from_millis(1))
        .target(|| -> bool { panic!("the target") })
        .on_beat(move |beat| {
            let _ = sender.send(beat.status);
            panic!("the callback");
        })
        .build()
        .unwrap();
    heartbeat.start().unwrap();
    for _ in 0..3 {
        assert_eq!(beats.recv_timeout(TIMEOUT), Ok(Some(Status::Ready)));
    }
    heartbeat.stop();
    assert_eq!(Heartbeat::read_state(&path).unwrap().status, Some(Status::Stopped));

    let shutdown = GracefulShutdown::new();
    shutdown.register("first", || ()).unwrap();
    shutdown.register("second", || ()).unwrap();
    let scope = shutdown.install_scoped().unwrap();
    assert!(shutdown.trigger().is_clean());
    drop(scope);
}
