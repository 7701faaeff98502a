//! The state of a shutdown, and the threads and tasks that wait for its begin or its end.
//!
//! # Memory ordering
//! `begun` is written under the lock of `locked` and read without it. Its stores and loads pair as release and acquire:
//! a thread that reads "begun" sees all that the thread that began the shutdown did before. `SeqCst` includes that; the
//! load costs no more, and the store is rare.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use backstay_core::shutdown::{Progress, ShutdownPhase, SignalAction};

use crate::clock::{Clock, Moment};
use crate::process::this_process;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{Mutex, MutexGuard, Wake};

/// The phase of a shutdown, its result, and its waiters.
///
/// Protocol: a change of the phase takes all waiters out of the list under the lock, and wakes them after the lock is
/// released. A waiter checks the state and adds itself to the list under one lock, and does both again after each
/// wake-up.
#[derive(Debug)]
pub(super) struct ShutdownState<R> {
    locked: Mutex<LockedState<R>>,
    /// A copy for main loops that poll: [`IDLE`], the number of the process that runs the callbacks, or [`FINISHED`].
    /// The number shows a forked child that the shutdown is running in its parent. Written under the lock.
    begun: AtomicU32,
}

/// Not a process number.
const IDLE: u32 = 0;
/// Not a process number.
const FINISHED: u32 = u32::MAX;

#[derive(Debug)]
struct LockedState<R> {
    progress: Progress,
    /// The process that runs the callbacks. In a child forked in the meantime, no thread runs them.
    runner: u32,
    result: Option<R>,
    next_waiter: u64,
    /// By number: thousands of tasks may wait for one shutdown.
    waiters: BTreeMap<u64, Wake>,
}

/// The event that a waiter waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Milestone {
    Begun,
    Finished,
}

impl<R: Clone> ShutdownState<R> {
    pub(super) fn new() -> Self {
        let progress = Progress::default();
        let state = LockedState { progress, runner: 0, result: None, next_waiter: 0, waiters: BTreeMap::new() };
        Self { locked: Mutex::new(state), begun: AtomicU32::new(IDLE) }
    }

    /// Begins the shutdown, and returns whether the caller has to run the callbacks.
    pub(super) fn begin(&self) -> bool {
        self.change(|state| {
            let first = state.progress.begin();
            if first {
                state.runner = this_process();
            }
            first
        })
    }

    /// Handles a signal. On [`SignalAction::Begin`] the caller has to run the callbacks.
    pub(super) fn signal(&self, still_running: bool) -> SignalAction {
        self.change(|state| {
            let action = state.progress.signal(still_running);
            if action == SignalAction::Begin {
                state.runner = this_process();
            }
            action
        })
    }

    /// Finishes the shutdown, and returns whether the process must be ended by force; then no waiter is woken.
    pub(super) fn finish(&self, result: R, still_running: bool) -> bool {
        self.change(|state| {
            let by_force = state.progress.finish(still_running);
            if !by_force {
                state.result = Some(result);
            }
            by_force
        })
    }

    /// Returns whether a signal has arrived.
    pub(super) fn is_signalled(&self) -> bool {
        self.lock().progress.is_signalled()
    }

    /// Returns whether the shutdown is running in this process.
    pub(super) fn is_running(&self) -> bool {
        self.lock().progress.phase() == ShutdownPhase::Running
    }

    pub(super) fn is_begun(&self) -> bool {
        match self.begun.load(Ordering::SeqCst) {
            IDLE => false,
            FINISHED => true,
            process => process == this_process(),
        }
    }

    /// Returns the result of a finished shutdown.
    pub(super) fn result(&self) -> Option<R> {
        self.lock().result.clone()
    }

    /// Blocks the thread until `milestone`, and returns whether it was reached before `deadline`.
    pub(super) fn wait(&self, milestone: Milestone, clock: &Clock, deadline: Moment) -> bool {
        let mut waiter = WaiterEntry { state: self, number: None };
        loop {
            if waiter.check_or_register(milestone, Wake::this_thread()) {
                return true;
            }
            if deadline != Moment::NEVER && clock.now() >= deadline {
                return false;
            }
            clock.park_until(deadline);
        }
    }

    /// Returns a future that is ready at `milestone`.
    pub(super) fn reached(&self, milestone: Milestone) -> MilestoneFuture<'_, R> {
        MilestoneFuture { waiter: WaiterEntry { state: self, number: None }, milestone }
    }

    /// Locks the state. In a forked child, a shutdown that was running in the parent is first set back to idle.
    fn lock(&self) -> MutexGuard<'_, LockedState<R>> {
        let mut state = self.locked.lock();
        if state.progress.phase() == ShutdownPhase::Running && state.runner != this_process() {
            state.progress = Progress::default();
            self.begun.store(IDLE, Ordering::SeqCst);
        }
        state
    }

    fn change<T>(&self, change: impl FnOnce(&mut LockedState<R>) -> T) -> T {
        let mut state = self.lock();
        let before = state.progress.phase();
        let answer = change(&mut state);
        let by_force = state.progress.phase() == ShutdownPhase::Finished && state.result.is_none();
        let begun = match state.progress.phase() {
            ShutdownPhase::Idle => IDLE,
            ShutdownPhase::Running => state.runner,
            ShutdownPhase::Finished => FINISHED,
        };
        self.begun.store(begun, Ordering::SeqCst);
        let woken = if state.progress.phase() == before || by_force {
            BTreeMap::new()
        } else {
            std::mem::take(&mut state.waiters)
        };
        drop(state);
        woken.into_values().for_each(Wake::wake);
        answer
    }
}

