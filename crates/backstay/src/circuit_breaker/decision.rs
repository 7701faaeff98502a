//! What the outcomes of calls change.

use backstay_core::circuit_breaker::{BreakerState, Cause, Change, IGNORED_CALLS_WARNING, Outcome, Ticket};

use super::admission::Pass;
use super::listeners::Transition;
use super::meter::Meter;
use super::window::RateWindow;
use super::{Arc, Inner};
use crate::clock::Moment;
use crate::error::CircuitOpenError;
use crate::log::log_now;
use crate::sync::atomic::Ordering;

/// The counters of calls by their ends.
pub(super) const SUCCESSFUL: usize = 0;
pub(super) const FAILED: usize = 1;
pub(super) const IGNORED: usize = 2;
pub(super) const REJECTED: usize = 3;

#[inline]
pub(super) fn counter(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Success => SUCCESSFUL,
        Outcome::Failure | Outcome::FailureFor(_) => FAILED,
        Outcome::Ignored => IGNORED,
    }
}

/// A call that runs on this thread from its beginning to its end: if this is dropped, it has panicked.
pub(super) struct Running<'a> {
    inner: &'a Inner,
    pass: Pass,
}

impl<'a> Running<'a> {
    #[inline(always)]
    pub(super) fn begin(inner: &'a Arc<Inner>) -> Result<Self, CircuitOpenError> {
        Ok(Self { inner, pass: inner.pass()? })
    }

