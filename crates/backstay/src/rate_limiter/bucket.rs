//! The bucket in one atomic word, which is also the sequence lock of its parameters.
//!
//! The word is `full_at`, shifted left by one; the lowest bit flips whenever the parameters change. The value
//! [`CHANGING`] means that they are being changed. A take loads the word, then the parameters, computes the new word
//! and stores it by compare-and-swap. If the parameters changed in between, the word has changed, and the
//! compare-and-swap fails.
//!
//! All methods are called under the lock of the limiter's queue, except [`Bucket::take`], [`Bucket::read`],
//! [`Bucket::quota`] and those that choose the clock.
//!
//! # Memory ordering
//! A load of the word (acquire) pairs with the release store that ends a change, so it sees the parameters of that
//! change. A change stores [`CHANGING`], then a release fence, then the parameters. A reader loads the parameters,
//! then an acquire fence, then the word again: if it saw one of the new parameters, it sees `CHANGING` or a later
//! word. The compare-and-swap of a take (release) pairs with the loads of a refund and the swap of a change (acquire):
//! the clock that these read afterwards is no earlier than the take's. `needs_fine_clock` is a guess and relaxed.

use std::time::Duration;

use backstay_core::rate_limiter::{Quota, Reserved, Scale, Shortage, Take};

use crate::clock::{Moment, Reading};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

const CHANGING: u64 = u64::MAX;

/// The state of a limit, in one cache line without pointers. A take writes the word and reads the parameters, so
/// separate lines would double its cache misses.
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
    /// Whether the coarse clock was too coarse for the last take; it likely is for the next one, too.
    needs_fine_clock: AtomicBool,
}

/// A quota as words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameters {
    pub(super) scale: Scale,
    /// The bits of an `f64`.
    pub(super) rate: u64,
    /// Nanoseconds: 500 years fit.
    pub(super) per: u64,
    /// The bits of an `f64`; NaN if the burst follows the rate.
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
pub(super) enum TakeResult {
    Granted,
    Rejected(Shortage),
    /// The reading is too stale, or the parameters are being changed: try again with an exact reading.
    Undecided,
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
            needs_fine_clock: AtomicBool::new(false),
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

    /// Takes all of `tokens`, or none.
    #[inline(always)]
    pub(super) fn take(&self, tokens: u32, time: Reading) -> TakeResult {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let scale = self.scale();
            // While the parameters are being changed, the word says that more is lacking than any bucket holds.
            match scale.take(word >> 1, scale.cost(tokens), time) {
                Take::Granted(full_at) => {
                    let new = full_at << 1 | (word & 1);
                    match self.word.compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Acquire) {
                        Ok(_) => return TakeResult::Granted,
                        Err(current) => word = current,
                    }
                }
                Take::Rejected if word == CHANGING => return TakeResult::Undecided,
                Take::Rejected => {
                    // No compare-and-swap can fail here, so the word is checked.
                    if self.is_unchanged(word) {
                        return TakeResult::Rejected(Shortage { scale, full_at: word >> 1, cost: scale.cost(tokens) });
                    }
                    word = self.word.load(Ordering::Acquire);
                }
                Take::Undecided => return TakeResult::Undecided,
            }
        }
    }

    /// Whether the coarse clock is likely not to decide, because the bucket is nearly full or the next token is near.
    #[inline]
    pub(super) fn needs_fine_clock(&self) -> bool {
        self.needs_fine_clock.load(Ordering::Relaxed)
    }

    #[cold]
    pub(super) fn set_needs_fine_clock(&self, needs_fine_clock: bool) {
        // Written only if it changes: other threads read this cache line.
        if self.needs_fine_clock() != needs_fine_clock {
            self.needs_fine_clock.store(needs_fine_clock, Ordering::Relaxed);
        }
    }

    /// Returns `full_at` and the scale that belongs to it; `None` while the parameters are being changed.
    pub(super) fn read(&self) -> Option<(u64, Scale)> {
        loop {
            let word = self.word.load(Ordering::Acquire);
            if word == CHANGING {
                return None;
            }
            let scale = self.scale();
            if self.is_unchanged(word) {
                return Some((word >> 1, scale));
            }
        }
    }

    /// Returns the quota; `None` while the parameters are being changed.
    pub(super) fn quota(&self) -> Option<Quota> {
        loop {
            let word = self.word.load(Ordering::Acquire);
            if word == CHANGING {
                return None;
            }
            let number = |bits: &AtomicU64| f64::from_bits(bits.load(Ordering::Relaxed));
            let (rate, burst) = (number(&self.rate), number(&self.burst));
            let per = Duration::from_nanos(self.per.load(Ordering::Relaxed));
            if self.is_unchanged(word) {
                let burst = Some(burst).filter(|burst| !burst.is_nan());
                return Some(Quota::new(rate, per, burst).expect("the same numbers were accepted before"));
            }
        }
    }

    /// Whether the parameters that were loaded after `word` belong to it.
    #[inline]
    fn is_unchanged(&self, word: u64) -> bool {
        fence(Ordering::Acquire);
        self.word.load(Ordering::Relaxed) == word
    }

    /// Reserves what `choose` returns for the current `full_at`, or nothing.
    pub(super) fn reserve<E>(&self, choose: impl Fn(u64) -> Result<Reserved, E>) -> Result<Reserved, E> {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let reserved = choose(word >> 1)?;
            match self.swap(word, reserved.full_at) {
                Ok(()) => return Ok(reserved),
                Err(current) => word = current,
            }
        }
    }

    /// Refunds as much of an unused reservation as the rules permit. Returns how much that was.
    ///
    /// The clock is read after the word: each take so far happened at no later time, and what had overflowed by then
    /// is not refunded.
    pub(super) fn refund(&self, reserved: Reserved, clock: impl Fn() -> Moment) -> u64 {
        let scale = self.scale();
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let refund = scale.refund(reserved, word >> 1, clock());
            match self.swap(word, (word >> 1).saturating_sub(refund)) {
                Ok(()) => return refund,
                Err(current) => word = current,
            }
        }
    }

    /// Fills the bucket, except for the reservations up to `full_at`.
    pub(super) fn refill(&self, full_at: u64) {
        let parity = self.word.load(Ordering::Relaxed) & 1;
        self.word.swap(full_at << 1 | parity, Ordering::AcqRel);
    }

    /// Changes the quota. `convert` computes the new `full_at` from the old one.
    ///
    /// `convert` is called when no token can be taken, so each take so far happened at no later time.
    pub(super) fn change(&self, new: &Parameters, convert: impl FnOnce(u64) -> u64) {
        let word = self.word.swap(CHANGING, Ordering::AcqRel);
        let full_at = convert(word >> 1);
        // A reader that sees a new parameter sees CHANGING or a later word.
        fence(Ordering::Release);
        self.store(new);
        self.word.store(full_at << 1 | (!word & 1), Ordering::Release);
    }

    fn swap(&self, word: u64, full_at: u64) -> Result<(), u64> {
        let new = full_at << 1 | (word & 1);
        self.word.compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Acquire).map(drop)
    }
}
