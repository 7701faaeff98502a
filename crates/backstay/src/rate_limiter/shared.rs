//! The state that clones of a limiter share: the bucket and the queue of waiters.
//!
//! A waiter has already reserved its tokens; it waits for the time at which they are due. The lock guards the queue
//! and every change of the bucket except a take. Wakers run after it is released. Each critical section takes O(log n)
//! time for n waiters, amortized, and reading statistics does not take the lock.
//!
//! # Memory ordering
//! All counts are statistics and relaxed. Those of waiters and waiting time are written under the lock only.

use std::time::Duration;

use backstay_core::rate_limiter::{Quota, Reserved, Scale, Shortage, WaiterId, WaiterQueue, WakeSource};
use tracing::Level;
use tracing::level_filters::LevelFilter;

use super::bucket::{Bucket, TakeResult};
#[cfg(not(backstay_loom))]
use super::shared_wake::SharedWake;
use crate::callback::caught;
use crate::clock::{Clock, Moment, Reading, Source};
use crate::error::{InvalidArgument, RateLimitExceededError};
use crate::log::log_in_background;
use crate::striped::Striped;
use crate::sync::{Arc, Mutex, MutexGuard, Wake};
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) type StateGuard<'a> = MutexGuard<'a, Option<Box<QueueState>>>;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) bucket: Bucket,
    clock: Clock,
    name: Option<std::sync::Arc<str>>,
    counts: Striped<2>,
    waited: WaitStats,
    /// Allocated for the first waiter: most limiters never have one.
    state: Mutex<Option<Box<QueueState>>>,
}

const ACQUIRED: usize = 0;
const REJECTED: usize = 1;

/// How many waiters are woken before the lock is released.
pub(super) const BATCH: usize = 64;

#[derive(Debug, Default)]
pub(super) struct QueueState {
    pub(super) queue: WaiterQueue<Wake>,
    #[cfg(not(backstay_loom))]
    pub(super) shared_wake: SharedWake,
    /// The number of waiters with a deadline, which a slower rate may make unreachable.
    with_deadline: usize,
}

/// The number of waiters, and how long served waiters waited. Separate from the queue, so that reading it takes no
/// lock.
#[derive(Debug, Default)]
struct WaitStats {
    waiting: AtomicU64,
    seconds: AtomicU64,
    nanos: AtomicU64,
}

/// The status of a waiter.
pub(super) enum WaitStatus {
    /// It has its tokens and has left the queue.
    Served,
    /// It has left the queue and its tokens are refunded: it would have had to wait beyond its deadline.
    Rejected(Duration),
    /// Its tokens are due at this time. It is woken if that changes.
    Pending(Moment),
}

/// A waiter in the queue.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) id: WaiterId,
    since: Moment,
    deadline: Moment,
    pub(super) tokens: u32,
}

impl Waiter {
    fn has_deadline(&self) -> bool {
        self.deadline != Moment::NEVER
    }
}

