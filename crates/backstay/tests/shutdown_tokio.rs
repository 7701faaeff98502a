//! Shutdowns with tokio: the runtimes of async callbacks, blocking, and cancelled triggers.
#![cfg(feature = "shutdown")]
#![cfg(all(feature = "tokio", not(backstay_loom)))]
#![allow(clippy::unwrap_used)]

use std::future::pending;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use backstay::clock::{Clock, ManualClock};
use backstay::shutdown::{CallbackOutcome, GracefulShutdown, ShutdownReport, Signal};
use tokio::runtime::{Builder, Handle, Id, Runtime};

const LONG: Duration = Duration::from_secs(30);

/// A shutdown with a clock that stands still, so that no callback times out.
fn untimed() -> GracefulShutdown {
    GracefulShutdown::builder().clock(&ManualClock::new()).build().unwrap()
}

fn multi() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn single() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Registers a callback that reports its runtime after it was pending.
fn report_runtime(shutdown: &GracefulShutdown) -> Receiver<Id> {
    let (sender, reported) = channel();
    shutdown
        .register_async("where", || async move {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            sender.send(Handle::current().id()).unwrap();
        })
        .unwrap();
    reported
}

/// Runs `f` on a thread, and panics if it does not end in time.
fn run_within_limit<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, end) = channel();
    thread::spawn(move || done.send(f()));
    end.recv_timeout(LONG).expect("it hangs or panics")
}

// GS-9: whether a thread, a signal or a task begins the shutdown.
#[test]
fn an_async_callback_runs_on_the_runtime_it_was_registered_on() {
    let runtime = multi();
    for how in ["thread", "signal", "task", "blocking task"] {
        let shutdown = untimed();
        let reported = runtime.block_on(async { report_runtime(&shutdown) });
        let trigger = shutdown.clone();
        match how {
            "thread" => drop(trigger.trigger()),
            "signal" => trigger.on_signal(Signal::TERM),
            "task" => drop(single().block_on(trigger.trigger_async())),
            // This task blocks the only worker: without `block_in_place` the callback would never run.
            _ => drop(runtime.block_on(runtime.spawn(async move { trigger.trigger() })).unwrap()),
        }
        assert_eq!(reported.recv_timeout(LONG).unwrap(), runtime.handle().id(), "{how}");
        assert!(shutdown.wait().is_clean());
    }
}

// GS-9
#[test]
fn a_callback_registered_without_a_runtime_runs_on_that_of_the_trigger() {
    let (shutdown, runtime) = (untimed(), single());
    let reported = report_runtime(&shutdown);
    runtime.block_on(shutdown.trigger_async());
    assert_eq!(reported.recv().unwrap(), runtime.handle().id());
}

// GS-9: also if the trigger itself blocks the runtime.
#[test]
fn an_async_callback_runs_on_the_reserved_runtime_if_its_own_is_gone_or_blocked() {
    for gone in [true, false] {
        let report = run_within_limit(move || {
            let (shutdown, runtime) = (untimed(), single());
            let reported = runtime.block_on(async { report_runtime(&shutdown) });
            let id = runtime.handle().id();
            let report = if gone {
                drop(runtime);
                shutdown.trigger()
            } else {
                runtime.block_on(async { shutdown.trigger() })
            };
            assert_ne!(reported.recv().unwrap(), id);
            report
        });
        assert!(report.is_clean(), "gone: {gone}, {report}");
    }
}

// GS-9: the runtime exists, but no thread drives it.
#[test]
fn an_async_callback_that_its_runtime_does_not_poll_runs_elsewhere() {
    let (shutdown, runtime) = (GracefulShutdown::new(), single());
    let reported = runtime.block_on(async { report_runtime(&shutdown) });
    let report = shutdown.trigger();
    assert!(report.is_clean(), "{report}");
    assert_ne!(reported.recv().unwrap(), runtime.handle().id());
}

// GS-4, GS-9
#[test]
fn an_async_callback_fails_if_its_runtime_ends_first() {
    let report = run_within_limit(|| {
        let (shutdown, runtime) = (untimed(), multi());
        let (started, begun) = channel();
        let hangs = || async move {
            started.send(()).unwrap();
            pending::<()>().await;
        };
        runtime.block_on(async { shutdown.callback("cut").priority(1).register_async(hangs).unwrap() });
        shutdown.register("after", || ()).unwrap();
        shutdown.on_signal(Signal::TERM);
        begun.recv().unwrap();
        drop(runtime);
        shutdown.wait()
    });
    assert_eq!(report.steps[0].outcome, CallbackOutcome::Failed("its runtime ended before the callback did".into()));
    assert_eq!(report.steps[1].outcome, CallbackOutcome::Completed);
}

