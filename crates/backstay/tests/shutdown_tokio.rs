//! The shutdown and tokio: where async callbacks run, who may block, what a cancelled trigger leaves behind.
#![cfg(feature = "shutdown")]
#![cfg(all(feature = "tokio", not(backstay_loom)))]
#![allow(clippy::unwrap_used)]

use std::future::pending;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use backstay::clock::{Clock, ManualClock};
use backstay::shutdown::{GracefulShutdown, Outcome, Report, Signal};
use tokio::runtime::{Builder, Handle, Id, Runtime};

const LONG: Duration = Duration::from_secs(30);

/// A clock that stands still: nothing times out, so whatever ends, ends by itself.
fn untimed() -> GracefulShutdown {
    GracefulShutdown::builder().clock(&ManualClock::new()).build().unwrap()
}

fn multi() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn single() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Registers a callback that tells on which runtime it ran, after it had to be polled anew.
fn tell_runtime(shutdown: &GracefulShutdown) -> Receiver<Id> {
    let (tell, told) = channel();
    shutdown
        .register_async("where", || async move {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            tell.send(Handle::current().id()).unwrap();
        })
        .unwrap();
    told
}

/// Runs `f` on a thread, and fails where it does not end.
fn ends<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, end) = channel();
    thread::spawn(move || done.send(f()));
    end.recv_timeout(LONG).expect("it neither hangs nor panics")
}

// GS-9: on the runtime where it was registered, triggered from a thread, a signal or a task alike.
#[test]
fn an_async_callback_runs_on_the_runtime_it_was_registered_on() {
    let runtime = multi();
    for how in ["thread", "signal", "task", "blocking task"] {
        let shutdown = untimed();
        let told = runtime.block_on(async { tell_runtime(&shutdown) });
        let trigger = shutdown.clone();
        match how {
            "thread" => drop(trigger.trigger()),
            "signal" => trigger.on_signal(Signal::TERM),
            "task" => drop(single().block_on(trigger.trigger_async())),
            // The only worker: without room made for the others the callback would never run.
            _ => drop(runtime.block_on(runtime.spawn(async move { trigger.trigger() })).unwrap()),
        }
        assert_eq!(told.recv_timeout(LONG).unwrap(), runtime.handle().id(), "{how}");
        assert!(shutdown.wait().is_clean());
    }
}

// GS-9: registered on none, it runs on the runtime of the task that triggers.
#[test]
fn without_a_runtime_of_its_own_it_runs_on_that_of_the_trigger() {
    let (shutdown, runtime) = (untimed(), single());
    let told = tell_runtime(&shutdown);
    runtime.block_on(shutdown.trigger_async());
    assert_eq!(told.recv().unwrap(), runtime.handle().id());
}

// GS-9: a runtime that is gone, or that the trigger itself blocks, is none.
#[test]
fn an_async_callback_whose_runtime_is_gone_or_blocked_has_one_of_its_own() {
    for gone in [true, false] {
        let report = ends(move || {
            let (shutdown, runtime) = (untimed(), single());
            let told = runtime.block_on(async { tell_runtime(&shutdown) });
            let id = runtime.handle().id();
            let report = if gone {
                drop(runtime);
                shutdown.trigger()
            } else {
                runtime.block_on(async { shutdown.trigger() })
            };
            assert_ne!(told.recv().unwrap(), id);
            report
        });
        assert!(report.is_clean(), "gone: {gone}, {report}");
    }
}

// GS-9: alive, but nobody drives it.
#[test]
fn an_async_callback_that_its_runtime_leaves_untouched_goes_elsewhere() {
    let (shutdown, runtime) = (GracefulShutdown::new(), single());
    let told = runtime.block_on(async { tell_runtime(&shutdown) });
    let report = shutdown.trigger();
    assert!(report.is_clean(), "{report}");
    assert_ne!(told.recv().unwrap(), runtime.handle().id());
}

// GS-4, GS-9
#[test]
fn an_async_callback_whose_runtime_ends_under_it_has_failed() {
    let report = ends(|| {
        let (shutdown, runtime) = (untimed(), multi());
        let (says, begun) = channel();
        let hangs = || async move {
            says.send(()).unwrap();
            pending::<()>().await;
        };
        runtime.block_on(async { shutdown.callback("cut").priority(1).register_async(hangs).unwrap() });
        shutdown.register("after", || ()).unwrap();
        shutdown.on_signal(Signal::TERM);
        begun.recv().unwrap();
        drop(runtime);
        shutdown.wait()
    });
    assert_eq!(report.steps[0].outcome, Outcome::Failed("its runtime ended before it".into()));
    assert_eq!(report.steps[1].outcome, Outcome::Completed);
}

/// Takes a moment to be dropped.
struct SlowToGo(#[allow(dead_code)] Sender<()>);

impl Drop for SlowToGo {
    fn drop(&mut self) {
        thread::park_timeout(Duration::from_millis(5));
    }
}

// GS-4: one that hangs is dropped; GS-5: so it does not run any more, and ends no process by force.
#[test]
fn a_hanging_async_callback_is_dropped_when_its_time_is_up() {
    for on_runtime in [true, false] {
        let runtime = multi();
        let hand = ManualClock::new();
        let shutdown = GracefulShutdown::builder().timeout(LONG).clock(&hand).build().unwrap();
        let (says, begun) = channel();
        let (alive, gone) = channel::<()>();
        let hangs = || async move {
            let _alive = SlowToGo(alive);
            says.send(()).unwrap();
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
        assert_eq!((&report.steps[0].outcome, report.steps[0].took), (&Outcome::TimedOut, LONG));
        assert_eq!(report.steps[1].outcome, Outcome::Completed);
        assert!(gone.recv().is_err(), "dropped");
    }
}

// GS-9: a cancelled trigger does not lose the rest.
#[test]
fn a_trigger_that_is_dropped_goes_on() {
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

// GS-9: the runtime goes on while a task triggers, and while one waits.
#[test]
fn waiting_tasks_hold_up_no_runtime() {
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
fn the_token_is_cancelled_by_the_beginning_and_begins_nothing() {
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

// ALL-1: tokio forbids blocking inside a `LocalSet` of a multi-threaded runtime.
#[test]
fn a_trigger_inside_a_local_set_ends() {
    let report: Arc<Report> = ends(|| {
        let shutdown = GracefulShutdown::new();
        shutdown.register_async("works", || async {}).unwrap();
        multi().block_on(tokio::task::LocalSet::new().run_until(async { shutdown.trigger() }))
    });
    assert!(report.is_clean(), "{report}");
}

// GS-7: with tokio's clock, paused time holds for delays and timeouts.
#[tokio::test(start_paused = true)]
async fn paused_time_holds_for_the_drain_and_the_timeouts() {
    let builder = GracefulShutdown::builder().timeout(LONG).drain_delay(2 * LONG);
    let shutdown = builder.clock(Clock::tokio()).build().unwrap();
    shutdown.register_async("hangs", pending::<()>).unwrap();
    let report = shutdown.trigger_async().await;
    assert_eq!(report.steps[0].outcome, Outcome::TimedOut);
    assert!(report.took >= 3 * LONG && report.took < 4 * LONG, "{report}");
}
