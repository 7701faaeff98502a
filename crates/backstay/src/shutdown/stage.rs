//! The one run of a shutdown, and those who wait for its beginning or its end, threads and tasks.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use backstay_core::shutdown::{OnSignal, Phase, Progress};

use crate::clock::{Clock, Moment};
use crate::process::this_process;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{Mutex, MutexGuard, Wake};

/// How far the run has come, what it ended with, and who waits.
///
/// Protocol: who changes the state empties the list of those who wait, and wakes them after the lock is released. Who
/// waits takes a seat in the list first and looks at the state after, each time anew.
#[derive(Debug)]
pub(super) struct Stage<R> {
    state: Mutex<State<R>>,
    /// Whether it has begun, for main loops that ask all the time: [`IDLE`], the process that runs it, or [`OVER`]. So a
    /// forked child that nothing has told of the fork sees that the run is its parent's. Written under the lock.
    begun: AtomicU32,
}

/// No process has this number.
const IDLE: u32 = 0;
const OVER: u32 = u32::MAX;

#[derive(Debug)]
struct State<R> {
    progress: Progress,
    /// The process whose threads run it. In one forked meanwhile nobody does.
    runner: u32,
    result: Option<R>,
    next_seat: u64,
    /// By seat: thousands of tasks may wait for one shutdown.
    waiting: BTreeMap<u64, Wake>,
}

/// What a wait is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    Begun,
    Over,
}

impl<R: Clone> Stage<R> {
    pub(super) fn new() -> Self {
        let progress = Progress::default();
        let state = State { progress, runner: 0, result: None, next_seat: 0, waiting: BTreeMap::new() };
        Self { state: Mutex::new(state), begun: AtomicU32::new(IDLE) }
    }

    /// Whether it is the caller's to run the callbacks.
    pub(super) fn begin(&self) -> bool {
        self.change(|state| {
            let first = state.progress.begin();
            if first {
                state.runner = this_process();
            }
            first
        })
    }

    /// What the signal leads to; [`OnSignal::Begin`]: it is the caller's to run the callbacks.
    pub(super) fn signal(&self, still_running: bool) -> OnSignal {
        self.change(|state| {
            let verdict = state.progress.signal(still_running);
            if verdict == OnSignal::Begin {
                state.runner = this_process();
            }
            verdict
        })
    }

    /// The run is over. True: the process has to be ended by force, and nobody is told before.
    pub(super) fn finish(&self, result: R, still_running: bool) -> bool {
        self.change(|state| {
            let by_force = state.progress.finish(still_running);
            if !by_force {
                state.result = Some(result);
            }
            by_force
        })
    }

    /// Whether a signal has asked for it.
    pub(super) fn is_signalled(&self) -> bool {
        self.settled().progress.is_signalled()
    }

    /// Whether it is under way, in this process.
    pub(super) fn is_running(&self) -> bool {
        self.settled().progress.phase() == Phase::Running
    }

    pub(super) fn is_begun(&self) -> bool {
        match self.begun.load(Ordering::SeqCst) {
            IDLE => false,
            OVER => true,
            process => process == this_process(),
        }
    }

    /// What the run ended with, once it is over.
    pub(super) fn result(&self) -> Option<R> {
        self.settled().result.clone()
    }

    /// Blocks the thread; false: it had not come when `deadline` had.
    pub(super) fn wait(&self, until: Until, clock: &Clock, deadline: Moment) -> bool {
        let mut seat = Seat { stage: self, number: None };
        loop {
            if seat.look(until, Wake::this_thread()) {
                return true;
            }
            if deadline != Moment::NEVER && clock.now() >= deadline {
                return false;
            }
            clock.park_until(deadline);
        }
    }

    /// A future that is ready when it has come.
    pub(super) fn reached(&self, until: Until) -> Reached<'_, R> {
        Reached { seat: Seat { stage: self, number: None }, until }
    }

    /// The state, free of a run that a fork has left behind.
    fn settled(&self) -> MutexGuard<'_, State<R>> {
        let mut state = self.state.lock();
        if state.progress.phase() == Phase::Running && state.runner != this_process() {
            state.progress = Progress::default();
            self.begun.store(IDLE, Ordering::SeqCst);
        }
        state
    }

    fn change<T>(&self, change: impl FnOnce(&mut State<R>) -> T) -> T {
        let mut state = self.settled();
        let before = state.progress.phase();
        let answer = change(&mut state);
        let by_force = state.progress.phase() == Phase::Over && state.result.is_none();
        let begun = match state.progress.phase() {
            Phase::Idle => IDLE,
            Phase::Running => state.runner,
            Phase::Over => OVER,
        };
        self.begun.store(begun, Ordering::SeqCst);
        let woken = if state.progress.phase() == before || by_force {
            BTreeMap::new()
        } else {
            std::mem::take(&mut state.waiting)
        };
        drop(state);
        woken.into_values().for_each(Wake::wake);
        answer
    }
}

