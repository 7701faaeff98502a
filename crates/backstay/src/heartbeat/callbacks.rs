//! What a heartbeat tells others, and on which thread.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::LocalKey;

use super::{HeartbeatError, HeartbeatState};
use crate::alert::Alert;
use crate::callback::Callback;
use crate::log::log_in_background;

/// How many events wait while a callback is slow; what comes then is only logged.
const WAITING: usize = 64;

/// A target of a heartbeat died.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TargetDeath {
    /// The target's [name](super::Target::name), where it has one.
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
pub(super) enum Event {
    Beat(HeartbeatState),
    Missed(HeartbeatError),
    Alert(Alert),
    TargetDead(TargetDeath),
}

thread_local! {
    /// Whether this thread runs a callback. A beat made inside one calls none: `on_beat` may call `beat`.
    static CALLING: Cell<bool> = const { Cell::new(false) };
    /// Whether this thread asks targets. A beat made inside one asks none: a target may call `beat`.
    static ASKING: Cell<bool> = const { Cell::new(false) };
}

/// The thread is inside foreign code of one kind, until this is dropped.
pub(super) struct Inside(&'static LocalKey<Cell<bool>>);

impl Inside {
    /// About to ask targets; `None` where the thread is asking already.
    pub(super) fn asking() -> Option<Self> {
        Self::enter(&ASKING)
    }

    fn enter(kind: &'static LocalKey<Cell<bool>>) -> Option<Self> {
        let entered = !kind.replace(true);
        entered.then(|| Self(kind))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl Callbacks {
    pub(super) fn is_empty(&self) -> bool {
        let Self { on_beat, on_missed_beat, on_alert, on_target_dead } = self;
        on_beat.is_none() && on_missed_beat.is_none() && on_alert.is_none() && on_target_dead.is_none()
    }

    /// Runs the callback for `event`, if there is one, to its end. Call it without a lock.
    pub(super) fn run(&self, event: &Event) {
        let Some(_calling) = Inside::enter(&CALLING) else { return };
        let ran = match event {
            Event::Beat(state) => self.on_beat.as_ref().map(|f| ("on_beat", f.run(state))),
            Event::Missed(error) => self.on_missed_beat.as_ref().map(|f| ("on_missed_beat", f.run(error))),
            Event::Alert(alert) => self.on_alert.as_ref().map(|f| ("on_alert", f.run(alert))),
            Event::TargetDead(death) => self.on_target_dead.as_ref().map(|f| ("on_target_dead", f.run(death))),
        };
        if let Some((callback, Err(panic))) = ran {
            log_in_background(
                move || tracing::error!(target: "backstay", callback, panic, "a heartbeat's callback panicked"),
            );
        }
    }
}

/// The way from the beating thread to the thread that runs the callbacks: beats go on however long those take.
#[derive(Debug)]
pub(super) struct Outbox {
    events: SyncSender<Event>,
}

impl Outbox {
    pub(super) fn new() -> (Self, Receiver<Event>) {
        let (events, inbox) = sync_channel(WAITING);
        (Self { events }, inbox)
    }

    /// Never waits. `beat_waiting` is up from here until `on_beat` has returned: a slow one is not called for every
    /// beat that it overslept.
    pub(super) fn send(&self, event: Event, beat_waiting: &AtomicBool) {
        let is_beat = matches!(event, Event::Beat(_));
        if is_beat && beat_waiting.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Err(TrySendError::Full(event)) = self.events.try_send(event) {
            log_in_background(
                move || tracing::error!(target: "backstay", ?event, "a heartbeat's callbacks take too long, this event is dropped"),
            );
            if is_beat {
                beat_waiting.store(false, Ordering::Release);
            }
        }
    }
}

/// Runs the callbacks until the outbox is gone.
pub(super) fn serve(callbacks: &Callbacks, inbox: &Receiver<Event>, beat_waiting: &AtomicBool) {
    while let Ok(event) = inbox.recv() {
        callbacks.run(&event);
        if matches!(event, Event::Beat(_)) {
            beat_waiting.store(false, Ordering::Release);
        }
    }
}