    #[inline(always)]
    pub(super) fn end(self, outcome: Outcome) {
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

impl Inner {
    #[inline(always)]
    pub(super) fn judge(&self, pass: Pass, outcome: Outcome) {
        if let Some(meter) = self.meter.get() {
            // The hot path of a window without slow calls and listeners. The word is looked at before the call is counted.
            return match &meter.rates {
                Some(rates)
                    if outcome == Outcome::Success && pass.begun == Moment::NEVER && self.is_still_healthy(pass) =>
                {
                    rates.count_success(&self.counters, &self.clock);
                }
                _ => self.judge_measured(meter, pass, outcome),
            };
        }
        self.judge_by_count(pass, outcome);
    }

    #[inline(always)]
    fn judge_by_count(&self, pass: Pass, outcome: Outcome) {
        self.counters.add(counter(outcome), 1);
        if outcome != Outcome::Success || !self.is_still_healthy(pass) {
            self.decide(pass, (outcome, false));
        }
    }

    /// Whether the breaker is closed, has counted no failure and is as it was when it admitted the call: then a success
    /// changes nothing.
    #[inline(always)]
    fn is_still_healthy(&self, pass: Pass) -> bool {
        BreakerState::unpack(pass.word).is_healthy() && self.shared.word.load(Ordering::Acquire) == pass.word
    }

    #[inline(never)]
    fn judge_measured(&self, meter: &Meter, pass: Pass, outcome: Outcome) {
        let duration = meter.duration(pass.begun, &self.clock);
        let slow = duration.is_some_and(|duration| meter.is_slow(duration));
        match &meter.rates {
            Some(rates) => self.judge_by_rate(rates, pass, (outcome, slow)),
            None => self.judge_by_count(pass, outcome),
        }
        if let Some(duration) = duration {
            meter.tell(self.name(), outcome, duration);
        }
    }

    /// The word is looked at before the call is counted: the window holds the calls of the closed period only.
    #[inline]
    fn judge_by_rate(&self, rates: &RateWindow, pass: Pass, (outcome, slow): (Outcome, bool)) {
        if outcome == Outcome::Success && !slow && self.is_still_healthy(pass) {
            return rates.count_success(&self.counters, &self.clock);
        }
        self.count_and_decide(rates, pass, (outcome, slow));
    }

    #[inline(never)]
    fn count_and_decide(&self, rates: &RateWindow, pass: Pass, (outcome, slow): (Outcome, bool)) {
        let Some(admitted) = pass.admitted() else { return };
        let lasts = || match (BreakerState::unpack(self.shared.word.load(Ordering::SeqCst)), admitted.ticket) {
            (BreakerState::Closed { generation, .. }, Ticket::Closed { generation: admitted }) => {
                generation == admitted
            }
            _ => false,
        };
        if outcome == Outcome::Ignored {
            self.counters.add(IGNORED, 1);
        } else if lasts() {
            rates.count((outcome.is_failure(), slow), &self.counters, &self.clock, lasts);
        } else {
            rates.count_outside(outcome.is_failure(), &self.counters);
        }
        self.decide(pass, (outcome, slow));
    }

    #[inline(never)]
    fn decide(&self, pass: Pass, (outcome, slow): (Outcome, bool)) {
        let Some(admitted) = pass.admitted() else { return };
        // Where another call has taken over the expired slot, it stays that call's. The outcome counts all the same: the
        // ticket says whether the half-open period of its admission still lasts.
        if let Some(slot) = admitted.slot {
            self.free_slot(slot);
        }
        let rates = self.rates();
        loop {
            let word = self.shared.word.load(Ordering::Acquire);
            let state = BreakerState::unpack(word);
            let tripped = || {
                rates.and_then(|rates| {
                    rates.trips((outcome.is_failure(), slow), &self.counters, self.clock.coarse().earliest)
                })
            };
            let (now, fresh) = (|| self.clock.now(), || self.fresh_generation());
            let done = match self.policy.judge(state, admitted.ticket, (outcome, slow), tripped, now, fresh) {
                Change::Nothing => {
                    if outcome == Outcome::Ignored && admitted.ticket.counts_in_half_open(state) {
                        self.count_ignored();
                    }
                    true
                }
                Change::Count(next) => self.shift(word, next, None),
                Change::Transition(next, cause) => {
                    self.empty_window(next);
                    self.shift(word, next, Some(cause))
                }
            };
            if done {
                if outcome != Outcome::Ignored && matches!(admitted.ticket, Ticket::HalfOpen { .. }) {
                    self.shared.ignored.store(0, Ordering::Relaxed);
                }
                return;
            }
        }
    }

    /// A half-open breaker whose calls are all ignored stays half-open: something should say so once.
    #[cold]
    fn count_ignored(&self) {
        if self.shared.ignored.fetch_add(1, Ordering::Relaxed) + 1 == IGNORED_CALLS_WARNING {
            let breaker = self.name().map(AsRef::<str>::as_ref);
            log_now(|| {
                tracing::warn!(
                    target: "backstay",
                    breaker,
                    "circuit breaker stays half-open: its last {IGNORED_CALLS_WARNING} half-open calls were all ignored; \
                     a classifier can make them successes"
                );
            });
        }
    }

    pub(super) fn rates(&self) -> Option<&RateWindow> {
        self.meter.get()?.rates.as_ref()
    }

    /// CB-13: a closed period begins with an empty window. Called before it begins, when no call counts in the window.
    fn empty_window(&self, next: BreakerState) {
        if let (Some(rates), BreakerState::Closed { .. }) = (self.rates(), next) {
            rates.empty(&self.counters);
        }
    }

    pub(super) fn reset(&self) {
        let next = BreakerState::Closed { generation: self.fresh_generation(), failures: 0 };
        loop {
            let word = self.shared.word.load(Ordering::Acquire);
            self.empty_window(next);
            if self.shift(word, next, Some(Cause::Manual)) {
                return;
            }
        }
    }

    pub(super) fn isolate(&self) {
        while !self.shift(self.shared.word.load(Ordering::Acquire), BreakerState::Isolated, Some(Cause::Manual)) {}
    }

    fn fresh_generation(&self) -> u64 {
        self.shared.generations.fetch_add(1, Ordering::Relaxed)
    }

    /// Moves from `word` to `next`, if no other thread has moved since. A change of state is counted and announced.
    pub(super) fn shift(&self, word: u64, next: BreakerState, cause: Option<Cause>) -> bool {
        let exchange = || {
            let moved = self.shared.word.compare_exchange(word, next.pack(), Ordering::SeqCst, Ordering::Relaxed);
            moved.is_ok()
        };
        let (from, to) = (BreakerState::unpack(word).state(), next.state());
        let Some(cause) = cause.filter(|_| from != to) else { return exchange() };
        let transition = Transition { name: self.name().cloned(), from, to, cause };
        let listeners = self.extras.get().map(|extras| &extras.listeners);
        let moved = match listeners {
            Some(listeners) => listeners.record(&transition, exchange),
            None => exchange(),
        };
        if moved {
            self.shared.state_changes.fetch_add(1, Ordering::Relaxed);
            transition.log();
            if let Some(listeners) = listeners {
                listeners.deliver();
            }
        }
        moved
    }
}
