//! One run of a heartbeat, and how its threads and those that wait for them find each other.
//!
//! # Memory ordering
//! `stop` and `beat_now` are stored before the lock of `progress` is taken to find the beating thread, and that thread
//! puts itself into `progress` under the lock before it first loads them: it sees the flag, or it is found and unparked.
//! The release of each store pairs with the acquire of the load, so that the beat sees what was set before it was asked
//! for. `beat_now` is swapped on both sides: of a request and a beat that takes one, the later one sees the earlier.

use std::sync::PoisonError;
use std::time::Duration;

use super::HeartbeatError;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::raw::{Condvar, Mutex, MutexGuard};
use crate::sync::thread::{self, Thread, ThreadId};

/// From `start` to `stop`: what the threads in between and those who wait for them tell each other.
#[derive(Debug, Default)]
pub(super) struct Run {
    stop: AtomicBool,
    beat_now: AtomicBool,
    pub(super) beat_waiting: std::sync::atomic::AtomicBool,
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
        self.progress().beater = Some(thread::current());
        Leaving(self, |progress| {
            progress.first_beat_made = true;
            progress.beats_over = true;
        })
    }

    /// The calling thread runs callbacks until what is returned is dropped.
    pub(super) fn call_back_here(&self) -> impl Drop + '_ {
        self.progress().callbacks = Some(thread::current().id());
        Leaving(self, |progress| progress.callbacks_over = true)
    }

    /// No thread will run callbacks.
    pub(super) fn no_callbacks(&self) {
        self.progress().callbacks_over = true;
    }

    pub(super) fn first_beat_made(&self) {
        self.progress().first_beat_made = true;
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
        self.beat_now.swap(true, Ordering::AcqRel);
        self.wake();
    }

    /// Whether a beat was requested; true once per request.
    pub(super) fn take_request(&self) -> bool {
        self.beat_now.swap(false, Ordering::AcqRel)
    }

    fn wake(&self) {
        let beater = self.progress().beater.clone();
        if let Some(beater) = beater {
            beater.unpark();
        }
    }

    /// Lets `start` fail with `error`. False where it has returned, or a beat was made: then the error is a missed beat's.
    pub(super) fn refuse(&self, error: &HeartbeatError) -> bool {
        let mut progress = self.progress();
        let refused = !progress.start_over && !progress.first_beat_made;
        if refused {
            progress.refused = Some(error.clone());
            progress.first_beat_made = true;
            self.changed.notify_all();
        }
        refused
    }

    pub(super) fn is_refused(&self) -> bool {
        self.progress().refused.is_some()
    }

    /// Waits for the first beat, at most that long.
    ///
    /// # Errors
    /// Why it was [refused](Self::refuse).
    pub(super) fn wait_for_first_beat(&self, limit: Duration) -> Result<(), HeartbeatError> {
        self.wait_while(limit, |progress| !progress.first_beat_made);
        let mut progress = self.progress();
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

    /// No foreign code runs under this lock, so a poisoned one holds nothing that is half done.
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while(&self, limit: Duration, not_yet: impl Fn(&Progress) -> bool) {
        let progress = self.progress();
        #[cfg(not(backstay_loom))]
        drop(self.changed.wait_timeout_while(progress, limit, |progress| not_yet(progress)));
        #[cfg(backstay_loom)] // It knows no time.
        {
            let (_, mut progress) = (limit, progress);
            while not_yet(&progress) {
                progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

struct Leaving<'a>(&'a Run, fn(&mut Progress));

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.1(&mut self.0.progress());
        self.0.changed.notify_all();
    }
}

#[cfg(all(test, backstay_loom))]
mod loom_tests;
