//! Circuit breaker: stop calling a service that fails, and find out by a few half-open calls when it works again.
//!
//! ```text
//!            max_failures in a row              reset_timeout later
//!  CLOSED ───────────────────────────▶ OPEN ─────────────────────────▶ HALF-OPEN
//!     ▲                                 ▲                               │     │
//!     │                                 └───────── a half-open call fails ───────┘     │
//!     └────────────────────── half_open_max_calls half-open calls succeed ─────────────┘
//! ```
//!
//! When not to use it: for errors that are the caller's own (bad input). Exclude them, or they open the circuit for all.

mod builder;
mod call;
mod listeners;
#[cfg(all(test, backstay_loom))]
mod loom_tests;
mod permit;
#[cfg(all(test, not(backstay_loom)))]
mod tests;
#[allow(dead_code)]
mod window;

use std::fmt;
use std::time::Duration;

use backstay_core::circuit_breaker::{Admission, BreakerState, HalfOpenSlot, Policy, Ticket};
pub use backstay_core::circuit_breaker::{CircuitState, Outcome};

pub use builder::CircuitBreakerBuilder;
pub use call::Excluding;
pub use listeners::Transition;
pub use permit::Permit;

use crate::clock::{Clock, Moment, Reading};
use crate::error::CircuitOpenError;
use crate::striped::Striped;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, Ordering};
use listeners::Listeners;

/// A handle on a circuit breaker; clones share it, threads and tasks alike.
///
/// ```
/// use backstay::{CallError, CircuitBreaker};
/// use std::time::Duration;
///
/// let breaker = CircuitBreaker::builder().max_failures(3).reset_timeout(Duration::from_secs(30)).build()?;
/// # fn fetch_data(symbol: &str) -> Result<f64, std::io::Error> { Ok(1.0) }
/// # fn cached() -> f64 { 0.0 }
/// let price = match breaker.call(|| fetch_data("BTC/USDT")) {
///     Ok(price) => price,
///     Err(CallError::Rejected(_)) => cached(),  // open: `fetch_data` was not called
///     Err(CallError::Inner(error)) => return Err(error.into()),
/// };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// No lock is held while a call or a listener runs, so calls may nest. A breaker without listeners takes no lock at
/// all: it may be called from a destructor, or from a signal handler that interrupts one of its own calls.
#[derive(Clone)]
pub struct CircuitBreaker(Arc<Inner>);

struct Inner {
    /// A packed [`BreakerState`].
    word: AtomicU64,
    policy: Policy,
    slots: HalfOpenSlots,
    /// The generation of the next closed period.
    generations: AtomicU64,
    clock: Clock,
    name: Option<std::sync::Arc<str>>,
    counters: Striped<4>,
    state_changes: std::sync::atomic::AtomicU64,
    listeners: Listeners,
}

/// Packed [`HalfOpenSlot`]s, one for each half-open call at once. Mostly there is one.
enum HalfOpenSlots {
    One(AtomicU64),
    Some(Box<[AtomicU64]>),
}

impl HalfOpenSlots {
    fn new(calls: u32) -> Self {
        let free = || AtomicU64::new(HalfOpenSlot::FREE.pack());
        if calls == 1 { Self::One(free()) } else { Self::Some((0..calls).map(|_| free()).collect()) }
    }

    fn words(&self) -> &[AtomicU64] {
        match self {
            Self::One(word) => std::slice::from_ref(word),
            Self::Some(words) => words,
        }
    }
}

/// An admitted call: where its outcome counts, and the slot it holds if it is a half-open call.
#[derive(Clone, Copy)]
struct Admitted {
    ticket: Ticket,
    slot: Option<(usize, HalfOpenSlot)>,
}

/// What a call keeps of its admission.
///
/// The hot path is a breaker that is closed and well. All that is kept there is the word that was seen: as long as the
/// breaker still shows that word, there is nothing to decide. So a call that cannot panic keeps nothing in memory.
#[derive(Clone, Copy)]
struct Pass {
    word: u64,
    /// None if the word alone admitted it.
    admitted: Option<Admitted>,
}

/// A call that runs on this thread from its beginning to its end: if this is dropped, it has panicked.
struct Running<'a> {
    inner: &'a Inner,
    pass: Pass,
}

impl<'a> Running<'a> {
    #[inline]
    fn begin(inner: &'a Inner) -> Result<Self, CircuitOpenError> {
        Ok(Self { inner, pass: inner.pass()? })
    }

