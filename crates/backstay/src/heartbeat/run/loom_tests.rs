//! Every interleaving of the beating thread, the callbacks' thread, and those that ask and wait.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::*;
use crate::sync::atomic::AtomicUsize;

/// Passed over by loom, which knows no time: what waits must be woken.
const LIMIT: Duration = Duration::from_secs(5);

/// The beating thread's protocol: `Beating::beat_until_stopped`, without the file and without time.
fn beat(run: &Run, beats: &AtomicUsize) {
    let _here = run.beat_here();
    while !run.is_asked_to_stop() {
        beats.fetch_add(1, Ordering::AcqRel);
        run.first_beat_made();
        wait(run);
    }
}

/// `Beating::wait`, without time.
fn wait(run: &Run) {
    while !run.is_asked_to_stop() && !run.take_request() {
        thread::park();
    }
}

fn spawn() -> (Arc<Run>, Arc<AtomicUsize>, thread::JoinHandle<()>) {
    let (run, beats) = (Arc::new(Run::default()), Arc::new(AtomicUsize::new(0)));
    let theirs = (Arc::clone(&run), Arc::clone(&beats));
    (run, beats, thread::spawn(move || beat(&theirs.0, &theirs.1)))
}

// HB-5: a stop is seen whenever it comes, also before the thread has begun; and whatever waits sees its end.
#[test]
fn loom_a_stop_is_never_missed() {
    loom::model(|| {
        let (run, _, beating) = spawn();
        run.no_callbacks();
        run.ask_to_stop();
        run.wait_for_first_beat(LIMIT).unwrap();
        run.wait_for_end(LIMIT);
        beating.join().unwrap();
    });
}

// HB-1: `start` returns when the first beat is made, and the stop after it finds the thread.
#[test]
fn loom_a_start_sees_the_first_beat() {
    loom::model(|| {
        let (run, beats, beating) = spawn();
        run.no_callbacks();
        run.wait_for_first_beat(LIMIT).unwrap();
        assert_eq!(beats.load(Ordering::Acquire), 1);
        run.ask_to_stop();
        beating.join().unwrap();
    });
}

// HB-8: a beat that is asked for is made, and writes what was set before.
#[test]
fn loom_a_requested_beat_is_made() {
    loom::model(|| {
        let (run, status) = (Arc::new(Run::default()), Arc::new(AtomicUsize::new(0)));
        let theirs = (Arc::clone(&run), Arc::clone(&status));
        let beating = thread::spawn(move || {
            let (run, status) = theirs;
            let _here = run.beat_here();
            while status.load(Ordering::Relaxed) == 0 {
                wait(&run);
            }
        });
        status.store(1, Ordering::Relaxed);
        run.ask_for_beat();
        beating.join().unwrap();
    });
}

// HB-5: `stop` in a callback waits for the beats and not for itself.
#[test]
fn loom_a_stop_in_a_callback_ends() {
    loom::model(|| {
        let (run, _, beating) = spawn();
        let theirs = Arc::clone(&run);
        let callbacks = thread::spawn(move || {
            let _here = theirs.call_back_here();
            theirs.ask_to_stop();
            theirs.wait_for_end(LIMIT);
        });
        run.wait_for_end(LIMIT);
        beating.join().unwrap();
        callbacks.join().unwrap();
    });
}
