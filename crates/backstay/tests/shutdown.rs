//! Shutdowns without signals: order, timeouts, reports, waiters.
#![cfg(feature = "shutdown")]
#![cfg(not(backstay_loom))]
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use backstay::clock::ManualClock;
use backstay::shutdown::{CallbackOutcome, GracefulShutdown, ShutdownError, ShutdownReport, Signal};

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn with_manual_clock() -> (GracefulShutdown, ManualClock) {
    let hand = ManualClock::new();
    (GracefulShutdown::builder().timeout(secs(10)).clock(&hand).build().unwrap(), hand)
}

fn outcomes(report: &ShutdownReport) -> Vec<(&str, &CallbackOutcome, Duration)> {
    report.steps.iter().map(|step| (&*step.name, &step.outcome, step.took)).collect()
}

fn failed(why: &str) -> CallbackOutcome {
    CallbackOutcome::Failed(why.to_owned())
}

/// Returns a callback that hangs, a receiver that tells when it has begun, and a sender that releases it.
fn hanging() -> (impl FnOnce() + Send + 'static, Receiver<()>, Sender<()>) {
    let (started, begun) = channel();
    let (release, released) = channel();
    let callback = move || {
        started.send(()).unwrap();
        let _ = released.recv();
    };
    (callback, begun, release)
}

// GS-1, GS-8
#[test]
fn callbacks_run_by_priority_and_all_are_in_the_report() {
    let (shutdown, hand) = with_manual_clock();
    let seen = Arc::new(Mutex::new(Vec::new()));
    for (name, priority) in [("logs", 100), ("cache", 20), ("orders", 10), ("metrics", 100), ("urgent", -5)] {
        let (seen, hand) = (Arc::clone(&seen), hand.clone());
        let callback = move || {
            seen.lock().unwrap().push(name);
            hand.advance(Duration::from_millis(100));
        };
        shutdown.callback(name).priority(priority).register(callback).unwrap();
    }
    shutdown.register("gone", || ()).unwrap();
    assert!(shutdown.unregister("gone"));
    assert!(!shutdown.unregister("gone"));
    assert!(shutdown.report().is_none());
    let report = shutdown.trigger();
    let order = ["urgent", "orders", "cache", "logs", "metrics"];
    assert_eq!(*seen.lock().unwrap(), order);
    assert_eq!(outcomes(&report), order.map(|name| (name, &CallbackOutcome::Completed, Duration::from_millis(100))));
    assert_eq!(report.took, Duration::from_millis(500));
    assert_eq!(report.steps[0].priority, -5);
    assert!(report.is_clean());
    assert!(Arc::ptr_eq(&shutdown.report().unwrap(), &report));
}

// GS-1
#[test]
fn a_duplicate_name_and_a_shutdown_that_has_begun_reject_a_registration() {
    let (shutdown, _hand) = with_manual_clock();
    shutdown.register("db", || ()).unwrap();
    let error = shutdown.register("db", || ()).unwrap_err();
    assert!(matches!(&error, ShutdownError::AlreadyRegistered { name } if &**name == "db"), "{error}");

    let late = Arc::new(Mutex::new(None));
    let (inside, handle) = (Arc::clone(&late), shutdown.clone());
    shutdown.register("late", move || *inside.lock().unwrap() = Some(handle.register("x", || ()))).unwrap();
    shutdown.trigger();
    let error = late.lock().unwrap().take().unwrap().unwrap_err();
    assert!(matches!(&error, ShutdownError::ShuttingDown { name } if &**name == "x"), "{error}");
    assert!(matches!(shutdown.register("y", || ()), Err(ShutdownError::ShuttingDown { .. })));
    assert!(!shutdown.unregister("db"));
}

// CF-5
#[test]
fn invalid_arguments_are_rejected_by_name() {
    let (shutdown, _hand) = with_manual_clock();
    let error = shutdown.callback("a").timeout(Duration::ZERO).register(|| ()).unwrap_err();
    assert!(error.to_string().contains("`timeout`"), "{error}");
    let error = GracefulShutdown::builder().timeout(Duration::MAX).build().unwrap_err();
    assert!(error.to_string().contains("`timeout`"), "{error}");
    assert!(GracefulShutdown::builder().force_exit_code(256).build().is_err());
    // ALL-1: `std` panics if a thread's name contains a zero byte.
    shutdown.register("zero\0byte", || ()).unwrap();
    assert!(shutdown.trigger().is_clean());
}