    #[inline]
    fn end(self, outcome: Outcome) {
        let Self { inner, pass } = self; // copies: a pattern takes nothing out of what is dropped
        std::mem::forget(self);
        inner.judge(pass, outcome);
    }
}

impl Drop for Running<'_> {
    #[cold]
    fn drop(&mut self) {
        self.inner.judge(self.pass, Outcome::Failure);
    }
}

const REJECTED: usize = 3;

impl CircuitBreaker {
    /// Returns a builder with the built-in defaults.
    pub fn builder() -> CircuitBreakerBuilder {
        CircuitBreakerBuilder::default()
    }

    /// The state now. An open breaker whose time is over becomes half-open by being looked at.
    #[must_use]
    pub fn state(&self) -> CircuitState {
        loop {
            let word = self.0.word.load(Ordering::Acquire);
            let state = BreakerState::unpack(word);
            match self.0.policy.admit(state, || Reading::exact(self.0.clock.now())) {
                Admission::Recover(next) => self.0.shift(word, next),
                _ => return state.state(),
            };
        }
    }

    /// The name that it was built with.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// Consecutive failures so far; `max_failures` while it is open or half-open because of them.
    #[must_use]
    pub fn failure_count(&self) -> u32 {
        match BreakerState::unpack(self.0.word.load(Ordering::Acquire)) {
            BreakerState::Closed { failures, .. } => failures,
            BreakerState::Open { .. } | BreakerState::HalfOpen { .. } => self.0.policy.max_failures(),
            BreakerState::Isolated => 0,
        }
    }

    /// The numbers so far, as a snapshot.
    #[must_use]
    pub fn stats(&self) -> CircuitStats {
        let sum = |counter| self.0.counters.sum(counter);
        let [successful, failed, ignored] =
            [Outcome::Success, Outcome::Failure, Outcome::Ignored].map(|v| sum(v as usize));
        let rejected = sum(REJECTED);
        let state_changes = self.0.state_changes.load(std::sync::atomic::Ordering::Relaxed);
        CircuitStats {
            total: successful + failed + rejected + ignored,
            successful,
            failed,
            rejected,
            ignored,
            state_changes,
        }
    }

    /// Closes it, whatever it was. Outcomes of calls admitted before decide nothing any more.
    pub fn reset(&self) {
        let next = BreakerState::Closed { generation: self.0.fresh_generation(), failures: 0 };
        while !self.0.shift(self.0.word.load(Ordering::Acquire), next) {}
    }

    /// Holds it open until [`reset`](Self::reset): maintenance, or a service known to be down.
    pub fn isolate(&self) {
        while !self.0.shift(self.0.word.load(Ordering::Acquire), BreakerState::Isolated) {}
    }
}

impl Inner {
    #[inline]
    fn pass(&self) -> Result<Pass, CircuitOpenError> {
        let word = self.word.load(Ordering::Acquire);
        let admitted = match BreakerState::unpack(word).pass() {
            Some(_) => None,
            None => Some(self.admit_coarsely(word)?),
        };
        Ok(Pass { word, admitted })
    }

    #[inline]
    fn judge(&self, pass: Pass, outcome: Outcome) {
        self.counters.add(outcome as usize, 1);
        let well = outcome == Outcome::Success && BreakerState::unpack(pass.word).is_healthy();
        if !(well && self.word.load(Ordering::Acquire) == pass.word) {
            self.decide(pass, outcome);
        }
    }

    #[inline(never)]
    fn admit_coarsely(&self, word: u64) -> Result<Admitted, CircuitOpenError> {
        let time = self.clock.coarse();
        match self.policy.admit(BreakerState::unpack(word), || time) {
            Admission::Pass(ticket) => Ok(Admitted { ticket, slot: None }),
            Admission::Reject { until } => Err(self.rejection(self.policy.remaining(until, time.earliest))),
            Admission::HalfOpen { .. } | Admission::Recover(_) | Admission::Unclear => self.admit_exactly(),
        }
    }

