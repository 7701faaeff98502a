//! Events of a heartbeat, and the thread that runs callbacks for them.
//!
//! # Memory ordering
//! `beat_pending`: the swap (acquire and release) in `send_event` pairs with the stores of false (release), so that of
//! two beats' events the second is sent only after the first was handled. The flag publishes nothing else.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::LocalKey;

use super::{HeartbeatError, HeartbeatState};
use crate::alert::Alert;
use crate::callback::Callback;
use crate::log::log_in_background;

/// Number of events that wait while a callback is slow. Further events are only logged.
const CAPACITY: usize = 64;

/// Describes a target of a heartbeat that has died.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TargetDeath {
    /// The target's [name](super::Target::name), if it has one.
    pub name: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Callbacks {
    pub(super) on_beat: Option<Callback<HeartbeatState>>,
    pub(super) on_missed_beat: Option<Callback<HeartbeatError>>,
    pub(super) on_alert: Option<Callback<Alert>>,
    pub(super) on_target_dead: Option<Callback<TargetDeath>>,
}

#[derive(Debug)]
pub(super) enum HeartbeatEvent {
    Beat(HeartbeatState),
    Missed(HeartbeatError),
    Alert(Alert),
    TargetDead(TargetDeath),
}

thread_local! {
    /// Whether this thread runs a callback. A beat made in a callback runs none, so that `on_beat` may call `beat`.
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
    /// Whether this thread checks targets. A beat made by a target checks none, so that a target may call `beat`.
    static CHECKING_TARGETS: Cell<bool> = const { Cell::new(false) };
}

/// Marks the thread as running one kind of user code, until this is dropped.
pub(super) struct ReentryGuard(&'static LocalKey<Cell<bool>>);

impl ReentryGuard {
    /// Returns a guard for checking targets, `None` if this thread is checking them already.
    pub(super) fn for_targets() -> Option<Self> {
        Self::enter(&CHECKING_TARGETS)
    }

    fn enter(kind: &'static LocalKey<Cell<bool>>) -> Option<Self> {
        let entered = !kind.replace(true);
        entered.then(|| Self(kind))
    }
}

impl Drop for ReentryGuard {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl Callbacks {
    pub(super) fn is_empty(&self) -> bool {
        let Self { on_beat, on_missed_beat, on_alert, on_target_dead } = self;
        on_beat.is_none() && on_missed_beat.is_none() && on_alert.is_none() && on_target_dead.is_none()
    }

    /// Runs the callback for `event`, if it is set. Call it without a lock.
    pub(super) fn run(&self, event: &HeartbeatEvent) {
        let Some(_calling) = ReentryGuard::enter(&IN_CALLBACK) else { return };
        let ran = match event {
            HeartbeatEvent::Beat(state) => self.on_beat.as_ref().map(|f| ("on_beat", f.run(state))),
            HeartbeatEvent::Missed(error) => self.on_missed_beat.as_ref().map(|f| ("on_missed_beat", f.run(error))),
            HeartbeatEvent::Alert(alert) => self.on_alert.as_ref().map(|f| ("on_alert", f.run(alert))),
            HeartbeatEvent::TargetDead(death) => self.on_target_dead.as_ref().map(|f| ("on_target_dead", f.run(death))),
        };
        if let Some((callback, Err(panic))) = ran {
            log_in_background(
                move || tracing::error!(target: "backstay", callback, panic, "a heartbeat's callback panicked"),
            );
        }
    }
}

/// Returns a channel from the beat thread to the callback thread, so that a slow callback delays no beat.
pub(super) fn channel() -> (SyncSender<HeartbeatEvent>, Receiver<HeartbeatEvent>) {
    sync_channel(CAPACITY)
}

/// Sends `event` without waiting.
///
/// `beat_pending` is set from here until `on_beat` has returned. While it is set, further beats' events are dropped, so
/// that a slow `on_beat` is not called for each beat that it has missed.
pub(super) fn send_event(events: &SyncSender<HeartbeatEvent>, event: HeartbeatEvent, beat_pending: &AtomicBool) {
    let is_beat = matches!(event, HeartbeatEvent::Beat(_));
    if is_beat && beat_pending.swap(true, Ordering::AcqRel) {
        return;
    }
    if let Err(TrySendError::Full(event)) = events.try_send(event) {
        log_in_background(
            move || tracing::error!(target: "backstay", ?event, "a heartbeat's callbacks are too slow: an event was dropped"),
        );
        if is_beat {
            beat_pending.store(false, Ordering::Release);
        }
    }
}

/// Runs the callbacks for all `events`, until their sender is dropped.
pub(super) fn run_callbacks(callbacks: &Callbacks, events: &Receiver<HeartbeatEvent>, beat_pending: &AtomicBool) {
    while let Ok(event) = events.recv() {
        callbacks.run(&event);
        if matches!(event, HeartbeatEvent::Beat(_)) {
            beat_pending.store(false, Ordering::Release);
        }
    }
}
