//! The bucket in one atomic word, which is also the sequence lock of its parameters.
//!
//! The word is `full_at`, shifted left by one; the lowest bit flips whenever the parameters change. The value
//! [`CHANGING`] says that they are being changed. Whoever takes loads the word, then the parameters, computes, and
//! compare-and-swaps the word: had the parameters changed in between, the word would be another.
//!
//! Everything but [`Bucket::take`], [`Bucket::read`], [`Bucket::quota`] and what says which clock to read is called under
//! the lock of the limiter's queue.
//!
//! # Memory ordering
//! A load of the word (acquire) pairs with the release store that ends a change, so it sees that change's parameters. A
//! change stores [`CHANGING`], then a release fence, then the parameters; a reader loads the parameters, then an acquire
//! fence, then the word again: if it saw one of the new parameters, it sees `CHANGING` or a later word. Which clock to
//! read (`is_tight`) is a guess and relaxed.

use std::time::Duration;

use backstay_core::rate_limiter::{Place, Quota, Scale, Shortage, Take};

use crate::clock::{Moment, Reading};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

const CHANGING: u64 = u64::MAX;

/// All that a limit consists of, in one block without pointers. It fits into one cache line: taking a token
/// writes the word and needs the parameters, so a line for each would make two misses of one.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Bucket {
    word: AtomicU64,
    multiplier: AtomicU64,
    token: AtomicU64,
    capacity: AtomicU64,
    rate: AtomicU64,
    per: AtomicU64,
    burst: AtomicU64,
    /// Whether milliseconds counted in the last take: then they are likely to count in the next one.
    is_tight: AtomicBool,
}

/// A quota as words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameters {
    pub(super) scale: Scale,
    /// The bits of a number.
    pub(super) rate: u64,
    /// Nanoseconds: 500 years fit.
    pub(super) per: u64,
    /// The bits of a number; NaN where the burst follows the rate.
    pub(super) burst: u64,
}

impl From<&Quota> for Parameters {
    fn from(quota: &Quota) -> Self {
        let (rate, burst) = (quota.rate(), quota.burst().unwrap_or(f64::NAN));
        let per = backstay_core::time::nanos(quota.per());
        Self { scale: quota.scale(), rate: rate.to_bits(), per, burst: burst.to_bits() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Granted,
    Refused(Shortage),
    /// The reading is too stale, or the parameters are being changed: ask again with an exact one.
    Unclear,
}

impl Bucket {
    pub(super) fn new(parameters: &Parameters, full_at: u64) -> Self {
        let zero = || AtomicU64::new(0);
        let bucket = Self {
            word: AtomicU64::new(full_at << 1),
            multiplier: zero(),
            token: zero(),
            capacity: zero(),
            rate: zero(),
            per: zero(),
            burst: zero(),
            is_tight: AtomicBool::new(false),
        };
        bucket.store(parameters);
        bucket
    }

    fn store(&self, parameters: &Parameters) {
        let Parameters { scale, rate, per, burst } = *parameters;
        self.multiplier.store(scale.multiplier, Ordering::Relaxed);
        self.token.store(scale.token, Ordering::Relaxed);
        self.capacity.store(scale.capacity, Ordering::Relaxed);
        self.rate.store(rate, Ordering::Relaxed);
        self.per.store(per, Ordering::Relaxed);
        self.burst.store(burst, Ordering::Relaxed);
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
    #[inline(always)]
    pub(super) fn take(&self, tokens: u32, time: Reading) -> Answer {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let scale = self.scale();
            // While the parameters are being changed, the word says that more is lacking than any bucket holds.
            match scale.take(word >> 1, scale.cost(tokens), time) {
                Take::Granted(full_at) => {
                    let new = full_at << 1 | (word & 1);
                    match self.word.compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Acquire) {
                        Ok(_) => return Answer::Granted,
                        Err(current) => word = current,
                    }
                }
                Take::Refused if word == CHANGING => return Answer::Unclear,
                Take::Refused => {
                    // Nothing is written that could fail: look.
                    if self.is_still(word) {
                        return Answer::Refused(Shortage { scale, full_at: word >> 1, cost: scale.cost(tokens) });
                    }
                    word = self.word.load(Ordering::Acquire);
                }
                Take::Unclear => return Answer::Unclear,
            }
        }
    }

    /// Whether the coarse clock is likely not to decide, because the bucket is nearly full or the next token is near.
    #[inline]
    pub(super) fn is_tight(&self) -> bool {
        self.is_tight.load(Ordering::Relaxed)
    }

    #[cold]
    pub(super) fn set_tight(&self, is_tight: bool) {
        // Written only where it changes: other threads read this line.
        if self.is_tight() != is_tight {
            self.is_tight.store(is_tight, Ordering::Relaxed);
        }
    }

    /// The word and the parameters that belong to it; `None` while they are being changed.
    pub(super) fn read(&self) -> Option<(u64, Scale)> {
        loop {
            let word = self.word.load(Ordering::Acquire);
            if word == CHANGING {
                return None;
            }
            let scale = self.scale();
            if self.is_still(word) {
                return Some((word >> 1, scale));
            }
        }
    }

    /// What the parameters were made of; `None` while they are being changed.
    pub(super) fn quota(&self) -> Option<Quota> {
        loop {
            let word = self.word.load(Ordering::Acquire);
            if word == CHANGING {
                return None;
            }
            let number = |bits: &AtomicU64| f64::from_bits(bits.load(Ordering::Relaxed));
            let (rate, burst) = (number(&self.rate), number(&self.burst));
            let per = Duration::from_nanos(self.per.load(Ordering::Relaxed));
            if self.is_still(word) {
                let burst = Some(burst).filter(|burst| !burst.is_nan());
                return Some(Quota::new(rate, per, burst).expect("the same numbers were accepted before"));
            }
        }
    }

    /// Whether the parameters loaded since belong to `word`.
    #[inline]
    fn is_still(&self, word: u64) -> bool {
        fence(Ordering::Acquire);
        self.word.load(Ordering::Relaxed) == word
    }

    /// Takes the place that `choose` makes of the current `full_at`, or nothing.
    pub(super) fn reserve<E>(&self, choose: impl Fn(u64) -> Result<Place, E>) -> Result<Place, E> {
        let mut word = self.word.load(Ordering::Acquire);
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
        let mut word = self.word.load(Ordering::Acquire);
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
        let parity = self.word.load(Ordering::Relaxed) & 1;
        self.word.swap(full_at << 1 | parity, Ordering::AcqRel);
    }

    /// Goes over to another quota. `convert` makes the new `full_at` of the old one.
    ///
    /// It is called when no token can be taken any more: what was taken by then was taken at no later time.
    pub(super) fn change(&self, new: &Parameters, convert: impl FnOnce(u64) -> u64) {
        let word = self.word.swap(CHANGING, Ordering::AcqRel);
        let full_at = convert(word >> 1);
        // Whoever sees one of the new parameters sees at least CHANGING.
        fence(Ordering::Release);
        self.store(new);
        self.word.store(full_at << 1 | (!word & 1), Ordering::Release);
    }

    fn swap(&self, word: u64, full_at: u64) -> Result<(), u64> {
        let new = full_at << 1 | (word & 1);
        self.word.compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Acquire).map(drop)
    }
}
