//! Telling listeners of changes: each change once, in order, with no lock held.

use std::collections::VecDeque;

use backstay_core::circuit_breaker::{Cause, CircuitState};
use once_cell::race::OnceBox;

use crate::callback::caught;
use crate::log::log_now;
use crate::sync::Mutex;

/// A change of a breaker's state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transition {
    /// The breaker's name, if it has one.
    pub name: Option<std::sync::Arc<str>>,
    /// The state before.
    pub from: CircuitState,
    /// The state after.
    pub to: CircuitState,
    /// Why it changed.
    pub cause: Cause,
}

impl Transition {
    pub(super) fn log(&self) {
        let (breaker, from, to, cause) = (self.name.as_deref(), self.from, self.to, self.cause);
        if to == CircuitState::Open {
            log_now(|| tracing::warn!(target: "backstay", breaker, %from, %to, %cause, "circuit breaker opened"));
        } else {
            log_now(
                || tracing::info!(target: "backstay", breaker, %from, %to, %cause, "circuit breaker changed state"),
            );
        }
    }
}

/// A list that only grows, without a lock: it may be read while it grows, also in a signal handler or a forked child.
pub(super) struct List<T>(OnceBox<Node<T>>);

struct Node<T> {
    value: T,
    next: OnceBox<Node<T>>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(OnceBox::new())
    }
}

impl<T> List<T> {
    pub(super) fn push(&self, value: T) {
        let mut node = Box::new(Node { value, next: OnceBox::new() });
        let mut link = &self.0;
        while let Err(back) = link.set(node) {
            node = back;
            link = match link.get() {
                Some(taken) => &taken.next,
                None => link,
            };
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        std::iter::successors(self.0.get(), |node| node.next.get()).map(|node| &node.value)
    }
}

pub(super) type Listener = Box<dyn Fn(&Transition) + Send + Sync>;

/// The listeners and the changes that they have not been told. The first thread that finds no other one telling tells until
/// nothing is left; the others leave their changes in the queue.
///
/// Most breakers have none, and then no memory for them.
#[derive(Default)]
pub(super) struct Listeners(OnceBox<Listening>);

struct Listening {
    listeners: List<Listener>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    pending: VecDeque<Transition>,
    is_telling: bool,
}

impl Listeners {
    pub(super) fn add(&self, listener: Listener) {
        let none = || Box::new(Listening { listeners: List::default(), queue: Mutex::new(Queue::default()) });
        self.0.get_or_init(none).listeners.push(listener);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.get().is_none()
    }

    /// Makes the change and queues it, as one step, so that the queue has the order of the changes. Without listeners
    /// no lock is taken.
    pub(super) fn record(&self, transition: &Transition, change: impl FnOnce() -> bool) -> bool {
        let Some(listening) = self.0.get() else { return change() };
        let mut queue = listening.queue.lock();
        let changed = change();
        if changed {
            queue.pending.push_back(transition.clone());
        }
        changed
    }

    /// Tells what is pending, unless that happens already: on another thread, or further up the stack of this one.
    pub(super) fn deliver(&self) {
        let Some(listening) = self.0.get() else { return };
        let mut telling = Telling { queue: &listening.queue, ours: false };
        while let Some(transition) = telling.next() {
            for listener in listening.listeners.iter() {
                if let Err(panic) = caught(|| listener(&transition)) {
                    log_now(
                        || tracing::error!(target: "backstay", breaker = transition.name.as_deref(), panic, "a listener panicked"),
                    );
                }
            }
        }
    }
}

/// A thread that tells what is pending. Unwound, it leaves the rest to the next one.
struct Telling<'a> {
    queue: &'a Mutex<Queue>,
    ours: bool,
}

impl Telling<'_> {
    fn next(&mut self) -> Option<Transition> {
        let mut queue = self.queue.lock();
        if queue.is_telling && !self.ours {
            return None;
        }
        let next = queue.pending.pop_front();
        self.ours = next.is_some();
        queue.is_telling = self.ours;
        next
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        if self.ours {
            self.queue.lock().is_telling = false;
        }
    }
}
