//! The one thread that watches every watchdog of the process.
//!
//! It sleeps until the next deadline, and a [`NAP`] at most so as to notice when the process was not run. It never waits
//! for anybody: what may block runs on [`Runners`]. A look at a watchdog reads its pulse and puts it back into the
//! schedule; a ping has nothing to tell the monitor, because it only ever makes the deadline later.
//!
//! There is one lock, and nothing foreign happens under it. A watchdog's run is written only under the lock, and `live`
//! counts those that are on. An entry whose run is no longer its watchdog's is left over: it goes when it is met, or
//! when most entries are such. A run may end while the monitor looks at its entry without the lock, so a watchdog fires
//! under the lock, and only while the run is on: nothing fires after `stop` has returned.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, Thread};

use backstay_core::watchdog::{Holes, NAP, Schedule, Verdict, judge};

use super::Inner;
use super::beat::{Beat, Run};
use super::report::Firing;
use super::runners::Runners;
use super::state_file::{self, Looks};
use crate::clock::{Clock, ManualClock, Moment, Source};
use crate::per_process::PerProcess;
use crate::sync::{Mutex, Wake};

#[derive(Default)]
pub(super) struct Monitor {
    state: Mutex<State>,
    pub(super) runners: Runners,
}

#[derive(Default)]
struct State {
    /// Watchdogs on the system's clock.
    schedule: Schedule<Entry>,
    /// Watchdogs on a clock that somebody holds in the hand: looked at whenever the monitor wakes.
    by_hand: Vec<Entry>,
    live: usize,
    thread: Option<Thread>,
    /// Until when the monitor sleeps.
    wake_at: Moment,
}

/// A watchdog that is to be looked at.
pub(super) struct Entry {
    pub(super) beat: Arc<Beat>,
    pub(super) inner: Weak<Inner>,
    pub(super) run: Run,
    /// For a heartbeat file: when it was looked at.
    pub(super) looks: Option<Box<Looks>>,
    /// For a clock in the hand.
    hand: Option<Arc<Hand>>,
    look_at: Moment,
}

pub(super) enum Refused {
    RunsAlready,
    NoThread(io::Error),
}

impl Monitor {
    /// This process's monitor; its thread runs while there is something to watch.
    pub(super) fn get() -> &'static Self {
        static MONITOR: PerProcess<Monitor> = PerProcess::new();
        MONITOR.get()
    }

    /// Begins a new run of a watchdog that is not on.
    pub(super) fn start(&'static self, inner: &Arc<Inner>) -> Result<(), Refused> {
        let beat = &inner.beat;
        let mut state = self.state.lock();
        let before = beat.run();
        if before.is_on() {
            return Err(Refused::RunsAlready);
        }
        if state.thread.is_none() {
            // The process may be stopped before the thread runs for the first time: that is a hole as any other.
            let from = Clock::system().now();
            let spawned = thread::Builder::new().name("backstay-watch".into()).spawn(move || self.watch(from));
            state.thread = Some(spawned.map_err(Refused::NoThread)?.thread().clone());
        }
        let run = before.next();
        beat.start(before);
        beat.set_run(run);
        let now = beat.clock.now();
        let look_at = if beat.file.is_some() { now } else { now + beat.timeout };
        let looks = beat.file.is_some().then(Box::default);
        let entry = Entry { beat: Arc::clone(beat), inner: Arc::downgrade(inner), run, looks, hand: None, look_at };
        let too_late = state.add(entry);
        let thread = state.thread.clone().filter(|_| too_late);
        drop(state);
        if let Some(thread) = thread {
            thread.unpark();
        }
        Ok(())
    }

    /// Ends the watchdog's run, where it is on.
    pub(super) fn stop(&self, beat: &Beat) -> bool {
        let mut state = self.state.lock();
        let run = beat.run();
        if !run.is_on() {
            return false;
        }
        beat.set_run(run.ended());
        state.live -= 1;
        if state.schedule.len() > 2 * state.live + 1024 {
            state.schedule.retain(Entry::is_on);
        }
        true
    }

    /// Calls `then` under the lock, unless the run has ended. `then` must not block, log or call foreign code.
    pub(super) fn while_on<T>(&self, beat: &Beat, run: Run, then: impl FnOnce() -> T) -> Option<T> {
        let _state = self.state.lock();
        (beat.run() == run).then(then)
    }

    /// The monitor thread, which should run from `wake_at` on.
    fn watch(&'static self, mut wake_at: Moment) {
        let clock = Clock::system();
        let mut holes = Holes::default();
        loop {
            let now = clock.now();
            if now < wake_at {
                thread::park_timeout(wake_at.since(now));
            }
            let now = clock.now();
            if let Some(hole) = holes.woke(wake_at, now) {
                self.runners.submit(move || {
                    tracing::warn!(target: "backstay", seconds = hole.as_secs_f64(), "the process did not run");
                });
            }
            let Some(mut due) = self.take_due(now) else { return };
            due.retain_mut(|entry| {
                if !entry.is_on() {
                    return false;
                }
                match entry.look(self, &holes, now) {
                    Some(again) => entry.look_at = again,
                    None => return false,
                }
                true
            });
            wake_at = self.put_back(due, now);
        }
    }

    /// What to look at now; `None` when there is nothing more to watch, and the thread is to end.
    fn take_due(&self, now: Moment) -> Option<Vec<Entry>> {
        let mut state = self.state.lock();
        if state.live == 0 && self.runners.is_drained() {
            state.thread = None;
            let left_over = (std::mem::take(&mut state.schedule), std::mem::take(&mut state.by_hand));
            drop(state);
            drop(left_over);
            return None;
        }
        let mut due = state.schedule.take_due(now);
        due.append(&mut state.by_hand);
        Some(due)
    }

    /// Puts back what is still watched. Returns until when to sleep.
    fn put_back(&'static self, entries: Vec<Entry>, now: Moment) -> Moment {
        let mut wake_at = now + NAP;
        if let Some(pause) = self.runners.tend() {
            wake_at = wake_at.min(now + pause);
        }
        let mut state = self.state.lock();
        for entry in entries {
            state.insert(entry);
        }
        if let Some(due) = state.schedule.next_due() {
            wake_at = wake_at.min(due);
        }
        state.wake_at = wake_at;
        wake_at
    }
}

