//! The thread that checks every watchdog of the process.
//!
//! It sleeps until the next deadline, at most [`MAX_SLEEP`] so that it detects clock gaps. It never blocks otherwise:
//! callbacks and file checks run in the [`CallbackPool`]. A check reads the watchdog's state and puts its entry back
//! into the queue. A ping does not notify the monitor, because it only moves the deadline to a later time.
//!
//! # Locks
//! One, `state`. No user code runs under it.
//!
//! - A watchdog's run id is written only under the lock, and `running` counts the watchdogs that are running.
//! - An entry is obsolete if its run is no longer the watchdog's current run. It is removed when the monitor next meets
//!   it, or when most entries are obsolete.
//! - A run can be stopped while the monitor checks its entry without the lock. So a watchdog fires under the lock, and
//!   only if the run is still current: nothing fires after `stop` has returned.
//!
//! # Memory ordering
//! `AdvanceWaker::registered` is sequentially consistent. Clearing it comes before `unpark` and setting it before
//! `on_advance`, so each advance of the clock either meets a registered waker or comes before the reading of the time.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, Thread};

use backstay_core::watchdog::{CheckResult, ClockGaps, DeadlineQueue, MAX_SLEEP, check};

use super::WatchdogInner;
use super::callback_pool::CallbackPool;
use super::report::Firing;
use super::shared::{RunId, WatchdogShared};
use super::watched_file::{self, BootClockGaps};
use crate::clock::{Clock, ManualClock, Moment, Source};
use crate::process::PerProcess;
use crate::sync::{Mutex, Wake};

#[derive(Default)]
pub(super) struct Monitor {
    state: Mutex<MonitorState>,
    pub(super) pool: CallbackPool,
}

#[derive(Default)]
struct MonitorState {
    /// Watchdogs on the system's clock.
    queue: DeadlineQueue<WatchEntry>,
    /// Watchdogs on a manual clock, which are checked whenever the monitor wakes.
    on_manual_clock: Vec<WatchEntry>,
    /// Number of running watchdogs.
    running: usize,
    thread: Option<Thread>,
    /// Time until which the monitor sleeps.
    wake_at: Moment,
}

/// One run of a watchdog, to be checked at `check_at`.
pub(super) struct WatchEntry {
    pub(super) shared: Arc<WatchdogShared>,
    pub(super) inner: Weak<WatchdogInner>,
    pub(super) run: RunId,
    /// Clock gaps between the checks of a heartbeat file.
    pub(super) boot_gaps: Option<Box<BootClockGaps>>,
    /// Wakes the monitor when a manual clock is advanced.
    advance_waker: Option<Arc<AdvanceWaker>>,
    check_at: Moment,
}

/// Why a watchdog was not started.
pub(super) enum StartError {
    AlreadyRunning,
    NoThread(io::Error),
}

impl Monitor {
    /// Returns this process's monitor. Its thread runs while there is a watchdog to check.
    pub(super) fn get() -> &'static Self {
        static MONITOR: PerProcess<Monitor> = PerProcess::new();
        MONITOR.get()
    }

    /// Starts a new run of a watchdog that is not running.
    pub(super) fn start(&'static self, inner: &Arc<WatchdogInner>) -> Result<(), StartError> {
        let shared = &inner.shared;
        let mut state = self.state.lock();
        let before = shared.run();
        if before.is_running() {
            return Err(StartError::AlreadyRunning);
        }
        if state.thread.is_none() {
            // A suspension before the thread's first instruction is a clock gap, too.
            let spawned_at = Clock::system().now();
            let spawned = thread::Builder::new().name("backstay-watch".into()).spawn(move || self.watch(spawned_at));
            state.thread = Some(spawned.map_err(StartError::NoThread)?.thread().clone());
        }
        let run = before.next();
        shared.start(before);
        shared.set_run(run);
        let now = shared.clock.now();
        let check_at = if shared.file.is_some() { now } else { now + shared.timeout };
        let boot_gaps = shared.file.is_some().then(Box::default);
        let (shared, inner) = (Arc::clone(shared), Arc::downgrade(inner));
        let must_wake = state.add(WatchEntry { shared, inner, run, boot_gaps, advance_waker: None, check_at });
        let thread = state.thread.clone();
        drop(state);
        if let Some(thread) = thread.filter(|_| must_wake) {
            thread.unpark();
        }
        Ok(())
    }

    /// Stops the watchdog. Returns whether it was running.
    pub(super) fn stop(&self, shared: &WatchdogShared) -> bool {
        let mut state = self.state.lock();
        let run = shared.run();
        if !run.is_running() {
            return false;
        }
        shared.set_run(run.stopped());
        state.running -= 1;
        if state.queue.len() > 2 * state.running + 1024 {
            state.queue.retain(WatchEntry::is_current);
        }
        true
    }

    /// Calls `then` under the lock if `run` is still current. `then` must not block, log or call user code.
    pub(super) fn if_current<T>(&self, shared: &WatchdogShared, run: RunId, then: impl FnOnce() -> T) -> Option<T> {
        let _state = self.state.lock();
        (shared.run() == run).then(then)
    }

    /// Runs the monitor thread, which is to begin at `wake_at`.
    fn watch(&'static self, mut wake_at: Moment) {
        let clock = Clock::system();
        let mut gaps = ClockGaps::default();
        loop {
            let now = clock.now();
            if now < wake_at {
                thread::park_timeout(wake_at.since(now));
            }
            let now = clock.now();
            if let Some(gap) = gaps.record_wakeup(wake_at, now) {
                self.pool.submit(move || {
                    tracing::warn!(target: "backstay", seconds = gap.as_secs_f64(), "the process did not run");
                });
            }
            let Some(mut due) = self.take_due(now) else { return };
            due.retain_mut(|entry| {
                let next = if entry.is_current() { entry.check(self, &gaps, now) } else { None };
                entry.check_at = next.unwrap_or(entry.check_at);
                next.is_some()
            });
            wake_at = self.put_back(due, now);
        }
    }

    /// Takes the entries to check now. `None` ends the thread, because nothing is left to watch.
    fn take_due(&self, now: Moment) -> Option<Vec<WatchEntry>> {
        let mut state = self.state.lock();
        if state.running == 0 && self.pool.is_empty() {
            state.thread = None;
            let obsolete = (std::mem::take(&mut state.queue), std::mem::take(&mut state.on_manual_clock));
            drop(state);
            drop(obsolete);
            return None;
        }
        let mut due = state.queue.take_due(now);
        due.append(&mut state.on_manual_clock);
        Some(due)
    }

    /// Puts back the entries that are still watched. Returns the time until which to sleep.
    fn put_back(&'static self, entries: Vec<WatchEntry>, now: Moment) -> Moment {
        let mut wake_at = now + MAX_SLEEP;
        if let Some(pause) = self.pool.check() {
            wake_at = wake_at.min(now + pause);
        }
        let mut state = self.state.lock();
        for entry in entries {
            state.insert(entry);
        }
        if let Some(due) = state.queue.next_due() {
            wake_at = wake_at.min(due);
        }
        state.wake_at = wake_at;
        wake_at
    }
}

