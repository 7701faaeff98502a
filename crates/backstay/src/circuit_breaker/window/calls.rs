//! A window of calls: exactly the last n outcomes, whatever the order in which threads report.
//!
//! Each report takes a position. The call that has position p moves the one at p - n out of the window. Only failures and
//! slow calls leave a mark, so a success looks at one mark and mostly writes nothing but the position, which all threads
//! share. A mark carries its position: the thread that exchanges a mark changes the counts by what was in it, so the counts
//! are those of the marks, and a mark that comes too late (its call has left the window already) is taken out again.
//!
//! # Memory ordering
//! Positions are taken with acquire and release. A late mark is found by one of two: its reporter, which writes the mark
//! and then exchanges the position word, or the call n positions later, which exchanges the position word and then reads the
//! mark. The exchanges of one word have an order: the second sees what came before the first. The counts are added to with
//! acquire and release as well: of two failures at the same time the second sees both, and both positions.
//!
//! A mark of a closed period that has ended is found likewise: its reporter writes the mark and then reads the breaker's word,
//! the thread that empties the window comes after the exchange of that word and reads the marks. All four are sequentially
//! consistent, so one of the two sees the other.

use backstay_core::circuit_breaker::WindowCounts;

use crate::sync::atomic::{AtomicI64, AtomicU64, Ordering};

const FAILED: u64 = 1;
const SLOW: u64 = 2;
const BITS: u32 = 2;

#[derive(Debug)]
pub(crate) struct CallWindow {
    /// Calls that have reported, ever.
    position: AtomicU64,
    /// The position at which the closed period began.
    begin: AtomicU64,
    length: u64,
    /// 0, or the position of a failed or slow call above its bits. A power of two, so that no division finds the place.
    marks: Box<[AtomicU64]>,
    /// Marks with the bit. Less than 0 for a moment, when a mark goes before it is counted.
    failed: AtomicI64,
    slow: AtomicI64,
    /// Failures that have reported, ever.
    failures: AtomicU64,
}

impl CallWindow {
    pub(crate) fn new(calls: u32) -> Self {
        let marks = calls.next_power_of_two();
        Self {
            position: AtomicU64::new(0),
            begin: AtomicU64::new(0),
            length: calls.into(),
            marks: (0..marks).map(|_| AtomicU64::new(0)).collect(),
            failed: AtomicI64::new(0),
            slow: AtomicI64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// Counts a call that succeeded and was not slow.
    #[inline]
    pub(crate) fn success(&self) {
        self.take_position();
    }

    /// Counts a call that failed or was slow, unless the closed period to which it belongs `lasts` no more.
    pub(crate) fn mark(&self, failed: bool, slow: bool, lasts: impl Fn() -> bool) {
        if failed {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        let position = self.take_position();
        let bits = u64::from(failed) * FAILED + u64::from(slow) * SLOW;
        let entry = position << BITS | bits;
        let mark = self.place(position);
        let mut old = mark.load(Ordering::Acquire);
        loop {
            if old > entry {
                return; // a later call has it, so this one has left the window
            }
            match mark.compare_exchange(old, entry, Ordering::SeqCst, Ordering::Acquire) {
                Ok(_) => break,
                Err(current) => old = current,
            }
        }
        self.add(bits, 1);
        self.add(old, -1);
        if self.position.fetch_add(0, Ordering::AcqRel) > position + self.length || !lasts() {
            self.remove(mark, entry);
        }
    }

    #[inline]
    fn take_position(&self) -> u64 {
        let position = self.position.fetch_add(1, Ordering::AcqRel);
        if let Some(leaving) = position.checked_sub(self.length) {
            let mark = self.place(leaving);
            let entry = mark.load(Ordering::Acquire);
            if entry != 0 && entry >> BITS == leaving {
                self.remove(mark, entry);
            }
        }
        position
    }

    #[cold]
    fn remove(&self, mark: &AtomicU64, entry: u64) {
        if mark.compare_exchange(entry, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.add(entry, -1);
        }
    }

    fn add(&self, entry: u64, amount: i64) {
        if entry & SLOW != 0 {
            self.slow.fetch_add(amount, Ordering::AcqRel);
        }
        if entry & FAILED != 0 {
            self.failed.fetch_add(amount, Ordering::AcqRel);
        }
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation)] // the low bits are meant
    fn place(&self, position: u64) -> &AtomicU64 {
        &self.marks[position as usize & (self.marks.len() - 1)]
    }

    /// The counts of the window, with all that this thread has counted. Changes nothing.
    #[allow(clippy::cast_sign_loss)] // not below 0
    pub(crate) fn counts(&self) -> WindowCounts {
        let failed = self.failed.load(Ordering::Acquire).max(0) as u64;
        let slow = self.slow.load(Ordering::Acquire).max(0) as u64;
        // Last: a call in between makes the shares smaller, not larger.
        let position = self.position.load(Ordering::Acquire);
        let calls = position.saturating_sub(self.begin.load(Ordering::Acquire)).min(self.length);
        WindowCounts { calls, failed: failed.min(calls), slow: slow.min(calls) }
    }

    /// Empties the window: what was counted until now is not in it any more. As long as the window, so O(n).
    pub(crate) fn empty(&self) {
        let position = self.position.load(Ordering::Acquire);
        self.begin.fetch_max(position, Ordering::AcqRel);
        for mark in &self.marks {
            let entry = mark.load(Ordering::SeqCst);
            if entry != 0 && entry >> BITS < position {
                self.remove(mark, entry);
            }
        }
    }

    /// Calls that were counted here, ever: those that succeeded, and those that failed.
    pub(crate) fn totals(&self) -> [u64; 2] {
        let position = self.position.load(Ordering::Acquire);
        let failures = self.failures.load(Ordering::Relaxed);
        [position.saturating_sub(failures), failures]
    }
}
