//! The watchdog's public API, within one process.
#![cfg(feature = "watchdog")]
#![cfg(not(backstay_loom))]
#![allow(clippy::unwrap_used)]

mod errors;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use backstay::clock::{Clock, ManualClock};
use backstay::heartbeat::Target;
use backstay::watchdog::{TimeoutReport, WatchdogBuilder};
use backstay::{BuildError, Watchdog, WatchdogError};

const SECOND: Duration = Duration::from_secs(1);
/// Longer than any wait on a busy machine. Only a defect reaches it.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// Returns a watchdog of 10 s on `clock`, and the receiver of its reports.
fn manual_watchdog(
    clock: &ManualClock,
    set: impl FnOnce(WatchdogBuilder) -> WatchdogBuilder,
) -> (Watchdog, Receiver<TimeoutReport>) {
    let (sender, reports) = channel();
    let builder = Watchdog::builder().timeout(10 * SECOND).clock(clock).on_timeout(send_to(sender));
    (set(builder).build().unwrap(), reports)
}

fn send_to(sender: Sender<TimeoutReport>) -> impl Fn(&TimeoutReport) {
    move |report| drop(sender.send(report.clone()))
}

/// Waits until the monitor has checked everything that is due on `clock`.
fn settle(clock: &ManualClock) {
    let (last, reports) = manual_watchdog(clock, |builder| builder.timeout(SECOND));
    last.start().unwrap();
    clock.advance(SECOND);
    reports.recv_timeout(WAIT_LIMIT).expect("the monitor checks");
}

// WD-1: fires after the timeout, not before.
#[test]
fn fires_without_pings() {
    let clock = ManualClock::new();
    let (watchdog, reports) = manual_watchdog(&clock, |builder| builder.name("worker"));
    watchdog.start().unwrap();
    clock.advance(8 * SECOND);
    watchdog.ping();
    clock.advance(8 * SECOND);
    settle(&clock);
    assert!(!watchdog.is_triggered());
    assert_eq!(watchdog.inactive(), 9 * SECOND);

    clock.advance(SECOND);
    let report = reports.recv_timeout(WAIT_LIMIT).unwrap();
    assert!(watchdog.is_triggered() && watchdog.is_running());
    // HB-8: as a heartbeat's target it is dead.
    assert!(Target::is_dead(&watchdog) && Target::name(&watchdog).as_deref() == Some("worker"));
    assert_eq!(report.inactive, 10 * SECOND);
    assert_eq!((report.name.as_deref(), report.firings), (Some("worker"), 1));
    assert_eq!(watchdog.stats().timeouts_triggered, 1);
    assert_eq!(watchdog.stats().pings_total, 1);
    assert_eq!(watchdog.stats().uptime, 18 * SECOND);
}

// WD-3: it fires once per freeze. After a ping or a reset, the next freeze fires it again.
#[test]
fn fires_once_per_freeze() {
    let clock = ManualClock::new();
    let (watchdog, reports) = manual_watchdog(&clock, |builder| builder);
    watchdog.start().unwrap();
    for (count, resume) in [(1, Watchdog::ping as fn(&Watchdog)), (2, Watchdog::reset), (3, Watchdog::ping)] {
        clock.advance(10 * SECOND);
        assert_eq!(reports.recv_timeout(WAIT_LIMIT).unwrap().firings, count);
        for _ in 0..5 {
            clock.advance(20 * SECOND);
            settle(&clock);
        }
        assert_eq!(watchdog.stats().timeouts_triggered, count);
        resume(&watchdog);
        assert!(!watchdog.is_triggered());
    }
    assert!(reports.try_recv().is_err());
}

// WD-1: `start` twice is an error, `stop` twice is not. A stopped watchdog does not fire.
#[test]
fn starts_once_and_stops_any_number_of_times() {
    let clock = ManualClock::new();
    let (watchdog, reports) = manual_watchdog(&clock, |builder| builder.name("worker"));
    watchdog.stop();
    assert!(!watchdog.is_running());
    watchdog.start().unwrap();
    let again = watchdog.clone().start().unwrap_err();
    assert!(matches!(again, WatchdogError::AlreadyRunning { .. }));
    assert_eq!(again.to_string(), "watchdog \"worker\" is already running");
    watchdog.stop();
    watchdog.stop();
    clock.advance(100 * SECOND);
    settle(&clock);
    assert!(!watchdog.is_running() && !watchdog.is_triggered());

    watchdog.start().unwrap();
    clock.advance(9 * SECOND);
    settle(&clock);
    assert!(reports.recv_timeout(WAIT_LIMIT).is_ok());
}