impl State {
    /// Puts in the entry of a run that begins. Whether the monitor would wake too late for it, and has to be woken.
    fn add(&mut self, entry: Entry) -> bool {
        let too_late = self.wake_at > entry.look_at || entry.beat.clock.in_hand().is_some();
        self.live += 1;
        self.insert(entry);
        too_late
    }

    fn insert(&mut self, entry: Entry) {
        if entry.beat.clock.in_hand().is_some() {
            self.by_hand.push(entry);
        } else {
            self.schedule.insert(entry.look_at, entry);
        }
    }
}

impl Entry {
    fn is_on(&self) -> bool {
        self.beat.run() == self.run
    }

    /// Looks at the watchdog. Returns when to look again; `None` when it is gone or its run has ended.
    fn look(&mut self, monitor: &'static Monitor, holes: &Holes, now: Moment) -> Option<Moment> {
        // A clock in the hand knows no holes: it stands still while the process does.
        let in_hand = self.time_in_hand();
        let (now, holes) = match in_hand {
            Some(now) => (now, &Holes::default()),
            None => (now, holes),
        };
        if in_hand.is_some() && now < self.look_at {
            return Some(self.look_at);
        }
        if self.beat.file.is_some() {
            return Some(state_file::look(monitor, self, holes, now));
        }
        loop {
            let pulse = self.beat.pulse.load();
            match judge(pulse, self.beat.patience(), holes, now) {
                Verdict::LookAgain(at) => return Some(at),
                Verdict::Fire { inactive } => {
                    let fire = || self.beat.fire(pulse, inactive);
                    if let Some(count) = monitor.while_on(&self.beat, self.run, fire)? {
                        let firing = Firing { inactive, count, reason: None };
                        self.inner.upgrade()?.report(&monitor.runners, firing);
                    }
                }
            }
        }
    }

    /// What a clock in the hand shows, after asking it to wake the monitor when it moves.
    fn time_in_hand(&mut self) -> Option<Moment> {
        let clock = self.beat.clock.in_hand()?;
        Hand::ask(self.hand.get_or_insert_with(Hand::of_this_thread), clock);
        Some(clock.now())
    }
}

impl Clock {
    pub(super) fn in_hand(&self) -> Option<&ManualClock> {
        match self.source() {
            Source::Manual(clock) => Some(clock),
            _ => None,
        }
    }
}

/// Wakes the monitor when a clock in the hand moves; asks for it once at a time, however often the monitor naps.
struct Hand {
    monitor: Thread,
    asked: AtomicBool,
}

impl Hand {
    fn of_this_thread() -> Arc<Self> {
        Arc::new(Self { monitor: thread::current(), asked: AtomicBool::new(false) })
    }

    fn ask(hand: &Arc<Self>, clock: &ManualClock) {
        if !hand.asked.swap(true, Ordering::SeqCst) {
            clock.on_advance(Wake::Task(Arc::clone(hand).into()));
        }
    }
}

impl std::task::Wake for Hand {
    fn wake(self: Arc<Self>) {
        self.asked.store(false, Ordering::SeqCst);
        self.monitor.unpark();
    }
}

#[cfg(all(test, not(backstay_loom)))]
mod tests;