// GS-2
#[cfg(unix)]
#[test]
fn a_signal_that_cannot_be_caught_is_an_error_and_none_is_handled() {
    for (number, name) in [
        (libc::SIGKILL, "SIGKILL"),
        (libc::SIGSTOP, "SIGSTOP"),
        (libc::SIGSEGV, "SIGSEGV"),
        (0, "signal 0"),
        (-1, "signal -1"),
        (999, "signal 999"),
        (i32::MAX, "signal 2147483647"),
    ] {
        let signals = [Signal::USR1, Signal::from_raw(number)];
        let shutdown = GracefulShutdown::builder().signals(signals).build().unwrap();
        let error = shutdown.install().unwrap_err();
        assert!(matches!(error, ShutdownError::Uncatchable { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
        assert!(!shutdown.is_installed());
    }
}

// GS-4
#[test]
fn a_callback_that_fails_or_panics_does_not_stop_those_after_it() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in a destructor");
        }
    }
    let (shutdown, _hand) = with_manual_clock();
    shutdown.register("error", || Err::<(), _>(std::io::Error::other("disk full"))).unwrap();
    shutdown.register("panic", || -> () { panic!("lost {}", 1) }).unwrap();
    shutdown.register("payload", || -> () { std::panic::panic_any(Bomb) }).unwrap();
    shutdown.register("number", || -> () { std::panic::panic_any(5) }).unwrap();
    shutdown.register("text", || Err::<u8, _>("no")).unwrap();
    shutdown.register("succeeds", || Ok::<_, String>(5)).unwrap();
    shutdown.register_async("async error", || async { Err::<(), _>("no route") }).unwrap();
    shutdown.register_async("async panic", || async { [()][std::hint::black_box(1)] }).unwrap();
    shutdown.register_async("async", || async {}).unwrap();
    let report = shutdown.trigger();
    let expected = [
        failed("disk full"),
        failed("panicked: lost 1"),
        failed("panicked: a panic without a message"),
        failed("panicked: a panic without a message"),
        failed("no"),
        CallbackOutcome::Completed,
        failed("no route"),
        failed("panicked: index out of bounds: the len is 1 but the index is 1"),
        CallbackOutcome::Completed,
    ];
    assert_eq!(report.steps.iter().map(|step| step.outcome.clone()).collect::<Vec<_>>(), expected);
}

// GS-4: the own timeout, the time left of the total timeout, then the minimum.
#[test]
fn callbacks_that_hang_get_exactly_their_timeout() {
    let (shutdown, hand) = with_manual_clock();
    let mut callbacks = Vec::new();
    for (name, own) in [("own", Some(4)), ("left", Some(60)), ("short", None), ("short own", Some(60))] {
        let (callback, begun, release) = hanging();
        let registration = shutdown.callback(name);
        let registration = own.map_or(registration.clone(), |own| registration.timeout(secs(own)));
        registration.register(callback).unwrap();
        callbacks.push((begun, release));
    }
    shutdown.register("last", || ()).unwrap();
    let waiter = thread::spawn({
        let shutdown = shutdown.clone();
        move || shutdown.trigger()
    });
    let moment = Duration::from_nanos(1);
    let times = [secs(4), secs(6), Duration::from_millis(250), Duration::from_millis(250)];
    for ((begun, _), time) in callbacks.iter().zip(times) {
        begun.recv().unwrap();
        hand.advance(time - moment);
        assert!(shutdown.report().is_none());
        hand.advance(moment);
    }
    let report = waiter.join().unwrap();
    let [own, left, short, also] = times;
    assert_eq!(
        outcomes(&report),
        [
            ("own", &CallbackOutcome::TimedOut, own),
            ("left", &CallbackOutcome::TimedOut, left),
            ("short", &CallbackOutcome::TimedOut, short),
            ("short own", &CallbackOutcome::TimedOut, also),
            ("last", &CallbackOutcome::Completed, Duration::ZERO),
        ]
    );
}