// WD-1: a callback may stop and start its own watchdog.
#[test]
fn stops_in_its_own_callback() {
    let clock = ManualClock::new();
    let own: Arc<OnceLock<Watchdog>> = Arc::default();
    let (sender, done) = channel();
    let watchdog = {
        let own = Arc::clone(&own);
        let callback = move |_: &TimeoutReport| {
            let watchdog = own.get().unwrap();
            watchdog.stop();
            let stopped = !watchdog.is_running();
            watchdog.start().unwrap();
            watchdog.stop();
            sender.send(stopped).unwrap();
        };
        Watchdog::builder().timeout(SECOND).clock(&clock).on_timeout(callback).build().unwrap()
    };
    own.set(watchdog.clone()).unwrap();
    watchdog.start().unwrap();
    clock.advance(SECOND);
    assert!(done.recv_timeout(WAIT_LIMIT).unwrap());
    assert!(!watchdog.is_running());
}

// WD-3: callbacks that hang delay no other watchdog, although they are more than the base pool size.
#[test]
fn a_slow_callback_delays_no_other_watchdog() {
    let clock = ManualClock::new();
    let (release, gate) = channel::<()>();
    let gate = Arc::new(std::sync::Mutex::new(gate));
    let (entered, hanging) = channel();
    let slow: Vec<_> = (0..40)
        .map(|_| {
            let (gate, entered) = (Arc::clone(&gate), entered.clone());
            let hang = move |_: &TimeoutReport| {
                entered.send(()).unwrap();
                let _ = gate.lock().unwrap().recv_timeout(WAIT_LIMIT);
            };
            let watchdog = Watchdog::builder().timeout(SECOND).clock(&clock).on_timeout(hang).build().unwrap();
            watchdog.start().unwrap();
            watchdog
        })
        .collect();
    let (watchdog, reports) = manual_watchdog(&clock, |builder| builder);
    watchdog.start().unwrap();
    clock.advance(SECOND);
    for _ in &slow {
        hanging.recv_timeout(WAIT_LIMIT).expect("all callbacks run at once");
    }
    clock.advance(9 * SECOND);
    assert!(reports.recv_timeout(WAIT_LIMIT).is_ok());
    drop(release);
}

// WD-3, ALL-1: a callback that panics affects no other callback and no later firing.
#[test]
fn a_panicking_callback_affects_nothing_else() {
    let clock = ManualClock::new();
    let (sender, alerts) = channel();
    let watchdog = Watchdog::builder()
        .timeout(SECOND)
        .clock(&clock)
        .on_timeout(|_| panic!("for the test"))
        .on_alert(move |alert| sender.send(alert.clone()).unwrap())
        .name("worker")
        .build()
        .unwrap();
    watchdog.start().unwrap();
    for firings in 1..=3 {
        clock.advance(SECOND);
        let alert = alerts.recv_timeout(WAIT_LIMIT).unwrap();
        assert_eq!(alert.channel, "watchdog");
        assert_eq!(alert.context["name"], "worker");
        assert_eq!(alert.context["seconds_inactive"], 1.0);
        assert_eq!(alert.context["firings"], firings);
        assert!(alert.message.contains("worker"), "{}", alert.message);
        watchdog.ping();
    }
}

// WD-6: the report has the name, id and stack of the frozen thread.
#[test]
#[cfg(target_os = "linux")]
fn the_report_names_the_frozen_thread() {
    let clock = ManualClock::new();
    let (watchdog, reports) =
        manual_watchdog(&clock, |builder| builder.stack_of(|thread| Some(format!("{thread} sleeps"))));
    watchdog.start().unwrap();
    let (release, gate) = channel::<()>();
    let (pinged, pings) = channel();
    let worker = {
        let (watchdog, clock) = (watchdog.clone(), clock.clone());
        let work = move || {
            clock.advance(SECOND);
            watchdog.ping();
            pinged.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
            let _ = gate.recv();
        };
        thread::Builder::new().name("order-worker".into()).spawn(work).unwrap()
    };
    let id = pings.recv().unwrap();
    clock.advance(10 * SECOND);
    let report = reports.recv_timeout(WAIT_LIMIT).unwrap();
    assert_eq!(report.thread_id, Some(id.unsigned_abs()));
    assert_eq!(report.thread_name.as_deref(), Some("order-worker"));
    assert_eq!(report.stack, Some(format!("{id} sleeps").into()));
    drop(release);
    worker.join().unwrap();
}

// WD-9: a frozen runtime is reported while it is frozen, even by an async callback.
#[test]
#[cfg(feature = "tokio")]
fn a_frozen_runtime_is_reported_while_it_is_frozen() {
    let clock = ManualClock::new();
    let (sender, reports) = channel();
    let watchdog = Watchdog::builder()
        .timeout(SECOND)
        .clock(&clock)
        .on_timeout_async(move |report| {
            let (sender, inactive) = (sender.clone(), report.inactive);
            async move {
                tokio::task::yield_now().await;
                sender.send(inactive).unwrap();
            }
        })
        .build()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let _watching = watchdog.guard().unwrap();
        clock.advance(SECOND);
        // This blocks the only thread of the runtime.
        assert_eq!(reports.recv_timeout(WAIT_LIMIT), Ok(SECOND));
    });
}