impl MonitorState {
    /// Adds the entry of a new run. Returns whether the monitor must be woken, because it would wake too late for it.
    fn add(&mut self, entry: WatchEntry) -> bool {
        let must_wake = self.wake_at > entry.check_at || entry.shared.clock.as_manual().is_some();
        self.running += 1;
        self.insert(entry);
        must_wake
    }

    fn insert(&mut self, entry: WatchEntry) {
        if entry.shared.clock.as_manual().is_some() {
            self.on_manual_clock.push(entry);
        } else {
            self.queue.insert(entry.check_at, entry);
        }
    }
}

impl WatchEntry {
    fn is_current(&self) -> bool {
        self.shared.run() == self.run
    }

    /// Checks the watchdog. Returns when to check again, `None` if it was dropped or stopped.
    fn check(&mut self, monitor: &'static Monitor, gaps: &ClockGaps, now: Moment) -> Option<Moment> {
        // A manual clock has no gaps: it does not advance by itself.
        let manual = self.manual_now();
        let (now, gaps) = match manual {
            Some(now) => (now, &ClockGaps::default()),
            None => (now, gaps),
        };
        if manual.is_some() && now < self.check_at {
            return Some(self.check_at);
        }
        if self.shared.file.is_some() {
            return Some(watched_file::check(monitor, self, gaps, now));
        }
        loop {
            let state = self.shared.state.load();
            match check(state, self.shared.tolerance(), gaps, now) {
                CheckResult::WaitUntil(at) => return Some(at),
                CheckResult::Fire { inactive } => {
                    let fire = || self.shared.fire(state, inactive);
                    if let Some(count) = monitor.if_current(&self.shared, self.run, fire)? {
                        let firing = Firing { inactive, count, reason: None };
                        self.inner.upgrade()?.report(&monitor.pool, firing);
                    }
                }
            }
        }
    }

    /// Returns the time of a manual clock, after registering a waker with it.
    fn manual_now(&mut self) -> Option<Moment> {
        let clock = self.shared.clock.as_manual()?;
        // In this order: an advance after the reading must meet the waker.
        AdvanceWaker::register(self.advance_waker.get_or_insert_with(AdvanceWaker::new), clock);
        Some(clock.now())
    }
}

impl Clock {
    pub(super) fn as_manual(&self) -> Option<&ManualClock> {
        match self.source() {
            Source::Manual(clock) => Some(clock),
            _ => None,
        }
    }
}

/// Wakes the monitor when a manual clock is advanced. It is registered at most once at a time.
struct AdvanceWaker {
    monitor: Thread,
    registered: AtomicBool,
}

impl AdvanceWaker {
    fn new() -> Arc<Self> {
        Arc::new(Self { monitor: thread::current(), registered: AtomicBool::new(false) })
    }

    fn register(waker: &Arc<Self>, clock: &ManualClock) {
        if !waker.registered.swap(true, Ordering::SeqCst) {
            clock.on_advance(Wake::Task(Arc::clone(waker).into()));
        }
    }
}

impl std::task::Wake for AdvanceWaker {
    fn wake(self: Arc<Self>) {
        self.registered.store(false, Ordering::SeqCst);
        self.monitor.unpark();
    }
}

#[cfg(all(test, not(backstay_loom)))]
mod tests;