impl Shared {
    pub(super) fn new(quota: Quota, clock: Clock, name: Option<std::sync::Arc<str>>) -> Arc<Self> {
        clock.prepare();
        let full_at = quota.scale().holding(quota.start(), clock.now());
        Arc::new(Self {
            bucket: Bucket::new(&(&quota).into(), full_at),
            clock,
            name,
            counts: Striped::new(),
            waited: WaitStats::default(),
            state: Mutex::new(None),
        })
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Returns the current quota.
    pub(super) fn quota(&self) -> Quota {
        self.retry_while_changing(Bucket::quota)
    }

    /// Takes all of `tokens`, or none; a rejection is not counted yet.
    #[inline(always)]
    pub(super) fn take(&self, tokens: u32) -> Result<(), Shortage> {
        let needs_fine_clock = self.bucket.needs_fine_clock();
        let result = if needs_fine_clock {
            self.take_with_fine_clock(tokens)
        } else {
            self.bucket.take(tokens, self.clock.coarse())
        };
        match result {
            TakeResult::Granted => {}
            TakeResult::Rejected(shortage) => return Err(shortage),
            TakeResult::Undecided => self.take_with_exact_clock(tokens, needs_fine_clock)?,
        }
        self.counts.add(ACQUIRED, u64::from(tokens));
        Ok(())
    }

    #[inline(always)]
    fn take_with_fine_clock(&self, tokens: u32) -> TakeResult {
        let time = self.clock.fine();
        if time.is_exact() {
            // This happens every few milliseconds; then the coarse clock is tried again.
            self.bucket.set_needs_fine_clock(false);
        }
        self.bucket.take(tokens, time)
    }

    #[inline(never)]
    fn take_with_exact_clock(&self, tokens: u32, needs_fine_clock: bool) -> Result<(), Shortage> {
        self.bucket.set_needs_fine_clock(true);
        let exact = || Reading::exact(self.clock.anchor());
        // Fine readings after an exact one are more precise than the one that did not decide.
        let mut time = if needs_fine_clock { exact() } else { self.clock.fine() };
        loop {
            match self.bucket.take(tokens, time) {
                TakeResult::Granted => return Ok(()),
                TakeResult::Rejected(shortage) => return Err(shortage),
                // The parameters are being changed, under the lock.
                TakeResult::Undecided if time.is_exact() => drop(self.state.lock()),
                TakeResult::Undecided => {}
            }
            time = exact();
        }
    }

    /// Counts and logs a rejection.
    #[inline(always)]
    pub(super) fn count_rejection(&self) {
        self.counts.add(REJECTED, 1);
        if LevelFilter::current() >= Level::DEBUG {
            self.log_rejection();
        }
    }

    #[cold]
    fn log_rejection(&self) {
        tracing::debug!(target: "backstay", limiter = self.name(), "rate limit exceeded");
    }

    /// Counts and logs a rejection, and returns its error, which computes `retry_after`.
    #[inline]
    pub(super) fn rejection(&self, shortage: Shortage) -> RateLimitExceededError {
        self.count_rejection();
        RateLimitExceededError::until(self.name.clone(), shortage, &self.clock)
    }

    /// Returns the error of a waiter that was rejected; the rejection has been counted.
    pub(super) fn error(&self, retry_after: Duration) -> RateLimitExceededError {
        RateLimitExceededError::new(self.name.clone(), retry_after)
    }

    /// Returns how long a new waiter would wait for `tokens`.
    pub(super) fn wait_for(&self, tokens: u32) -> Duration {
        let (full_at, scale) = self.read();
        scale.wait(full_at, scale.cost(tokens), self.clock.now())
    }

    pub(super) fn tokens(&self) -> f64 {
        let (full_at, scale) = self.read();
        scale.tokens(scale.level(full_at, self.clock.now()))
    }

    fn read(&self) -> (u64, Scale) {
        self.retry_while_changing(Bucket::read)
    }

    fn retry_while_changing<T>(&self, read: impl Fn(&Bucket) -> Option<T>) -> T {
        loop {
            match read(&self.bucket) {
                Some(read) => return read,
                // The parameters are being changed, under the lock.
                None => drop(self.state.lock()),
            }
        }
    }

    /// Joins the queue, unless the wait would exceed `timeout`.
    pub(super) fn join(&self, tokens: u32, timeout: Duration) -> Result<Waiter, RateLimitExceededError> {
        let mut guard = self.state.lock();
        let now = self.clock.now();
        let scale = self.bucket.scale();
        let cost = scale.cost(tokens);
        let reserved = self.bucket.reserve(|full_at| {
            let wait = scale.wait(full_at, cost, now);
            if cost > scale.capacity || wait > timeout {
                Err(Shortage { scale, full_at, cost })
            } else {
                Ok(scale.reserve(full_at, cost, now))
            }
        });
        match reserved {
            Ok(reserved) => {
                let state = guard.get_or_insert_default();
                let waiter =
                    Waiter { id: state.queue.join(&scale, reserved), since: now, deadline: now + timeout, tokens };
                state.with_deadline += usize::from(waiter.has_deadline());
                self.count_waiting(&state.queue);
                Ok(waiter)
            }
            Err(shortage) => {
                drop(guard);
                Err(self.rejection(shortage))
            }
        }
    }

    /// Returns the status of `waiter`. If it has to wait, `wake` is woken when the tokens are due or when that time
    /// changes; a thread also wakes itself.
    pub(super) fn poll_waiter(this: &Arc<Self>, waiter: &Waiter, wake: Wake) -> WaitStatus {
        let mut guard = this.state.lock();
        let Some(state) = guard.as_deref_mut() else { return WaitStatus::Served };
        let scale = this.bucket.scale();
        let now = this.clock.now();
        let Some(reserved) = state.queue.reserved(&scale, waiter.id) else { return WaitStatus::Served };
        let due = scale.due(reserved);
        if due <= now {
            let unused = state.queue.serve(waiter.id);
            state.with_deadline -= usize::from(waiter.has_deadline());
            this.count_waiting(&state.queue);
            this.count_waited(now.since(waiter.since));
            drop(guard);
            drop(unused);
            this.counts.add(ACQUIRED, u64::from(waiter.tokens));
            return WaitStatus::Served;
        }
        if due > waiter.deadline {
            Self::refund_waiter(this, guard, waiter, reserved);
            this.count_rejection();
            return WaitStatus::Rejected(scale.remaining(reserved, now));
        }
        let source =
            if this.uses_shared_wake() && matches!(wake, Wake::Task(_)) { WakeSource::Shared } else { WakeSource::Own };
        let replaced = state.queue.listen(waiter.id, wake, source);
        Self::reschedule(this, guard);
        drop(replaced);
        WaitStatus::Pending(due)
    }

    /// Returns when the tokens of `waiter` are due; `None` if it has left the queue.
    pub(super) fn due(&self, waiter: &Waiter) -> Option<Moment> {
        let guard = self.state.lock();
        let scale = self.bucket.scale();
        guard.as_ref()?.queue.reserved(&scale, waiter.id).map(|reserved| scale.due(reserved))
    }

    /// Removes `waiter` without its tokens.
    pub(super) fn leave(this: &Arc<Self>, waiter: &Waiter) {
        let guard = this.state.lock();
        let reserved = guard.as_ref().and_then(|state| state.queue.reserved(&this.bucket.scale(), waiter.id));
        if let Some(reserved) = reserved {
            Self::refund_waiter(this, guard, waiter, reserved);
        }
    }

    fn refund_waiter<'a>(this: &'a Arc<Self>, mut guard: StateGuard<'a>, waiter: &Waiter, reserved: Reserved) {
        let Some(state) = guard.as_deref_mut() else { return };
        let refund = this.bucket.refund(reserved, || this.clock.now());
        let unused = state.queue.leave(&this.bucket.scale(), waiter.id, refund);
        state.with_deadline -= usize::from(waiter.has_deadline());
        this.count_waiting(&state.queue);
        if refund == 0 || this.uses_shared_wake() {
            Self::reschedule(this, guard);
        } else {
            Self::wake_after(this, guard, Some(waiter.id));
        }
        drop(unused);
    }