/// An entry in the list of waiters, removed when dropped.
#[derive(Debug)]
struct WaiterEntry<'a, R: Clone> {
    state: &'a ShutdownState<R>,
    number: Option<u64>,
}

impl<R: Clone> WaiterEntry<'_, R> {
    /// Returns whether `milestone` is reached; if not, registers `wake` for the next change of the phase.
    fn check_or_register(&mut self, milestone: Milestone, wake: Wake) -> bool {
        let mut state = self.state.lock();
        let is_reached = match milestone {
            Milestone::Begun => state.progress.phase() != ShutdownPhase::Idle,
            Milestone::Finished => state.result.is_some(),
        };
        if is_reached {
            return true;
        }
        let number = *self.number.get_or_insert_with(|| {
            state.next_waiter += 1;
            state.next_waiter
        });
        let old = state.waiters.insert(number, wake);
        drop(state);
        drop(old);
        false
    }
}

impl<R: Clone> Drop for WaiterEntry<'_, R> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let mut state = self.state.locked.lock();
        let wake = state.waiters.remove(&number);
        drop(state);
        drop(wake);
    }
}

/// Waits for a milestone: [`ShutdownState::reached`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub(super) struct MilestoneFuture<'a, R: Clone> {
    waiter: WaiterEntry<'a, R>,
    milestone: Milestone,
}

impl<R: Clone> Future for MilestoneFuture<'_, R> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let milestone = self.milestone;
        if self.waiter.check_or_register(milestone, Wake::Task(context.waker().clone())) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

#[cfg(all(test, not(backstay_loom)))]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Waker;

    // GS-7: a task that is polled again has one entry in the list, and a dropped one has none.
    #[test]
    fn each_waiter_has_one_entry_until_it_is_dropped() {
        let state = ShutdownState::<()>::new();
        let mut waiters: Vec<_> = (0..1000).map(|_| state.reached(Milestone::Begun)).collect();
        let poll = |reached: &mut MilestoneFuture<'_, ()>| pin!(reached).poll(&mut Context::from_waker(Waker::noop()));
        for _ in 0..2 {
            assert!(waiters.iter_mut().all(|reached| poll(reached).is_pending()));
            assert_eq!(state.locked.lock().waiters.len(), 1000);
        }
        waiters.truncate(1);
        assert_eq!(state.locked.lock().waiters.len(), 1);
        assert!(state.begin());
        assert!(poll(&mut waiters[0]).is_ready() && state.locked.lock().waiters.is_empty());
    }
}

#[cfg(all(test, backstay_loom))]
mod loom_tests {
    use super::*;
    use crate::sync::Arc;
    use crate::sync::atomic::AtomicUsize;
    use loom::thread;

    // GS-6: one caller runs the callbacks, the other waits, and both get the same result.
    #[test]
    fn loom_callbacks_run_once_and_all_callers_get_the_result() {
        loom::model(|| {
            let state = Arc::new(ShutdownState::new());
            let runs = Arc::new(AtomicUsize::new(0));
            let trigger = |state: &ShutdownState<usize>, runs: &AtomicUsize| {
                if state.begin() {
                    state.finish(runs.fetch_add(1, Ordering::SeqCst) + 42, false);
                }
                assert!(state.wait(Milestone::Finished, &Clock::system(), Moment::NEVER));
                state.result()
            };
            let (theirs, count) = (Arc::clone(&state), Arc::clone(&runs));
            let other = thread::spawn(move || trigger(&theirs, &count));
            assert_eq!(trigger(&state, &runs), Some(42));
            assert_eq!(other.join().unwrap(), Some(42));
            assert_eq!(runs.load(Ordering::SeqCst), 1);
        });
    }

    // GS-5, GS-6, GS-7: a signal and a trigger at the same time; a waiter misses neither the begin nor the end.
    #[test]
    fn loom_no_wake_up_is_lost_between_check_and_park() {
        loom::model(|| {
            let state = Arc::new(ShutdownState::new());
            let (theirs, signalled) = (Arc::clone(&state), Arc::clone(&state));
            let waiter = thread::spawn(move || {
                assert!(theirs.wait(Milestone::Begun, &Clock::system(), Moment::NEVER));
                assert!(theirs.is_begun());
                assert!(theirs.wait(Milestone::Finished, &Clock::system(), Moment::NEVER));
            });
            let signal = thread::spawn(move || {
                let first = signalled.signal(false) == SignalAction::Begin;
                if first {
                    signalled.finish(1, false);
                }
                first
            });
            let first = state.begin();
            if first {
                state.finish(2, false);
            }
            assert!(signal.join().unwrap() != first);
            waiter.join().unwrap();
        });
    }
}