// GS-6
#[test]
fn all_callers_get_the_same_report_and_the_callbacks_run_once() {
    let (shutdown, _hand) = with_manual_clock();
    let runs = Arc::new(AtomicUsize::new(0));
    let (callback, begun, release) = hanging();
    let count = Arc::clone(&runs);
    shutdown
        .register("once", move || {
            count.fetch_add(1, Ordering::SeqCst);
            callback();
        })
        .unwrap();
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let shutdown = shutdown.clone();
            thread::spawn(move || shutdown.trigger())
        })
        .collect();
    begun.recv().unwrap();
    assert!(shutdown.report().is_none());
    release.send(()).unwrap();
    let reports: Vec<_> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
    assert!(reports.iter().all(|report| Arc::ptr_eq(report, &reports[0])));
    assert!(Arc::ptr_eq(&shutdown.trigger(), &reports[0]));
    assert!(Arc::ptr_eq(&shutdown.wait(), &reports[0]));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(reports[0].steps.len(), 1);
}

// GS-6: in a callback, `trigger` and `wait` return at once, with the results so far.
#[test]
fn a_trigger_in_a_callback_returns_at_once() {
    let (shutdown, hand) = with_manual_clock();
    let seen = Arc::new(Mutex::new(Vec::new()));
    shutdown.register("first", || ()).unwrap();
    let (handle, reports) = (shutdown.clone(), Arc::clone(&seen));
    let plain = move || {
        reports.lock().unwrap().extend([handle.trigger(), handle.wait()]);
        assert!(handle.wait_timeout(secs(1)).is_none());
    };
    shutdown.register("plain", plain).unwrap();
    let (handle, reports) = (shutdown.clone(), Arc::clone(&seen));
    let nested = || async move {
        let report = handle.trigger_async().await;
        reports.lock().unwrap().push(report);
        let inner = async { handle.wait_async().await };
        let report = inner.await;
        reports.lock().unwrap().push(report);
        reports.lock().unwrap().push(handle.trigger());
    };
    shutdown.register_async("async", nested).unwrap();
    let report = shutdown.trigger();
    assert!(report.is_clean(), "{report}");
    let lengths: Vec<_> = seen.lock().unwrap().iter().map(|report| report.steps.len()).collect();
    assert_eq!(lengths, [1, 1, 2, 2, 2]);
    assert_eq!(hand.now(), ManualClock::new().now(), "no time has passed");
}

// GS-7
#[test]
fn readiness_ends_before_the_drain_delay_which_precedes_the_first_callback() {
    let hand = ManualClock::new();
    let shutdown = GracefulShutdown::builder().drain_delay(secs(5)).clock(&hand).build().unwrap();
    let seen = Arc::new(Mutex::new(None));
    let (clock, note) = (hand.clone(), Arc::clone(&seen));
    shutdown.register("first", move || *note.lock().unwrap() = Some(clock.now())).unwrap();
    let start = hand.now();
    assert!(!shutdown.is_shutting_down());
    shutdown.on_signal(Signal::TERM);
    assert!(shutdown.is_shutting_down());
    hand.advance(secs(5) - Duration::from_nanos(1));
    thread::yield_now();
    assert!(seen.lock().unwrap().is_none());
    hand.advance(Duration::from_nanos(1));
    let report = shutdown.wait();
    assert_eq!(seen.lock().unwrap().unwrap().since(start), secs(5));
    assert_eq!((report.took, report.steps[0].took), (secs(5), Duration::ZERO));
}

