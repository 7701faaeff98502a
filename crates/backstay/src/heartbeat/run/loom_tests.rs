//! Every interleaving of the beat thread, the callback thread, and threads that request and wait.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::*;
use crate::sync::atomic::AtomicUsize;

/// Ignored under loom, which has no time: every wait must be woken.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The protocol of the beat thread: `HeartbeatInner::run_schedule` without a file and without time.
fn beat(run: &HeartbeatRun, beats: &AtomicUsize) {
    let _registered = run.register_beat_thread();
    while !run.is_stop_requested() {
        beats.fetch_add(1, Ordering::AcqRel);
        run.first_beat_made();
        wait(run);
    }
}

/// `HeartbeatInner::wait` without time.
fn wait(run: &HeartbeatRun) {
    while !run.is_stop_requested() && !run.take_beat_request() {
        thread::park();
    }
}

fn spawn() -> (Arc<HeartbeatRun>, Arc<AtomicUsize>, thread::JoinHandle<()>) {
    let (run, beats) = (Arc::new(HeartbeatRun::default()), Arc::new(AtomicUsize::new(0)));
    let shared = (Arc::clone(&run), Arc::clone(&beats));
    (run, beats, thread::spawn(move || beat(&shared.0, &shared.1)))
}

// HB-5: a stop takes effect at any time, also before the thread has started, and each waiter sees the end.
#[test]
fn loom_a_stop_is_never_missed() {
    loom::model(|| {
        let (run, _, thread) = spawn();
        run.no_callbacks();
        run.request_stop();
        run.wait_for_first_beat(TIMEOUT).unwrap();
        run.wait_for_end(TIMEOUT);
        thread.join().unwrap();
    });
}

// HB-1: `start` returns after the first beat, and a later stop finds the thread.
#[test]
fn loom_start_returns_after_the_first_beat() {
    loom::model(|| {
        let (run, beats, thread) = spawn();
        run.no_callbacks();
        run.wait_for_first_beat(TIMEOUT).unwrap();
        assert_eq!(beats.load(Ordering::Acquire), 1);
        run.request_stop();
        thread.join().unwrap();
    });
}

// HB-8: a requested beat is made, and sees what was set before the request.
#[test]
fn loom_a_requested_beat_is_made() {
    loom::model(|| {
        let (run, status) = (Arc::new(HeartbeatRun::default()), Arc::new(AtomicUsize::new(0)));
        let shared = (Arc::clone(&run), Arc::clone(&status));
        let thread = thread::spawn(move || {
            let (run, status) = shared;
            let _registered = run.register_beat_thread();
            while status.load(Ordering::Relaxed) == 0 {
                wait(&run);
            }
        });
        status.store(1, Ordering::Relaxed);
        run.request_beat();
        thread.join().unwrap();
    });
}

// HB-5: `stop` in a callback waits for the beat thread, but not for itself.
#[test]
fn loom_a_stop_in_a_callback_returns() {
    loom::model(|| {
        let (run, _, thread) = spawn();
        let in_callback = Arc::clone(&run);
        let callbacks = thread::spawn(move || {
            let _registered = in_callback.register_callback_thread();
            in_callback.request_stop();
            in_callback.wait_for_end(TIMEOUT);
        });
        run.wait_for_end(TIMEOUT);
        thread.join().unwrap();
        callbacks.join().unwrap();
    });
}
