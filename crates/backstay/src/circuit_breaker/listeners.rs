//! Telling listeners what happened: each change once, in order, with no lock held.

use std::collections::VecDeque;

use backstay_core::circuit_breaker::CircuitState;

use crate::callback::caught;
use crate::log::log_now;
use crate::sync::Mutex;

/// A change of a breaker's state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transition {
    /// The breaker's name, where it has one.
    pub name: Option<std::sync::Arc<str>>,
    /// The state before.
    pub from: CircuitState,
    /// The state after.
    pub to: CircuitState,
}

impl Transition {
    pub(super) fn log(&self) {
        let (breaker, from, to) = (self.name.as_deref(), self.from, self.to);
        if to == CircuitState::Open {
            log_now(|| tracing::warn!(target: "backstay", breaker, %from, %to, "circuit breaker opened"));
        } else {
            log_now(|| tracing::info!(target: "backstay", breaker, %from, %to, "circuit breaker changed state"));
        }
    }
}

pub(super) type Listener = Box<dyn Fn(&Transition) + Send + Sync>;

/// The listeners and what they have not heard yet. Whoever finds nobody telling tells until nothing is left; the others
/// only leave their change in the queue.
///
/// Most breakers have none, and then no memory for them.
pub(super) struct Listeners(Option<Box<Listening>>);

struct Listening {
    listeners: Vec<Listener>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    pending: VecDeque<Transition>,
    somebody_tells: bool,
}

impl Listeners {
    pub(super) fn new(listeners: Vec<Listener>) -> Self {
        if listeners.is_empty() {
            return Self(None);
        }
        Self(Some(Box::new(Listening { listeners, queue: Mutex::new(Queue::default()) })))
    }

    /// Makes the change and queues it, as one step, so that the queue has the order of the changes. Without listeners
    /// no lock is taken.
    pub(super) fn record(&self, transition: &Transition, change: impl FnOnce() -> bool) -> bool {
        let Some(listening) = &self.0 else { return change() };
        let mut queue = listening.queue.lock();
        let changed = change();
        if changed {
            queue.pending.push_back(transition.clone());
        }
        changed
    }

    /// Tells what is pending, unless somebody is telling already: another thread, or this one further up its stack.
    pub(super) fn deliver(&self) {
        let Some(listening) = &self.0 else { return };
        let mut telling = Telling { queue: &listening.queue, ours: false };
        while let Some(transition) = telling.next() {
            for listener in &listening.listeners {
                if let Err(panic) = caught(|| listener(&transition)) {
                    log_now(
                        || tracing::error!(target: "backstay", breaker = transition.name.as_deref(), panic, "a listener panicked"),
                    );
                }
            }
        }
    }
}

/// Someone who would tell what is pending. Unwound, it leaves the rest to whoever comes next.
struct Telling<'a> {
    queue: &'a Mutex<Queue>,
    ours: bool,
}

impl Telling<'_> {
    fn next(&mut self) -> Option<Transition> {
        let mut queue = self.queue.lock();
        if queue.somebody_tells && !self.ours {
            return None;
        }
        let next = queue.pending.pop_front();
        self.ours = next.is_some();
        queue.somebody_tells = self.ours;
        next
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        if self.ours {
            self.queue.lock().somebody_tells = false;
        }
    }
}
