//! Callbacks that panic, stop the heartbeat, beat, hang, or are async.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use backstay::Heartbeat;
use backstay::clock::{Clock, ManualClock};
use backstay::heartbeat::{HeartbeatBuilder, Status};

use super::{Folder, INTERVAL, eventually};

type Itself = Arc<OnceLock<Heartbeat>>;

/// Builds a heartbeat that its callbacks can use.
fn with_itself(build: impl FnOnce(HeartbeatBuilder, Itself) -> HeartbeatBuilder) -> Heartbeat {
    let own = Itself::default();
    let builder = Heartbeat::builder().interval(Duration::from_millis(1));
    let heartbeat = build(builder, Arc::clone(&own)).build().unwrap();
    own.set(heartbeat.clone()).unwrap();
    heartbeat
}

// HB-5: each callback and each target may call `stop`. The final beat is still written.
#[test]
fn a_callback_may_call_stop() {
    let cases: [fn(HeartbeatBuilder, Itself) -> HeartbeatBuilder; 5] = [
        |builder, own| builder.on_beat(move |_| own.wait().stop()),
        |builder, own| {
            builder.on_beat_async(move |_| {
                let own = Arc::clone(&own);
                async move { own.wait().stop() }
            })
        },
        |builder, own| builder.target(|| true).on_target_dead(move |_| own.wait().stop()),
        |builder, own| builder.target(|| true).on_alert(move |_| own.wait().stop()),
        |builder, own| {
            builder.target(move || {
                own.wait().stop();
                false
            })
        },
    ];
    for case in cases {
        let took = || {
            let folder = Folder::new();
            let heartbeat = with_itself(|builder, own| case(builder.state_file(folder.file()), own));
            let (clock, begin) = (Clock::system(), Clock::system().now());
            heartbeat.start().unwrap();
            eventually(|| {
                Heartbeat::read_state(folder.file()).is_ok_and(|state| state.status == Some(Status::Stopped))
            });
            heartbeat.stop();
            assert!(!heartbeat.is_running());
            clock.now().since(begin)
        };
        // A `stop` that waits for own takes 5 s every time; a busy machine makes it slow only sometimes.
        let quick = (0..5).any(|_| took() < Duration::from_secs(4));
        assert!(quick, "`stop` waited for its own callback");
    }

    let folder = Folder::new();
    fs::create_dir(folder.file()).unwrap();
    let heartbeat =
        with_itself(|builder, own| builder.state_file(folder.file()).on_missed_beat(move |_| own.wait().stop()));
    heartbeat.start().unwrap();
    eventually(|| !heartbeat.is_running());
}

// HB-5: a panic in user code is logged and stops nothing.
#[test]
fn a_panic_stops_nothing() {
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let beats = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&beats);
    let heartbeat = folder
        .heartbeat(&clock)
        .target(|| panic!("a target"))
        .target(|| true)
        .on_alert(|_| panic!("on_alert"))
        .on_target_dead_async(|_| async { panic!("on_target_dead") })
        .on_beat(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            panic!("on_beat");
        })
        .build()
        .unwrap();
    heartbeat.start().unwrap();
    eventually(|| {
        clock.advance(INTERVAL);
        beats.load(Ordering::SeqCst) >= 4
    });
    assert!(heartbeat.beat().is_ok());
    heartbeat.stop();
    assert_eq!(folder.state().status, Some(Status::Stopped));
}

// HB-4, HB-5: a callback that hangs delays no beat, and is not called again meanwhile.
#[test]
fn a_slow_callback_delays_no_beat() {
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let (calls, release) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (counted, released) = (Arc::clone(&calls), Arc::clone(&release));
    let heartbeat = folder
        .heartbeat(&clock)
        .on_beat(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            eventually(|| released.load(Ordering::SeqCst));
        })
        .build()
        .unwrap();
    folder.start(&heartbeat);
    for beat in 2..6 {
        clock.advance(INTERVAL);
        folder.wait_for(beat);
    }
    assert!(calls.load(Ordering::SeqCst) <= 1);
    release.store(true, Ordering::SeqCst);
    heartbeat.stop();
    assert!(calls.load(Ordering::SeqCst) <= 2, "for the first beat, and perhaps for the last");
}

// HB-5: after `stop` no callback runs.
#[test]
fn stop_waits_for_a_running_callback() {
    let folder = Folder::new();
    let (running, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (saw_running, saw_ended) = (Arc::clone(&running), Arc::clone(&ended));
    let heartbeat = Heartbeat::builder()
        .state_file(folder.file())
        .interval(INTERVAL)
        .on_beat(move |_| {
            saw_running.store(true, Ordering::SeqCst);
            std::thread::park_timeout(Duration::from_millis(100));
            saw_ended.store(true, Ordering::SeqCst);
        })
        .build()
        .unwrap();
    heartbeat.start().unwrap();
    eventually(|| running.load(Ordering::SeqCst));
    heartbeat.stop();
    assert!(ended.load(Ordering::SeqCst));
}

// ALL-1: a beat made in a callback does not run the callback again.
#[test]
fn a_callback_may_beat() {
    let folder = Folder::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let heartbeat = with_itself(move |builder, own| {
        builder.state_file(folder.file()).on_beat(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            own.wait().beat().unwrap();
        })
    });
    heartbeat.beat().unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

// HB-5: an async callback may use timers.
#[cfg(feature = "tokio")]
#[test]
fn an_async_callback_runs_to_completion() {
    let folder = Folder::new();
    let ended = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ended);
    let heartbeat = Heartbeat::builder()
        .state_file(folder.file())
        .interval(INTERVAL)
        .on_beat_async(move |state| {
            let (sequence, counted) = (state.sequence, Arc::clone(&counted));
            async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                assert_eq!(sequence, Some(1));
                counted.fetch_add(1, Ordering::SeqCst);
            }
        })
        .build()
        .unwrap();
    folder.start(&heartbeat);
    heartbeat.stop();
    assert_eq!(ended.load(Ordering::SeqCst), 1);
}

// HB-5: `beat` runs an async callback also in a task, where the thread must not enter a second runtime.
#[cfg(feature = "tokio")]
#[tokio::test]
async fn an_async_callback_runs_for_a_beat_in_a_task() {
    let ended = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ended);
    let heartbeat = Heartbeat::builder()
        .interval(INTERVAL)
        .on_beat_async(move |_| {
            let counted = Arc::clone(&counted);
            async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                counted.fetch_add(1, Ordering::SeqCst);
            }
        })
        .build()
        .unwrap();
    heartbeat.beat().unwrap();
    assert_eq!(ended.load(Ordering::SeqCst), 1);
}
