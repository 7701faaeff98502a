//! What a heartbeat is in one process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread, ThreadId};
use std::time::{Duration, SystemTime};

use backstay_core::heartbeat::{Host, Status};
use once_cell::race::OnceBox;
use serde_json::{Map, Value};

use super::file::StateFile;
use super::rival::Rivals;
use super::{HeartbeatError, host};
use crate::per_process::this_process;

/// What changes in a heartbeat, as one process knows it. A forked child inherits memory in which the parent's threads
/// may hold any lock for ever, so it touches none of the parent's state and begins a life of its own.
///
/// Locks: `writer` before `phase` or `details`; those two are held for a copy only and never together.
#[derive(Debug)]
pub(super) struct Life {
    process: u32,
    pub(super) details: Mutex<Details>,
    pub(super) phase: Mutex<Phase>,
    /// Held while the file is written, which on a bad day takes for ever.
    pub(super) writer: Mutex<Writer>,
    /// For each target, whether it was dead when last asked.
    pub(super) dead: Vec<AtomicBool>,
    /// The life in a process forked from this one. Set without a lock: that process may fork as well.
    child: OnceBox<Life>,
}

#[derive(Clone, Debug)]
pub(super) struct Details {
    pub(super) status: Status,
    pub(super) metadata: Map<String, Value>,
    pub(super) started_at: Option<SystemTime>,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// Never started.
    Idle,
    /// Started, and not stopped.
    Running(Arc<Run>),
    /// Stopped; that run may still be ending.
    Stopped(Arc<Run>),
}

/// What writes the file, one at a time.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) sequence: u64,
    /// How many beats in a row could not be written.
    pub(super) missed: u64,
    /// Found out at the first beat, or a later one where that could not.
    pub(super) place: Option<Place>,
    pub(super) rivals: Rivals,
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Place {
    pub(super) host: Host,
    pub(super) file: Option<StateFile>,
}

impl Place {
    /// The place, and whether it is another than at the beat before. What could not be found out (no descriptor was
    /// free, perhaps) is looked for again at each beat.
    pub(super) fn find(known: &mut Option<Self>, file: impl FnOnce(&Host) -> Option<StateFile>) -> (&Self, bool) {
        let is_new = !known.as_ref().is_some_and(Self::is_complete) && {
            let host = host::here();
            let found = Some(Self { file: file(&host), host });
            let differs = *known != found;
            *known = found;
            differs
        };
        (known.get_or_insert_default(), is_new)
    }

    /// Whether all was found out that can be.
    fn is_complete(&self) -> bool {
        let Host { boot_id, pid_namespace, time_namespace, .. } = &self.host;
        let host = [boot_id, pid_namespace, time_namespace].into_iter().all(Option::is_some);
        host && self.file.as_ref().is_none_or(StateFile::knows_its_writer)
    }
}

impl Life {
    pub(super) fn new(details: Details, targets: usize) -> Self {
        Self {
            process: this_process(),
            details: Mutex::new(details),
            phase: Mutex::new(Phase::Idle),
            writer: Mutex::default(),
            dead: (0..targets).map(|_| AtomicBool::new(false)).collect(),
            child: OnceBox::new(),
        }
    }

    /// The life in this process; `first` is the one in the process that built the heartbeat.
    pub(super) fn here<'a>(first: &'a Life, built_with: &Details) -> &'a Self {
        let process = this_process();
        let mut life = first;
        while life.process != process {
            let born = || {
                // What the parent had set, unless it was being set in the instant of the fork.
                let details = life.details.try_lock().map_or_else(|_| built_with.clone(), |details| details.clone());
                Box::new(Self::new(Details { started_at: None, ..details }, life.dead.len()))
            };
            life = life.child.get_or_init(born);
        }
        life
    }

    /// What is between `start` and `stop`, if anything is.
    pub(super) fn running(&self) -> Option<Arc<Run>> {
        match &*lock(&self.phase) {
            Phase::Running(run) => Some(Arc::clone(run)),
            Phase::Idle | Phase::Stopped(_) => None,
        }
    }
}

