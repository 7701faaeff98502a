//! Every interleaving of one turn: its end, its abort, and an async callback that changes hands.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::AtomicUsize;

use loom::thread::yield_now;

use super::*;
use crate::sync::thread::{block_on, spawn};

/// What became of a callback. Not loom's: it is only looked at when all is over.
#[derive(Default)]
struct Trace {
    polls: AtomicUsize,
    drops: AtomicUsize,
}

/// Pending for ever, or ready at once.
struct Callback {
    hangs: bool,
    trace: Arc<Trace>,
}

impl Future for Callback {
    type Output = Result<(), String>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        self.trace.polls.fetch_add(1, Ordering::Relaxed);
        // Room for the others while it executes.
        yield_now();
        if self.hangs { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

impl Drop for Callback {
    fn drop(&mut self) {
        self.trace.drops.fetch_add(1, Ordering::Relaxed);
    }
}

fn turn(hangs: bool) -> (Arc<Turn>, Arc<Trace>) {
    let trace = Arc::new(Trace::default());
    let callback = Callback { hangs, trace: Arc::clone(&trace) };
    (Turn::new(7, Some(Box::pin(callback))), trace)
}

fn drive(turn: &Arc<Turn>, future: Option<CleanupFuture>) -> Drive {
    Drive { turn: Arc::clone(turn), future }
}

// GS-4: whoever polls a callback whose time is up drops it, and the run learns that its code came back.
#[test]
fn loom_an_abort_is_seen_and_so_is_what_follows() {
    loom::model(|| {
        let (turn, trace) = turn(true);
        let future = turn.untouched.lock().take();
        let drive = drive(&turn, future);
        let poller = spawn(move || block_on(drive));
        turn.abort();
        assert!(turn.comes_back(&Clock::system(), Moment::NEVER));
        poller.join().unwrap();
        assert_eq!(trace.drops.load(Ordering::Relaxed), 1);
        assert!(!turn.is_busy());
    });
}

// GS-4: a plain callback that comes back after its time wakes the run that waits for it.
#[test]
fn loom_a_late_callback_is_waited_for() {
    loom::model(|| {
        let turn = Turn::new(7, None);
        let theirs = Arc::clone(&turn);
        let callback = spawn(move || theirs.execute(|| ()));
        turn.abort();
        assert!(turn.comes_back(&Clock::system(), Moment::NEVER));
        callback.join().unwrap().unwrap();
    });
}

// GS-9: of a runtime that begins late and the thread that runs the callback in its place, one has it, and it ends once.
#[test]
fn loom_an_async_callback_runs_once_wherever_it_is_taken() {
    loom::model(|| {
        let (turn, trace) = turn(false);
        let (theirs, late) = (Arc::clone(&turn), drive(&turn, None));
        let runtime = spawn(move || theirs.end_with(block_on(late)));
        let future = turn.untouched.lock().take();
        if future.is_some() {
            turn.end_with(block_on(drive(&turn, future)));
        }
        let ended = turn.wait(&Clock::system(), Moment::NEVER, |turn| turn.ended.lock().take());
        assert_eq!(ended, Some(Ok(())));
        runtime.join().unwrap();
        assert_eq!((trace.polls.load(Ordering::Relaxed), trace.drops.load(Ordering::Relaxed)), (1, 1));
    });
}

// GS-9: a runtime that ends without having begun is not waited for.
#[test]
fn loom_a_runtime_that_forsakes_a_callback_says_so() {
    loom::model(|| {
        let (turn, trace) = turn(false);
        let theirs = drive(&turn, None);
        let runtime = spawn(move || drop(theirs));
        let begun = |turn: &Turn| turn.untouched.lock().is_none() || turn.forsaken.load(Ordering::SeqCst);
        turn.wait(&Clock::system(), Moment::NEVER, |turn| begun(turn).then_some(()));
        runtime.join().unwrap();
        assert!(turn.untouched.lock().take().is_some());
        assert_eq!(trace.polls.load(Ordering::Relaxed), 0);
    });
}
