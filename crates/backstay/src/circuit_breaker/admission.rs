//! Which calls are admitted, and the slots of half-open calls.

use std::time::Duration;

use backstay_core::circuit_breaker::{Admission, BreakerState, Cause, HalfOpenSlot, Policy, Ticket};

use super::Inner;
use crate::clock::{Moment, Reading};
use crate::error::CircuitOpenError;
use crate::sync::atomic::{AtomicU64, Ordering};

/// An admitted call: where its outcome counts, and its slot if it is a half-open call.
#[derive(Clone, Copy)]
pub(super) struct Admitted {
    pub(super) ticket: Ticket,
    pub(super) slot: Option<(usize, HalfOpenSlot)>,
}

/// What a call keeps of its admission.
///
/// The hot path is a breaker that is closed and healthy. All that is kept there is the word that was seen: as long as the
/// breaker still shows that word, there is nothing to decide. So a call that cannot panic keeps nothing in memory.
#[derive(Clone, Copy)]
pub(super) struct Pass {
    pub(super) word: u64,
    /// None if the word alone admitted it.
    admitted: Option<Admitted>,
    /// When the call began; [`Moment::NEVER`] if nothing needs its duration.
    pub(super) begun: Moment,
}

impl Pass {
    /// Where the outcome counts, and the slot.
    pub(super) fn admitted(&self) -> Option<Admitted> {
        let by_word = || BreakerState::unpack(self.word).pass().map(|ticket| Admitted { ticket, slot: None });
        self.admitted.or_else(by_word)
    }
}

impl Inner {
    #[inline(always)]
    pub(super) fn pass(&self) -> Result<Pass, CircuitOpenError> {
        let word = self.shared.word.load(Ordering::Acquire);
        let admitted = match BreakerState::unpack(word).pass() {
            Some(_) => None,
            None => Some(self.admit_coarsely(word)?),
        };
        let begun = match self.meter.get() {
            Some(meter) => meter.begin(&self.clock),
            None => Moment::NEVER,
        };
        Ok(Pass { word, admitted, begun })
    }

    #[inline(never)]
    fn admit_coarsely(&self, word: u64) -> Result<Admitted, CircuitOpenError> {
        let time = self.clock.coarse();
        match self.policy.admit(BreakerState::unpack(word), || time) {
            Admission::Pass(ticket) => Ok(Admitted { ticket, slot: None }),
            Admission::Reject { until } => Err(self.rejection(Policy::remaining(until, time.earliest))),
            Admission::HalfOpen { .. } | Admission::Recover(_) | Admission::Unclear => self.admit_exactly(),
        }
    }

    #[cold]
    fn admit_exactly(&self) -> Result<Admitted, CircuitOpenError> {
        loop {
            let word = self.shared.word.load(Ordering::Acquire);
            let now = self.clock.now();
            match self.policy.admit(BreakerState::unpack(word), || Reading::exact(now)) {
                Admission::Pass(ticket) => return Ok(Admitted { ticket, slot: None }),
                Admission::Reject { until } => return Err(self.rejection(Policy::remaining(until, now))),
                Admission::Recover(next) => {
                    self.shift(word, next, Some(Cause::ResetTimeout));
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
        let state = BreakerState::unpack(self.shared.word.load(Ordering::SeqCst));
        matches!(state, BreakerState::HalfOpen { since, .. } if since == period)
    }

    /// A free slot, or the moment at which the first one will be.
    fn take_slot(&self, since: Moment, now: Moment) -> Result<(usize, HalfOpenSlot), Moment> {
        let mut first_free = Moment::NEVER;
        for (index, slot) in self.slots().enumerate() {
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
    pub(super) fn free_slot(&self, (index, slot): (usize, HalfOpenSlot)) {
        if let Some(word) = self.slots().nth(index) {
            let free = HalfOpenSlot::FREE.pack();
            let _ = word.compare_exchange(slot.pack(), free, Ordering::SeqCst, Ordering::Relaxed);
        }
    }

    fn slots(&self) -> impl Iterator<Item = &AtomicU64> {
        let more = self.extras.get().map_or(&[][..], |extras| &extras.more_slots);
        std::iter::once(&self.shared.slot).chain(more)
    }

    fn rejection(&self, remaining: Duration) -> CircuitOpenError {
        self.counters.add(super::decision::REJECTED, 1);
        tracing::debug!(target: "backstay", breaker = self.name().map(AsRef::<str>::as_ref), ?remaining, "circuit breaker rejected a call");
        CircuitOpenError { name: self.name().cloned(), remaining }
    }
}