/// From `start` to `stop`: what the threads in between and those who wait for them tell each other.
#[derive(Debug, Default)]
pub(super) struct Run {
    stop: AtomicBool,
    beat_now: AtomicBool,
    pub(super) beat_waiting: AtomicBool,
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    beater: Option<Thread>,
    callbacks: Option<ThreadId>,
    first_beat_made: bool,
    /// `start` has returned: it can report nothing any more.
    start_over: bool,
    /// Why the first beat was refused, which `start` returns.
    refused: Option<HeartbeatError>,
    beats_over: bool,
    callbacks_over: bool,
}

impl Run {
    /// The calling thread beats until what is returned is dropped.
    pub(super) fn beat_here(&self) -> impl Drop + '_ {
        lock(&self.progress).beater = Some(thread::current());
        Leaving(self, |progress| {
            progress.first_beat_made = true;
            progress.beats_over = true;
        })
    }

    /// The calling thread runs callbacks until what is returned is dropped.
    pub(super) fn call_back_here(&self) -> impl Drop + '_ {
        lock(&self.progress).callbacks = Some(thread::current().id());
        Leaving(self, |progress| progress.callbacks_over = true)
    }

    /// Nobody will run callbacks.
    pub(super) fn no_callbacks(&self) {
        lock(&self.progress).callbacks_over = true;
    }

    pub(super) fn first_beat_made(&self) {
        lock(&self.progress).first_beat_made = true;
        self.changed.notify_all();
    }

    pub(super) fn ask_to_stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    pub(super) fn is_asked_to_stop(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(super) fn ask_for_beat(&self) {
        self.beat_now.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether somebody asked; once for each time.
    pub(super) fn take_request(&self) -> bool {
        self.beat_now.swap(false, Ordering::AcqRel)
    }

    fn wake(&self) {
        if let Some(beater) = &lock(&self.progress).beater {
            beater.unpark();
        }
    }

    /// Lets `start` fail with `error`. False where it has returned, or a beat was made: then the error is a missed beat's.
    pub(super) fn refuse(&self, error: &HeartbeatError) -> bool {
        let mut progress = lock(&self.progress);
        let refused = !progress.start_over && !progress.first_beat_made;
        if refused {
            progress.refused = Some(error.clone());
            progress.first_beat_made = true;
            self.changed.notify_all();
        }
        refused
    }

    pub(super) fn is_refused(&self) -> bool {
        lock(&self.progress).refused.is_some()
    }

    /// Waits for the first beat, at most that long.
    ///
    /// # Errors
    /// Why it was [refused](Self::refuse).
    pub(super) fn wait_for_first_beat(&self, limit: Duration) -> Result<(), HeartbeatError> {
        self.wait_while(limit, |progress| !progress.first_beat_made);
        let mut progress = lock(&self.progress);
        progress.start_over = true;
        progress.refused.clone().map_or(Ok(()), Err)
    }

    /// Waits until the threads are done, at most that long. On one of them it waits for nothing that waits for it.
    pub(super) fn wait_for_end(&self, limit: Duration) {
        let me = thread::current().id();
        self.wait_while(limit, |progress| {
            let on_beater = progress.beater.as_ref().is_some_and(|beater| beater.id() == me);
            let on_callbacks = progress.callbacks == Some(me);
            !on_beater && (!progress.beats_over || !progress.callbacks_over && !on_callbacks)
        });
    }

    fn wait_while(&self, limit: Duration, not_yet: impl Fn(&Progress) -> bool) {
        let progress = lock(&self.progress);
        drop(self.changed.wait_timeout_while(progress, limit, |progress| not_yet(progress)));
    }
}

struct Leaving<'a>(&'a Run, fn(&mut Progress));

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.1(&mut lock(&self.0.progress));
        self.0.changed.notify_all();
    }
}

/// No foreign code runs under our locks, so a poisoned one holds nothing that is half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