    pub(super) fn reset(this: &Arc<Self>) {
        let mut guard = this.state.lock();
        let (scale, now) = (this.bucket.scale(), this.clock.now());
        let full_at = guard.as_deref_mut().map_or(scale.units(now), |state| state.queue.refill(&scale, now));
        this.bucket.refill(full_at);
        if this.uses_shared_wake() { Self::reschedule(this, guard) } else { Self::wake_after(this, guard, None) }
    }

    pub(super) fn set_rate(this: &Arc<Self>, rate: f64, per: Duration) -> Result<(), InvalidArgument> {
        let mut guard = this.state.lock();
        let (before, old) = (this.quota(), this.bucket.scale());
        let quota = before.with_rate(rate, per)?;
        let new = quota.scale();
        this.bucket.change(&(&quota).into(), |full_at| {
            let now = this.clock.now();
            match guard.as_deref_mut() {
                Some(state) => state.queue.convert(&old, &new, now, full_at),
                None => old.convert(full_at, &new, now),
            }
        });
        let late = quota.is_slower_than(&before) && guard.as_ref().is_some_and(|state| state.with_deadline > 0);
        if late || !this.uses_shared_wake() {
            // RL-5: some waiters may have to be rejected now.
            Self::wake_after(this, guard, None);
        } else {
            Self::reschedule(this, guard);
        }
        Ok(())
    }

    /// Wakes listening waiters after `id`, or all, in batches, so that the lock is never held for long.
    fn wake_after<'a>(this: &'a Arc<Self>, mut guard: StateGuard<'a>, mut id: Option<WaiterId>) {
        let mut woken = Vec::new();
        while let Some(state) = guard.as_deref_mut() {
            // Continues after the last one: a waiter that was woken may already listen again.
            id = state.queue.take_after(id, BATCH, &mut woken);
            if id.is_none() {
                break;
            }
            drop(guard);
            wake_all(woken.drain(..));
            guard = this.state.lock();
        }
        Self::reschedule(this, guard);
    }

    /// Whether tasks are woken by the limiter's shared wake-up. On other clocks, which are for tests, each task has a
    /// timer of its own and must be woken when its time changes.
    pub(super) fn uses_shared_wake(&self) -> bool {
        cfg!(not(backstay_loom)) && matches!(self.clock.source(), Source::System)
    }

    #[cfg(not(backstay_loom))]
    pub(super) fn lock(&self) -> StateGuard<'_> {
        self.state.lock()
    }

    /// The models do not use the system's clock.
    #[cfg(backstay_loom)]
    fn reschedule<'a>(_this: &'a Arc<Self>, guard: StateGuard<'a>) {
        drop(guard);
    }

    fn count_waiting(&self, queue: &WaiterQueue<Wake>) {
        self.waited.waiting.store(queue.len() as u64, Ordering::Relaxed);
    }

    /// Called under the lock.
    fn count_waited(&self, time: Duration) {
        let add = |count: &AtomicU64, amount: u64| {
            count.store(count.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
        };
        add(&self.waited.seconds, time.as_secs());
        add(&self.waited.nanos, time.subsec_nanos().into());
    }

    pub(super) fn stats(&self) -> super::RateLimiterStats {
        let WaitStats { waiting, seconds, nanos } = &self.waited;
        let seconds = Duration::from_secs(seconds.load(Ordering::Relaxed));
        super::RateLimiterStats {
            acquired: self.counts.sum(ACQUIRED),
            rejected: self.counts.sum(REJECTED),
            waited: seconds.saturating_add(Duration::from_nanos(nanos.load(Ordering::Relaxed))),
            waiting: usize::try_from(waiting.load(Ordering::Relaxed)).unwrap_or(usize::MAX),
        }
    }
}

/// Wakers are foreign code: a panic in one must not prevent the others, or the shared wake-up.
pub(super) fn wake_all(woken: impl Iterator<Item = Wake>) {
    for wake in woken {
        if let Err(panic) = caught(|| wake.wake()) {
            log_in_background(move || tracing::error!(target: "backstay", panic, "a waker panicked"));
        }
    }
}
