//! A window of time, as differences of totals that only grow.
//!
//! The counts of a window are the breaker's totals now, less the totals at its beginning. So a call that succeeds writes
//! nothing here: it reads the clock and one word, when the present bucket ends. The first call after that end notes the
//! totals as they were before it was counted: they are those of the bucket's beginning, however many buckets had no call.
//! A bucket without a note had no call, so the next note has the same totals.
//!
//! Every word only grows (`fetch_max`), so nothing has to be claimed, freed or repaired: several threads may write one note,
//! a thread may stop in the middle of it for ever (a signal handler, a fork), and a late one with old totals changes nothing.
//!
//! # Memory ordering
//! - A note's totals are written before its number, and the number before `ends` (both with release); they are read in the
//!   opposite order, with acquire. So the note of a bucket that has begun is complete.
//! - A note that is written over while it is read (the reader was stopped for six buckets) has totals that are too new. Of
//!   these `succeeded` is written last and read first (release, acquire): then the window shows too few failures, never
//!   too few successes. The floor likewise.
//! - A sum and a count on two threads need a sequentially consistent fence between, or two failures reported at the same
//!   time might not see each other, and neither would open the circuit: [`TimeWindow::counts`].

use std::time::Duration;

use backstay_core::circuit_breaker::{Buckets, WindowCounts};

use crate::clock::Moment;
use crate::sync::atomic::{AtomicU64, Ordering, fence};

/// Notes that are kept: the buckets of a window, and spare ones for a reader that is stopped.
const NOTES: usize = 16;

/// A total of the breaker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Total {
    Succeeded,
    Failed,
}

#[derive(Debug)]
pub(crate) struct TimeWindow {
    buckets: Buckets,
    /// When the present bucket ends, in nanoseconds.
    ends: AtomicU64,
    /// That of bucket n is at n modulo their number.
    notes: [Note; NOTES],
    /// The totals when the closed period began.
    floor: Totals,
    /// Slow calls so far. Only they write here.
    slow: AtomicU64,
}

#[derive(Debug)]
struct Note {
    /// The bucket's number plus one, or 0.
    number: AtomicU64,
    totals: Totals,
}

#[derive(Debug)]
struct Totals {
    succeeded: AtomicU64,
    failed: AtomicU64,
    slow: AtomicU64,
}

impl Totals {
    fn zero() -> Self {
        let zero = || AtomicU64::new(0);
        Self { succeeded: zero(), failed: zero(), slow: zero() }
    }

    fn raise(&self, [succeeded, failed, slow]: [u64; 3]) {
        self.failed.fetch_max(failed, Ordering::Relaxed);
        self.slow.fetch_max(slow, Ordering::Relaxed);
        self.succeeded.fetch_max(succeeded, Ordering::Release);
    }

    fn read(&self) -> [u64; 3] {
        let succeeded = self.succeeded.load(Ordering::Acquire);
        [succeeded, self.failed.load(Ordering::Relaxed), self.slow.load(Ordering::Relaxed)]
    }
}

impl TimeWindow {
    pub(crate) fn new(length: Duration) -> Self {
        Self {
            buckets: Buckets::of(length),
            ends: AtomicU64::new(0),
            notes: std::array::from_fn(|_| Note { number: AtomicU64::new(0), totals: Totals::zero() }),
            floor: Totals::zero(),
            slow: AtomicU64::new(0),
        }
    }

    /// Begins the bucket of `now`, if it has not begun. A call does this before it is counted.
    #[inline]
    pub(crate) fn advance(&self, now: Moment, total: impl Fn(Total) -> u64) {
        if now.as_nanos() >= self.ends.load(Ordering::Acquire) {
            self.begin_bucket(now, total);
        }
    }

    #[cold]
    fn begin_bucket(&self, now: Moment, total: impl Fn(Total) -> u64) {
        let totals = self.totals(total);
        let number = self.buckets.number(now);
        let end = self.buckets.end(number).as_nanos();
        // Once it has begun, the totals may have calls of it: another thread has noted those before.
        if self.ends.load(Ordering::Acquire) >= end {
            return;
        }
        let note = self.note(number);
        note.totals.raise(totals);
        note.number.fetch_max(number.saturating_add(1), Ordering::Release);
        self.ends.fetch_max(end, Ordering::Release);
    }

    /// What is noted as the past: successes are read first, so that a call in between is at most a missing failure.
    fn totals(&self, total: impl Fn(Total) -> u64) -> [u64; 3] {
        let succeeded = total(Total::Succeeded);
        [succeeded, total(Total::Failed), self.slow.load(Ordering::Relaxed)]
    }

    /// Counts a slow call, before it is counted as success or failure.
    pub(crate) fn add_slow(&self) {
        self.slow.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts of the window at `now`, with all that this thread has counted. Changes nothing.
    pub(crate) fn counts(&self, now: Moment, total: impl Fn(Total) -> u64) -> WindowCounts {
        fence(Ordering::SeqCst);
        let last = self.buckets.number(now);
        let noted = (self.buckets.first(last)..=last).find_map(|number| self.noted(number));
        let Some(past) = noted else { return WindowCounts::default() };
        let floor = self.floor.read();
        let since = |index: usize, total: u64| total.saturating_sub(past[index].max(floor[index]));
        let failed = since(1, total(Total::Failed));
        let slow = since(2, self.slow.load(Ordering::Relaxed));
        let calls = failed + since(0, total(Total::Succeeded));
        WindowCounts { calls, failed, slow: slow.min(calls) }
    }

    /// Empties the window: what was counted until now is not in it any more.
    pub(crate) fn empty(&self, total: impl Fn(Total) -> u64) {
        self.floor.raise(self.totals(total));
    }

    fn noted(&self, number: u64) -> Option<[u64; 3]> {
        let note = self.note(number);
        (note.number.load(Ordering::Acquire) == number.saturating_add(1)).then(|| note.totals.read())
    }

    #[allow(clippy::cast_possible_truncation)] // of a remainder
    fn note(&self, number: u64) -> &Note {
        &self.notes[(number % NOTES as u64) as usize]
    }
}