// WD-1: dropping the last handle stops the watchdog and drops the callbacks.
#[test]
fn the_last_handle_stops_it() {
    let clock = ManualClock::new();
    let captured = Arc::new(());
    let (callback, (sender, reports)) = (Arc::clone(&captured), channel());
    let watchdog = Watchdog::builder()
        .timeout(SECOND)
        .clock(&clock)
        .on_timeout(move |_| {
            let _ = (&callback, sender.send(()));
        })
        .build()
        .unwrap();
    watchdog.start().unwrap();
    let other = watchdog.clone();
    drop(watchdog);
    assert!(other.is_running());
    drop(other);
    assert_eq!(Arc::strong_count(&captured), 1);
    clock.advance(10 * SECOND);
    settle(&clock);
    assert!(reports.try_recv().is_err());
}

// WD-1, CF-5: `timeout` is clamped, `timeout_unclamped` is not.
#[test]
fn only_timeout_unclamped_is_not_clamped() {
    let timeout = |timeout| Watchdog::builder().timeout(timeout).build().unwrap().timeout();
    assert_eq!(timeout(Duration::ZERO), SECOND);
    assert_eq!(timeout(Duration::MAX), 3600 * SECOND);
    assert_eq!(timeout(Duration::from_millis(1500)), Duration::from_millis(1500));
    assert_eq!(Watchdog::builder().build().unwrap().timeout(), 30 * SECOND);

    let fine = Watchdog::builder().timeout_unclamped(Duration::from_millis(200)).build().unwrap();
    assert_eq!(fine.timeout(), Duration::from_millis(200));
    for invalid in [Duration::ZERO, Duration::MAX] {
        let Err(BuildError::InvalidArgument(error)) = Watchdog::builder().timeout_unclamped(invalid).build() else {
            panic!("{invalid:?} was accepted")
        };
        assert_eq!(error.argument, "timeout_unclamped");
    }
}

// WD-9: a watchdog must not depend on a runtime, so tokio's clock is invalid.
#[test]
#[cfg(feature = "tokio")]
fn tokios_clock_is_invalid() {
    let result = Watchdog::builder().timeout(SECOND).clock(Clock::tokio()).build();
    assert!(matches!(result, Err(BuildError::InvalidArgument(error)) if error.argument == "clock"));
}

// WD-3: in real time it fires never early, and within 50 ms of the deadline unless the machine is busy.
#[test]
fn fires_within_50_ms_of_the_deadline() {
    let clock = Clock::system();
    let timeout = Duration::from_millis(120);
    let (sender, fired) = channel();
    let watchdog = {
        let clock = clock.clone();
        let callback = move |_: &TimeoutReport| sender.send(clock.now()).unwrap();
        Watchdog::builder().timeout_unclamped(timeout).on_timeout(callback).build().unwrap()
    };
    watchdog.start().unwrap();
    // On a busy machine one of many attempts is in time. A monitor that is too slow never is.
    let mut best = Duration::MAX;
    for _ in 0..200 {
        let before = clock.now();
        watchdog.ping();
        let inactive = fired.recv_timeout(WAIT_LIMIT).unwrap().since(before);
        assert!(inactive >= timeout, "fired {inactive:?} after a ping");
        best = best.min(inactive - timeout);
        if best <= Duration::from_millis(50) {
            return;
        }
    }
    panic!("never within {best:?} of the deadline");
}

// WD-2, WD-3: in real time, pings of several threads prevent it from firing.
#[test]
fn pings_prevent_firing() {
    let (sender, reports) = channel();
    let watchdog = Watchdog::builder().timeout_unclamped(WAIT_LIMIT).on_timeout(send_to(sender)).build().unwrap();
    watchdog.start().unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..10_000).for_each(|_| watchdog.ping()));
        }
    });
    assert_eq!(watchdog.stats().pings_total, 40_000);
    assert!(watchdog.inactive() < WAIT_LIMIT && !watchdog.is_triggered());
    assert!(watchdog.stats().last_ping >= watchdog.stats().started_at);
    assert!(reports.try_recv().is_err());
}

// WD-1: a start or a reset does not count as a ping, with or without earlier pings.
#[test]
fn the_last_ping_is_not_a_start_or_reset() {
    let clock = ManualClock::new();
    let watchdog = Watchdog::builder().clock(&clock).build().unwrap();
    let last = || watchdog.stats().last_ping;
    clock.advance(Duration::from_secs(1));
    watchdog.start().unwrap();
    watchdog.reset();
    assert_eq!(last(), None);
    watchdog.ping();
    let pinged = Some(clock.now());
    assert_eq!(last(), pinged);
    clock.advance(Duration::from_secs(1));
    watchdog.reset();
    assert_eq!(last(), pinged);
    watchdog.stop();
    clock.advance(Duration::from_secs(1));
    watchdog.start().unwrap();
    watchdog.reset();
    assert_eq!(last(), pinged);
    watchdog.ping();
    assert_eq!(last(), Some(clock.now()));
}