/// Takes a few milliseconds to be dropped.
struct SlowToDrop(#[allow(dead_code)] Sender<()>);

impl Drop for SlowToDrop {
    fn drop(&mut self) {
        thread::park_timeout(Duration::from_millis(5));
    }
}

// GS-4: an async callback that hangs is dropped; GS-5: so it no longer runs, and the process is not ended by force.
#[test]
fn an_async_callback_that_hangs_is_dropped_after_its_timeout() {
    for on_runtime in [true, false] {
        let runtime = multi();
        let hand = ManualClock::new();
        let shutdown = GracefulShutdown::builder().timeout(LONG).clock(&hand).build().unwrap();
        let (started, begun) = channel();
        let (alive, gone) = channel::<()>();
        let hangs = || async move {
            let _alive = SlowToDrop(alive);
            started.send(()).unwrap();
            pending::<()>().await;
        };
        let register = || shutdown.register_async("hangs", hangs).unwrap();
        if on_runtime {
            runtime.block_on(async { register() });
        } else {
            register();
        }
        shutdown.register("after", || ()).unwrap();
        shutdown.on_signal(Signal::TERM);
        begun.recv().unwrap();
        hand.advance(LONG);
        let report = shutdown.wait();
        assert_eq!((&report.steps[0].outcome, report.steps[0].took), (&CallbackOutcome::TimedOut, LONG));
        assert_eq!(report.steps[1].outcome, CallbackOutcome::Completed);
        assert!(gone.recv().is_err(), "dropped");
    }
}

// GS-9
#[test]
fn a_shutdown_goes_on_if_its_trigger_is_cancelled() {
    let shutdown = untimed();
    let (release, released) = channel::<()>();
    shutdown.register("slow", move || released.recv().unwrap()).unwrap();
    shutdown.register_async("rest", || async {}).unwrap();
    single().block_on(async {
        tokio::select! {
            biased;
            _ = shutdown.trigger_async() => panic!("the callback has not been released"),
            () = tokio::task::yield_now() => {}
        }
    });
    release.send(()).unwrap();
    let report = shutdown.wait();
    assert!(report.is_clean() && report.steps.len() == 2, "{report}");
}

// GS-9: other tasks run while one task triggers and another waits.
#[test]
fn waiting_tasks_do_not_block_the_runtime() {
    let shutdown = untimed();
    let (release, released) = channel();
    shutdown.register("needs a task", move || released.recv().unwrap()).unwrap();
    let reports = single().block_on(async {
        let waits = tokio::spawn({
            let shutdown = shutdown.clone();
            async move {
                shutdown.begun().await;
                assert!(shutdown.is_shutting_down());
                shutdown.wait_async().await
            }
        });
        let releases = tokio::spawn({
            let token = shutdown.token();
            async move {
                token.cancelled().await;
                release.send(()).unwrap();
            }
        });
        let report = shutdown.trigger_async().await;
        releases.await.unwrap();
        [report, waits.await.unwrap()]
    });
    assert!(Arc::ptr_eq(&reports[0], &reports[1]));
    assert!(reports[0].is_clean());
}

// GS-10
#[test]
fn the_token_is_cancelled_when_the_shutdown_begins_and_does_not_begin_it() {
    let shutdown = untimed();
    let (mine, other) = (shutdown.token(), shutdown.token());
    mine.cancel();
    assert!(!shutdown.is_shutting_down() && !other.is_cancelled());
    let seen = Arc::new(Mutex::new(None));
    let (note, token) = (Arc::clone(&seen), other.clone());
    shutdown.register("first", move || *note.lock().unwrap() = Some(token.is_cancelled())).unwrap();
    shutdown.trigger();
    assert_eq!(*seen.lock().unwrap(), Some(true));
    assert!(shutdown.token().is_cancelled());
}

// ALL-1: tokio's `block_in_place` panics inside a `LocalSet` of a multi-threaded runtime.
#[test]
fn a_trigger_inside_a_local_set_does_not_panic() {
    let report: Arc<ShutdownReport> = run_within_limit(|| {
        let shutdown = GracefulShutdown::new();
        shutdown.register_async("works", || async {}).unwrap();
        multi().block_on(tokio::task::LocalSet::new().run_until(async { shutdown.trigger() }))
    });
    assert!(report.is_clean(), "{report}");
}

// GS-7: with tokio's clock, delays and timeouts follow paused time.
#[tokio::test(start_paused = true)]
async fn paused_time_applies_to_the_drain_delay_and_the_timeouts() {
    let builder = GracefulShutdown::builder().timeout(LONG).drain_delay(2 * LONG);
    let shutdown = builder.clock(Clock::tokio()).build().unwrap();
    shutdown.register_async("hangs", pending::<()>).unwrap();
    let report = shutdown.trigger_async().await;
    assert_eq!(report.steps[0].outcome, CallbackOutcome::TimedOut);
    assert!(report.took >= 3 * LONG && report.took < 4 * LONG, "{report}");
}