// GS-7
#[test]
fn waits_end_at_the_begin_at_the_end_or_after_their_timeout() {
    let (shutdown, hand) = with_manual_clock();
    let (callback, begun, release) = hanging();
    shutdown.register("slow", callback).unwrap();
    let asleep = {
        let (shutdown, hand) = (shutdown.clone(), hand.clone());
        thread::spawn(move || {
            let early = shutdown.begun_within(secs(1));
            (early, hand.now(), shutdown.begun_within(secs(1_000)), hand.now())
        })
    };
    let start = hand.now();
    while hand.now().since(start) < secs(2) {
        hand.advance(Duration::from_millis(10));
        thread::yield_now();
    }
    shutdown.on_signal(Signal::TERM);
    let (early, first, late, then) = asleep.join().unwrap();
    assert!(!early || first.since(start) >= secs(2), "the shutdown had not begun");
    assert!(late);
    assert_eq!(then, hand.now());
    begun.recv().unwrap();
    assert!(shutdown.wait_timeout(Duration::ZERO).is_none());
    let waiter = thread::spawn({
        let shutdown = shutdown.clone();
        move || shutdown.wait_timeout(secs(1_000))
    });
    release.send(()).unwrap();
    assert!(Arc::ptr_eq(&waiter.join().unwrap().unwrap(), &shutdown.wait()));
}

// GS-7: dropping the last handle, and leaving the scope, waits for running callbacks.
#[test]
fn dropping_the_last_handle_or_the_scope_waits_for_callbacks() {
    for scoped in [false, true] {
        let (shutdown, _hand) = with_manual_clock();
        let done = Arc::new(AtomicUsize::new(0));
        let (callback, begun, release) = hanging();
        let count = Arc::clone(&done);
        shutdown
            .register("slow", move || {
                callback();
                count.store(1, Ordering::SeqCst);
            })
            .unwrap();
        let keep = scoped.then(|| shutdown.clone());
        let scope = scoped.then(|| shutdown.install_scoped().unwrap());
        shutdown.on_signal(Signal::TERM);
        begun.recv().unwrap();
        let leaver = thread::spawn(move || {
            drop(shutdown);
            drop(scope);
            done.load(Ordering::SeqCst)
        });
        release.send(()).unwrap();
        assert_eq!(leaver.join().unwrap(), 1, "scoped: {scoped}");
        assert!(keep.is_none_or(|shutdown| !shutdown.is_installed()));
    }
}

// GS-7: leaving the scope, also by a panic, runs the callbacks if the shutdown has not begun, and then restores the
// handlers. A shutdown that has finished does not run again.
#[test]
fn leaving_the_scope_runs_the_callbacks_once() {
    for panics in [false, true] {
        let shutdown = GracefulShutdown::new();
        let runs = Arc::new(AtomicUsize::new(0));
        let (count, inner) = (Arc::clone(&runs), shutdown.clone());
        let while_running = Arc::new(Mutex::new(None));
        let installed = Arc::clone(&while_running);
        shutdown
            .register("callback", move || {
                count.fetch_add(1, Ordering::SeqCst);
                *installed.lock().unwrap() = Some(inner.is_installed());
            })
            .unwrap();
        let left = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _scope = shutdown.install_scoped().unwrap();
            assert!(!panics, "on purpose");
        }));
        assert_eq!(left.is_err(), panics);
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert_eq!(*while_running.lock().unwrap(), Some(true), "a second signal is handled while callbacks run");
        assert!(shutdown.is_shutting_down() && !shutdown.is_installed());
        drop(shutdown.install_scoped().unwrap());
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    }
}

// GS-3, GS-4: a callback that waits for a lock of the caller hangs like any other: only that callback times out.
#[test]
fn a_callback_that_needs_a_lock_of_the_caller_times_out() {
    let shutdown = GracefulShutdown::new();
    let lock = Arc::new(Mutex::new(()));
    let theirs = Arc::clone(&lock);
    let needs_lock = move || drop(theirs.lock().unwrap());
    shutdown.callback("needs lock").priority(1).timeout(Duration::from_millis(50)).register(needs_lock).unwrap();
    shutdown.register("after", || ()).unwrap();
    let held = lock.lock().unwrap();
    let report = shutdown.trigger();
    drop(held);
    assert_eq!(report.step("needs lock").unwrap().outcome, CallbackOutcome::TimedOut);
    assert_eq!(report.step("after").unwrap().outcome, CallbackOutcome::Completed);
}

#[test]
fn the_handle_is_one_pointer_that_threads_can_share() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<GracefulShutdown>();
    assert_eq!(size_of::<GracefulShutdown>(), size_of::<usize>());
}
