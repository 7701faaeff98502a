//! Errors that a firing returns to the watched code.

use backstay::clock::ManualClock;
use backstay::{Watchdog, WatchdogError};

use super::{SECOND, WAIT_LIMIT, manual_watchdog};

// WD-5: the next `try_ping` returns the error, once. The callback runs, too, and a `ping` does not clear the error.
#[test]
fn the_error_of_a_firing_is_returned_once() {
    let clock = ManualClock::new();
    let (watchdog, reports) = manual_watchdog(&clock, |builder| builder.raise_on_timeout(true).name("worker"));
    watchdog.start().unwrap();
    assert_eq!(watchdog.try_ping(), Ok(()));
    clock.advance(11 * SECOND);
    reports.recv_timeout(WAIT_LIMIT).unwrap();
    watchdog.ping();
    assert!(!watchdog.is_triggered());
    let error = watchdog.try_ping().unwrap_err();
    assert_eq!((error.name.as_deref(), error.inactive), (Some("worker"), 11 * SECOND));
    assert_eq!(watchdog.try_ping(), Ok(()));
    assert_eq!(watchdog.check(), Ok(()));

    // A reset clears a pending error.
    clock.advance(11 * SECOND);
    reports.recv_timeout(WAIT_LIMIT).unwrap();
    watchdog.reset();
    assert_eq!(watchdog.try_ping(), Ok(()));
}

// WD-5: without `raise_on_timeout` no error is returned.
#[test]
fn without_raise_on_timeout_no_error_is_returned() {
    let clock = ManualClock::new();
    let (watchdog, reports) = manual_watchdog(&clock, |builder| builder);
    watchdog.start().unwrap();
    clock.advance(11 * SECOND);
    reports.recv_timeout(WAIT_LIMIT).unwrap();
    assert_eq!(watchdog.try_ping(), Ok(()));
    assert!(!watchdog.is_triggered());
}

// WD-5: the end of the block returns the error, once.
#[test]
fn the_end_of_the_block_returns_the_error() {
    let clock = ManualClock::new();
    let (watchdog, reports) = manual_watchdog(&clock, |builder| builder.raise_on_timeout(true));
    assert!(watchdog.watch(Watchdog::is_running).unwrap());
    assert!(!watchdog.is_running());

    let freeze = |_: &Watchdog| {
        clock.advance(10 * SECOND);
        reports.recv_timeout(WAIT_LIMIT).unwrap();
    };
    let Err(WatchdogError::Timeout(error)) = watchdog.watch(freeze) else { panic!("the block froze") };
    assert_eq!(error.inactive, 10 * SECOND);
    assert!(!watchdog.is_running());
    assert_eq!(watchdog.check(), Ok(()));

    // An error that was returned within the block is not returned again at its end.
    let guard = watchdog.guard().unwrap();
    freeze(&guard);
    assert!(guard.try_ping().is_err());
    assert_eq!(guard.finish(), Ok(()));

    // Leaving a block early stops the watchdog, too.
    drop(watchdog.guard().unwrap());
    assert!(!watchdog.is_running());
}