    #[cold]
    fn admit_exactly(&self) -> Result<Admitted, CircuitOpenError> {
        loop {
            let word = self.word.load(Ordering::Acquire);
            let now = self.clock.now();
            match self.policy.admit(BreakerState::unpack(word), || Reading::exact(now)) {
                Admission::Pass(ticket) => return Ok(Admitted { ticket, slot: None }),
                Admission::Reject { until } => return Err(self.rejection(self.policy.remaining(until, now))),
                Admission::Recover(next) => {
                    self.shift(word, next);
                }
                Admission::HalfOpen { since } => match self.take_slot(since, now) {
                    Err(until) => return Err(self.rejection(until.since(now))),
                    // The slot is ours, but the half-open period may have ended before we took it.
                    Ok(slot) if self.is_half_open(since) => {
                        return Ok(Admitted { ticket: Ticket::HalfOpen { since }, slot: Some(slot) });
                    }
                    Ok(slot) => self.free_slot(slot),
                },
                Admission::Unclear => {}
            }
        }
    }

    fn is_half_open(&self, period: Moment) -> bool {
        matches!(BreakerState::unpack(self.word.load(Ordering::SeqCst)), BreakerState::HalfOpen { since, .. } if since == period)
    }

    /// A free slot, or the moment at which the first one will be.
    fn take_slot(&self, since: Moment, now: Moment) -> Result<(usize, HalfOpenSlot), Moment> {
        let mut first_free = Moment::NEVER;
        for (index, slot) in self.slots.words().iter().enumerate() {
            let mut word = slot.load(Ordering::Acquire);
            while let Some(ours) = self.policy.take(HalfOpenSlot::unpack(word), since, now) {
                match slot.compare_exchange(word, ours.pack(), Ordering::SeqCst, Ordering::Acquire) {
                    Ok(_) => return Ok((index, ours)),
                    Err(other) => word = other,
                }
            }
            first_free = first_free.min(HalfOpenSlot::unpack(word).lost_at());
        }
        Err(first_free)
    }

    /// Frees a slot, if it is still its holder's.
    fn free_slot(&self, (index, slot): (usize, HalfOpenSlot)) {
        let free = HalfOpenSlot::FREE.pack();
        let _ = self.slots.words()[index].compare_exchange(slot.pack(), free, Ordering::SeqCst, Ordering::Relaxed);
    }

    #[inline(never)]
    fn decide(&self, pass: Pass, outcome: Outcome) {
        let by_word = || BreakerState::unpack(pass.word).pass().map(|ticket| Admitted { ticket, slot: None });
        let Some(admitted) = pass.admitted.or_else(by_word) else { return };
        // Where another call has taken over the expired slot, it stays that call's. The outcome counts all the same: the
        // ticket says whether the half-open period of its admission still lasts.
        if let Some(slot) = admitted.slot {
            self.free_slot(slot);
        }
        loop {
            let word = self.word.load(Ordering::Acquire);
            let state = BreakerState::unpack(word);
            let fresh = || self.fresh_generation();
            let next = self.policy.judge(state, admitted.ticket, outcome, || self.clock.now(), fresh);
            if next == state || self.shift(word, next) {
                return;
            }
        }
    }

    fn fresh_generation(&self) -> u64 {
        self.generations.fetch_add(1, Ordering::Relaxed)
    }

    /// Moves from `word` to `next`, if nobody has moved since. A change of state is counted and announced.
    fn shift(&self, word: u64, next: BreakerState) -> bool {
        let exchange = || {
            let moved = self.word.compare_exchange(word, next.pack(), Ordering::SeqCst, Ordering::Relaxed);
            moved.is_ok()
        };
        let (from, to) = (BreakerState::unpack(word).state(), next.state());
        if from == to {
            return exchange();
        }
        let transition = Transition { name: self.name.clone(), from, to };
        if !self.listeners.record(&transition, exchange) {
            return false;
        }
        self.state_changes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        transition.log();
        self.listeners.deliver();
        true
    }

    fn rejection(&self, remaining: Duration) -> CircuitOpenError {
        self.counters.add(REJECTED, 1);
        tracing::debug!(target: "backstay", breaker = self.name.as_deref(), ?remaining, "circuit breaker refused a call");
        CircuitOpenError { name: self.name.clone(), remaining }
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = BreakerState::unpack(self.0.word.load(Ordering::Acquire));
        f.debug_struct("CircuitBreaker").field("name", &self.0.name).field("state", &state).finish_non_exhaustive()
    }
}

/// What a breaker has seen, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CircuitStats {
    /// Calls that asked: the sum of the next four.
    pub total: u64,
    /// Calls that succeeded.
    pub successful: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Calls that were turned away.
    pub rejected: u64,
    /// Calls that say nothing about the service: excluded errors, cancelled calls, dropped permits.
    pub ignored: u64,
    /// Changes between closed, open and half-open.
    pub state_changes: u64,
}
