//! Callbacks that panic, stop, beat, hang, or are futures.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use backstay::Heartbeat;
use backstay::clock::{Clock, ManualClock};
use backstay::heartbeat::{HeartbeatBuilder, Status};

use super::{Folder, INTERVAL, eventually};

type Itself = Arc<OnceLock<Heartbeat>>;

/// A heartbeat that its callbacks can get at.
fn with_itself(build: impl FnOnce(HeartbeatBuilder, Itself) -> HeartbeatBuilder) -> Heartbeat {
    let itself = Itself::default();
    let builder = Heartbeat::builder().interval(Duration::from_millis(1));
    let heartbeat = build(builder, Arc::clone(&itself)).build().unwrap();
    itself.set(heartbeat.clone()).unwrap();
    heartbeat
}

// HB-5: `stop` from inside each of them, and from a target; the farewell is written all the same.
#[test]
fn stop_may_be_called_from_inside_a_callback() {
    let cases: [fn(HeartbeatBuilder, Itself) -> HeartbeatBuilder; 5] = [
        |builder, itself| builder.on_beat(move |_| itself.wait().stop()),
        |builder, itself| {
            builder.on_beat_async(move |_| {
                let itself = Arc::clone(&itself);
                async move { itself.wait().stop() }
            })
        },
        |builder, itself| builder.target(|| true).on_target_dead(move |_| itself.wait().stop()),
        |builder, itself| builder.target(|| true).on_alert(move |_| itself.wait().stop()),
        |builder, itself| {
            builder.target(move || {
                itself.wait().stop();
                false
            })
        },
    ];
    for case in cases {
        let took = || {
            let folder = Folder::new();
            let heartbeat = with_itself(|builder, itself| case(builder.state_file(folder.file()), itself));
            let (clock, begin) = (Clock::system(), Clock::system().now());
            heartbeat.start().unwrap();
            eventually(|| {
                Heartbeat::read_state(folder.file()).is_ok_and(|state| state.status == Some(Status::Stopped))
            });
            heartbeat.stop();
            assert!(!heartbeat.is_running());
            clock.now().since(begin)
        };
        // One that waits for itself gives up after 5 s, every time; a machine that stalls does so now and then.
        let quick = (0..5).any(|_| took() < Duration::from_secs(4));
        assert!(quick, "it waited for itself until it gave up");
    }

    let folder = Folder::new();
    fs::create_dir(folder.file()).unwrap();
    let heartbeat =
        with_itself(|builder, itself| builder.state_file(folder.file()).on_missed_beat(move |_| itself.wait().stop()));
    heartbeat.start().unwrap();
    eventually(|| !heartbeat.is_running());
}

// HB-5: one that panics is logged and ends nothing.
#[test]
fn a_panic_ends_nothing() {
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

// HB-4, HB-5: a callback that hangs holds up no beat, and is not called again meanwhile.
#[test]
fn a_slow_callback_delays_no_beat() {
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let (calls, go_on) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (counted, released) = (Arc::clone(&calls), Arc::clone(&go_on));
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
    go_on.store(true, Ordering::SeqCst);
    heartbeat.stop();
    assert!(calls.load(Ordering::SeqCst) <= 2, "for the first beat, and for the last where that was told of late");
}

// HB-5: after `stop` no callback runs any more.
#[test]
fn stop_waits_for_a_callback_that_runs() {
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

// ALL-1: a callback that beats does not call itself for ever.
#[test]
fn a_callback_may_beat() {
    let folder = Folder::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let heartbeat = with_itself(move |builder, itself| {
        builder.state_file(folder.file()).on_beat(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            itself.wait().beat().unwrap();
        })
    });
    heartbeat.beat().unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

// HB-5: futures with timers and all.
#[cfg(feature = "tokio")]
#[test]
fn a_future_runs_to_its_end() {
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

// HB-5: and by hand inside a task as well, where a thread may not enter a second runtime.
#[cfg(feature = "tokio")]
#[tokio::test]
async fn a_future_runs_for_a_beat_by_hand_inside_a_task() {
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
