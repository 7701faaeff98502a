//! The bucket in one atomic word, which is also the sequence lock of its parameters.
//!
//! The word is `full_at`, shifted left by one; the lowest bit flips whenever the parameters change. The value
//! [`CHANGING`] says that they are being changed. Whoever takes loads the word, then the parameters, computes, and
//! compare-and-swaps the word: had the parameters changed in between, the word would be another.
//!
//! Everything but [`Bucket::take`] and [`Bucket::read`] is called under the lock of the limiter's queue.

use backstay_core::rate_limiter::{Place, Scale, Take};

use crate::clock::{Moment, Reading};
use crate::sync::atomic::{AtomicU64, Ordering, fence};

const CHANGING: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct Bucket {
    word: Apart<AtomicU64>,
    multiplier: AtomicU64,
    token: AtomicU64,
    capacity: AtomicU64,
}

/// On lines of its own: every take writes here, and the parameters, which hardly ever change, stay in every cache.
#[derive(Debug)]
#[repr(align(128))]
struct Apart<T>(T);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Granted,
    Refused,
    /// The reading is too stale, or the parameters are being changed: ask again with an exact one.
    Unclear,
}

impl Bucket {
    pub(super) fn new(scale: Scale, full_at: u64) -> Self {
        Self {
            word: Apart(AtomicU64::new(full_at << 1)),
            multiplier: AtomicU64::new(scale.multiplier),
            token: AtomicU64::new(scale.token),
            capacity: AtomicU64::new(scale.capacity),
        }
    }

    #[inline]
    pub(super) fn scale(&self) -> Scale {
        Scale::new(
            self.multiplier.load(Ordering::Relaxed),
            self.token.load(Ordering::Relaxed),
            self.capacity.load(Ordering::Relaxed),
        )
    }

    /// Takes `tokens` if they are there.
    #[inline]
    pub(super) fn take(&self, tokens: u32, time: Reading) -> Answer {
        let mut word = self.word.0.load(Ordering::Acquire);
        loop {
            let scale = self.scale();
            // While the parameters are being changed, the word says that more is lacking than any bucket holds.
            match scale.take(word >> 1, scale.cost(tokens), time) {
                Take::Granted(full_at) => {
                    let new = full_at << 1 | (word & 1);
                    match self.word.0.compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Acquire) {
                        Ok(_) => return Answer::Granted,
                        Err(current) => word = current,
                    }
                }
                Take::Refused if word == CHANGING => return Answer::Unclear,
                Take::Refused => {
                    // Nothing is written that could fail: look.
                    if self.is_still(word) {
                        return Answer::Refused;
                    }
                    word = self.word.0.load(Ordering::Acquire);
                }
                Take::Unclear => return Answer::Unclear,
            }
        }
    }

    /// The word and the parameters that belong to it; `None` while they are being changed.
    pub(super) fn read(&self) -> Option<(u64, Scale)> {
        loop {
            let word = self.word.0.load(Ordering::Acquire);
            if word == CHANGING {
                return None;
            }
            let scale = self.scale();
            if self.is_still(word) {
                return Some((word >> 1, scale));
            }
        }
    }

    /// Whether the parameters loaded since belong to `word`.
    #[inline]
    fn is_still(&self, word: u64) -> bool {
        fence(Ordering::Acquire);
        self.word.0.load(Ordering::Relaxed) == word
    }

    /// Takes the place that `choose` makes of the current `full_at`, or nothing.
    pub(super) fn reserve<E>(&self, choose: impl Fn(u64) -> Result<Place, E>) -> Result<Place, E> {
        let mut word = self.word.0.load(Ordering::Acquire);
        loop {
            let place = choose(word >> 1)?;
            match self.swap(word, place.full_at) {
                Ok(()) => return Ok(place),
                Err(current) => word = current,
            }
        }
    }

    /// Gives back as much of an unused `place` as may go back: how much it was.
    ///
    /// The clock is read after the word: whoever took by then took at no later time, and what had spilled over by his
    /// time is not given back.
    pub(super) fn refund(&self, place: Place, clock: impl Fn() -> Moment) -> u64 {
        let scale = self.scale();
        let mut word = self.word.0.load(Ordering::Acquire);
        loop {
            let refund = scale.refund(place, word >> 1, clock());
            match self.swap(word, (word >> 1).saturating_sub(refund)) {
                Ok(()) => return refund,
                Err(current) => word = current,
            }
        }
    }

    /// Fills the bucket, but for what `full_at` says.
    pub(super) fn refill(&self, full_at: u64) {
        let parity = self.word.0.load(Ordering::Relaxed) & 1;
        self.word.0.swap(full_at << 1 | parity, Ordering::AcqRel);
    }

    /// Goes over to another scale, with as many tokens as before, at a time after which it is full no earlier than told.
    ///
    /// Both are asked for when nobody can take any more: what was taken by then was taken at no later time.
    pub(super) fn change(&self, new: &Scale, at: impl FnOnce() -> (Moment, u64)) {
        let old = self.scale();
        let word = self.word.0.swap(CHANGING, Ordering::AcqRel);
        let (now, at_least) = at();
        // Whoever sees one of the new parameters sees at least CHANGING.
        fence(Ordering::Release);
        self.multiplier.store(new.multiplier, Ordering::Relaxed);
        self.token.store(new.token, Ordering::Relaxed);
        self.capacity.store(new.capacity, Ordering::Relaxed);
        let full_at = old.convert(word >> 1, new, now).max(at_least);
        self.word.0.store(full_at << 1 | (!word & 1), Ordering::Release);
    }

    fn swap(&self, word: u64, full_at: u64) -> Result<(), u64> {
        let new = full_at << 1 | (word & 1);
        self.word.0.compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Acquire).map(drop)
    }
}
