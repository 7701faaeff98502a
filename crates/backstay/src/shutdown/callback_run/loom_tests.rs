//! Every interleaving of one run: its end, its abort, and an async callback for which two drivers compete.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::AtomicUsize;

use loom::thread::yield_now;

use super::*;
use crate::sync::thread::{block_on, spawn};

/// How often a callback was polled and dropped. Not loom's atomics: they are only read at the end.
#[derive(Default)]
struct Trace {
    polls: AtomicUsize,
    drops: AtomicUsize,
}

/// Pending forever, or ready at once.
struct Callback {
    hangs: bool,
    trace: Arc<Trace>,
}

impl Future for Callback {
    type Output = Result<(), String>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        self.trace.polls.fetch_add(1, Ordering::Relaxed);
        // Lets the other threads run while this one executes.
        yield_now();
        if self.hangs { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

impl Drop for Callback {
    fn drop(&mut self) {
        self.trace.drops.fetch_add(1, Ordering::Relaxed);
    }
}

fn callback_run(hangs: bool) -> (Arc<CallbackRun>, Arc<Trace>) {
    let trace = Arc::new(Trace::default());
    let callback = Callback { hangs, trace: Arc::clone(&trace) };
    (CallbackRun::new(7, Some(Box::pin(callback))), trace)
}

fn driver(run: &Arc<CallbackRun>, future: Option<CleanupFuture>) -> CallbackDriver {
    CallbackDriver { run: Arc::clone(run), future }
}

// GS-4: a callback that has timed out is dropped by the thread that polls it, and the shutdown thread sees that its
// code has ended.
#[test]
fn loom_an_aborted_callback_is_dropped_and_its_end_is_seen() {
    loom::model(|| {
        let (run, trace) = callback_run(true);
        let future = run.unpolled.lock().take();
        let driver = driver(&run, future);
        let poller = spawn(move || block_on(driver));
        run.abort();
        assert!(run.returns_by(&Clock::system(), Moment::NEVER));
        poller.join().unwrap();
        assert_eq!(trace.drops.load(Ordering::Relaxed), 1);
        assert!(!run.is_executing());
    });
}

// GS-4: a sync callback that returns after its timeout wakes the shutdown thread that waits for it.
#[test]
fn loom_a_late_callback_wakes_the_shutdown_thread() {
    loom::model(|| {
        let run = CallbackRun::new(7, None);
        let shared = Arc::clone(&run);
        let callback = spawn(move || shared.execute(|| ()));
        run.abort();
        assert!(run.returns_by(&Clock::system(), Moment::NEVER));
        callback.join().unwrap().unwrap();
    });
}

// GS-9: if a runtime polls late, and a thread already runs the callback in its place, only one of them polls it.
#[test]
fn loom_an_async_callback_runs_once_if_two_drivers_compete() {
    loom::model(|| {
        let (run, trace) = callback_run(false);
        let (shared, late) = (Arc::clone(&run), driver(&run, None));
        let runtime = spawn(move || shared.end_with(block_on(late)));
        let future = run.unpolled.lock().take();
        if future.is_some() {
            run.end_with(block_on(driver(&run, future)));
        }
        let ended = run.wait(&Clock::system(), Moment::NEVER, |run| run.ended.lock().take());
        assert_eq!(ended, Some(Ok(())));
        runtime.join().unwrap();
        assert_eq!((trace.polls.load(Ordering::Relaxed), trace.drops.load(Ordering::Relaxed)), (1, 1));
    });
}

// GS-9: the shutdown thread does not wait for a runtime that has dropped the callback before the first poll.
#[test]
fn loom_a_runtime_that_drops_a_callback_wakes_the_shutdown_thread() {
    loom::model(|| {
        let (run, trace) = callback_run(false);
        let dropped = driver(&run, None);
        let runtime = spawn(move || drop(dropped));
        let begun = |run: &CallbackRun| run.unpolled.lock().is_none() || run.dropped_unpolled.load(Ordering::SeqCst);
        run.wait(&Clock::system(), Moment::NEVER, |run| begun(run).then_some(()));
        runtime.join().unwrap();
        assert!(run.unpolled.lock().take().is_some());
        assert_eq!(trace.polls.load(Ordering::Relaxed), 0);
    });
}