/// A place in the list of those who wait, given up when dropped.
#[derive(Debug)]
struct Seat<'a, R: Clone> {
    stage: &'a Stage<R>,
    number: Option<u64>,
}

impl<R: Clone> Seat<'_, R> {
    /// Sees to it that `wake` is woken at the next change, and says whether what is waited for has come.
    fn look(&mut self, until: Until, wake: Wake) -> bool {
        let mut state = self.stage.settled();
        let come = match until {
            Until::Begun => state.progress.phase() != Phase::Idle,
            Until::Over => state.result.is_some(),
        };
        if come {
            return true;
        }
        let number = *self.number.get_or_insert_with(|| {
            state.next_seat += 1;
            state.next_seat
        });
        let old = state.waiting.insert(number, wake);
        drop(state);
        drop(old);
        false
    }
}

impl<R: Clone> Drop for Seat<'_, R> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let mut state = self.stage.state.lock();
        let wake = state.waiting.remove(&number);
        drop(state);
        drop(wake);
    }
}

/// [`Stage::reached`]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub(super) struct Reached<'a, R: Clone> {
    seat: Seat<'a, R>,
    until: Until,
}

impl<R: Clone> Future for Reached<'_, R> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let until = self.until;
        if self.seat.look(until, Wake::Task(context.waker().clone())) { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[cfg(all(test, not(backstay_loom)))]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Waker;

    // GS-7: looking again and leaving cost no more with many who wait, and leave nothing behind.
    #[test]
    fn whoever_looks_again_or_leaves_has_one_seat() {
        let stage = Stage::<()>::new();
        let mut waiting: Vec<_> = (0..1000).map(|_| stage.reached(Until::Begun)).collect();
        let poll = |reached: &mut Reached<'_, ()>| pin!(reached).poll(&mut Context::from_waker(Waker::noop()));
        for _ in 0..2 {
            assert!(waiting.iter_mut().all(|reached| poll(reached).is_pending()));
            assert_eq!(stage.state.lock().waiting.len(), 1000);
        }
        waiting.truncate(1);
        assert_eq!(stage.state.lock().waiting.len(), 1);
        assert!(stage.begin());
        assert!(poll(&mut waiting[0]).is_ready() && stage.state.lock().waiting.is_empty());
    }
}

#[cfg(all(test, backstay_loom))]
mod loom_tests {
    use super::*;
    use crate::sync::Arc;
    use crate::sync::atomic::AtomicUsize;
    use loom::thread;

    // GS-6: one runs it, the others wait for that one, and all have the one result.
    #[test]
    fn loom_the_run_happens_once_and_everyone_gets_its_result() {
        loom::model(|| {
            let stage = Arc::new(Stage::new());
            let runs = Arc::new(AtomicUsize::new(0));
            let trigger = |stage: &Stage<usize>, runs: &AtomicUsize| {
                if stage.begin() {
                    stage.finish(runs.fetch_add(1, Ordering::SeqCst) + 42, false);
                }
                assert!(stage.wait(Until::Over, &Clock::system(), Moment::NEVER));
                stage.result()
            };
            let (theirs, count) = (Arc::clone(&stage), Arc::clone(&runs));
            let other = thread::spawn(move || trigger(&theirs, &count));
            assert_eq!(trigger(&stage, &runs), Some(42));
            assert_eq!(other.join().unwrap(), Some(42));
            assert_eq!(runs.load(Ordering::SeqCst), 1);
        });
    }

    // GS-5, GS-6, GS-7: a signal and a trigger at once; a waiter misses neither the beginning nor the end.
    #[test]
    fn loom_no_wake_up_is_lost_between_looking_and_parking() {
        loom::model(|| {
            let stage = Arc::new(Stage::new());
            let (theirs, signalled) = (Arc::clone(&stage), Arc::clone(&stage));
            let waiter = thread::spawn(move || {
                assert!(theirs.wait(Until::Begun, &Clock::system(), Moment::NEVER));
                assert!(theirs.is_begun());
                assert!(theirs.wait(Until::Over, &Clock::system(), Moment::NEVER));
            });
            let signal = thread::spawn(move || {
                let first = signalled.signal(false) == OnSignal::Begin;
                if first {
                    signalled.finish(1, false);
                }
                first
            });
            let first = stage.begin();
            if first {
                stage.finish(2, false);
            }
            assert!(signal.join().unwrap() != first);
            waiter.join().unwrap();
        });
    }
}
