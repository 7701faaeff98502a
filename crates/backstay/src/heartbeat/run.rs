//! One run of a heartbeat, and how its threads and their callers synchronise.
//!
//! # Memory ordering
//! A requesting thread stores `stop` or `beat_requested`, then takes the lock of `progress` to find the beat thread.
//! The beat thread registers itself under that lock before it first loads the flags. So it sees the flag, or it is
//! found and unparked.
//!
//! The release of each store pairs with the acquire of the load: the beat sees what was set before it was requested.
//! Both sides swap `beat_requested`, so of a request and a beat that takes one, the later sees the earlier.
//!
//! `beat_pending` is explained in `callbacks.rs`.

use std::sync::PoisonError;
use std::time::Duration;

use super::HeartbeatError;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::raw::{Condvar, Mutex, MutexGuard};
use crate::sync::thread::{self, Thread, ThreadId};

/// One run of a heartbeat, from start to stop: requests to its threads, and their progress.
#[derive(Debug, Default)]
pub(super) struct HeartbeatRun {
    stop: AtomicBool,
    beat_requested: AtomicBool,
    /// A beat's event is queued or in `on_beat`.
    pub(super) beat_pending: std::sync::atomic::AtomicBool,
    progress: Mutex<RunProgress>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct RunProgress {
    beat_thread: Option<Thread>,
    callback_thread: Option<ThreadId>,
    first_beat_made: bool,
    /// `start` has returned and can no longer report an error.
    start_returned: bool,
    /// The error that `start` returns.
    start_error: Option<HeartbeatError>,
    beats_ended: bool,
    callbacks_ended: bool,
}

impl HeartbeatRun {
    /// Registers the calling thread as the beat thread, until the returned guard is dropped.
    pub(super) fn register_beat_thread(&self) -> impl Drop + '_ {
        self.progress().beat_thread = Some(thread::current());
        OnEnd(self, |progress| {
            progress.first_beat_made = true;
            progress.beats_ended = true;
        })
    }

    /// Registers the calling thread as the callback thread, until the returned guard is dropped.
    pub(super) fn register_callback_thread(&self) -> impl Drop + '_ {
        self.progress().callback_thread = Some(thread::current().id());
        OnEnd(self, |progress| progress.callbacks_ended = true)
    }

    /// Records that the run has no callback thread.
    pub(super) fn no_callbacks(&self) {
        self.progress().callbacks_ended = true;
    }

    pub(super) fn first_beat_made(&self) {
        self.progress().first_beat_made = true;
        self.changed.notify_all();
    }

    pub(super) fn request_stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    pub(super) fn is_stop_requested(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(super) fn request_beat(&self) {
        self.beat_requested.swap(true, Ordering::AcqRel);
        self.wake();
    }

    /// Returns whether a beat was requested, and clears the request.
    pub(super) fn take_beat_request(&self) -> bool {
        self.beat_requested.swap(false, Ordering::AcqRel)
    }

    fn wake(&self) {
        let thread = self.progress().beat_thread.clone();
        if let Some(thread) = thread {
            thread.unpark();
        }
    }

    /// Makes `start` fail with `error`. Returns false if `start` has returned or a beat was made.
    pub(super) fn fail_start(&self, error: &HeartbeatError) -> bool {
        let mut progress = self.progress();
        let fails = !progress.start_returned && !progress.first_beat_made;
        if fails {
            progress.start_error = Some(error.clone());
            progress.first_beat_made = true;
            self.changed.notify_all();
        }
        fails
    }

    pub(super) fn start_failed(&self) -> bool {
        self.progress().start_error.is_some()
    }

    /// Waits for the first beat, at most `timeout`.
    ///
    /// # Errors
    /// The error that was passed to [`fail_start`](Self::fail_start).
    pub(super) fn wait_for_first_beat(&self, timeout: Duration) -> Result<(), HeartbeatError> {
        self.wait_while(timeout, |progress| !progress.first_beat_made);
        let mut progress = self.progress();
        progress.start_returned = true;
        progress.start_error.clone().map_or(Ok(()), Err)
    }

    /// Waits for the run's threads to end, at most `timeout`. On one of them it does not wait for that thread, nor on
    /// the beat thread for callbacks.
    pub(super) fn wait_for_end(&self, timeout: Duration) {
        let this = thread::current().id();
        self.wait_while(timeout, |progress| {
            let on_beat_thread = progress.beat_thread.as_ref().is_some_and(|thread| thread.id() == this);
            let on_callback_thread = progress.callback_thread == Some(this);
            !on_beat_thread && (!progress.beats_ended || !progress.callbacks_ended && !on_callback_thread)
        });
    }

    /// Locks `progress` and ignores poisoning: no user code runs under this lock, so its state is consistent.
    fn progress(&self) -> MutexGuard<'_, RunProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while(&self, timeout: Duration, condition: impl Fn(&RunProgress) -> bool) {
        let progress = self.progress();
        #[cfg(not(backstay_loom))]
        drop(self.changed.wait_timeout_while(progress, timeout, |progress| condition(progress)));
        #[cfg(backstay_loom)] // Loom has no time.
        {
            let (_, mut progress) = (timeout, progress);
            while condition(&progress) {
                progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

/// Updates the progress when a thread ends.
struct OnEnd<'a>(&'a HeartbeatRun, fn(&mut RunProgress));

impl Drop for OnEnd<'_> {
    fn drop(&mut self) {
        self.1(&mut self.0.progress());
        self.0.changed.notify_all();
    }
}

#[cfg(all(test, backstay_loom))]
mod loom_tests;
