//! What the clones of a limiter share: the bucket, and the queue of waiters.
//!
//! A waiter has reserved its tokens already; it waits for the moment at which they are due. The lock guards the queue and
//! every change of the bucket except a take; wakers run after it is released. Each critical section takes O(log n) time
//! for n waiters on average, and nothing that only observes takes the lock.
//!
//! # Memory ordering
//! The counts here are statistics and relaxed. Those of waiters and of their time are written under the lock alone.

use std::time::Duration;

use backstay_core::rate_limiter::{Alarm, Place, Queue, Quota, Scale, Shortage, Ticket};
use tracing::Level;
use tracing::level_filters::LevelFilter;

#[cfg(not(backstay_loom))]
use super::alarm::SharedAlarm;
use super::bucket::{Answer, Bucket};
use crate::callback::caught;
use crate::clock::{Clock, Moment, Reading, Source};
use crate::error::{InvalidArgument, RateLimitExceededError};
use crate::log::log_in_background;
use crate::striped::Striped;
use crate::sync::{Arc, Mutex, MutexGuard, Wake};
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) type StateGuard<'a> = MutexGuard<'a, Option<Box<State>>>;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) bucket: Bucket,
    clock: Clock,
    name: Option<std::sync::Arc<str>>,
    counts: Striped<2>,
    waited: Waited,
    /// Made for the first waiter: most limiters never have one.
    state: Mutex<Option<Box<State>>>,
}

const ACQUIRED: usize = 0;
const REJECTED: usize = 1;

/// So many are woken before the lock is released.
pub(super) const BATCH: usize = 64;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) queue: Queue<Wake>,
    #[cfg(not(backstay_loom))]
    pub(super) alarm: SharedAlarm,
    /// How many have a deadline, which a slower rate may move out of reach.
    with_deadline: usize,
}

/// How many wait, and how long those waited that got their tokens. Separate from the queue, so that reading it takes no
/// lock.
#[derive(Debug, Default)]
struct Waited {
    waiting: AtomicU64,
    seconds: AtomicU64,
    nanos: AtomicU64,
}

/// How a waiter stands.
pub(super) enum Standing {
    /// It has its tokens and has left the queue.
    Served,
    /// It has left the queue and given its tokens back: it would have had to wait for longer than it wanted.
    Rejected(Duration),
    /// Its tokens are due then, as far as is known; when that changes it is woken.
    Until(Moment),
}

/// A waiter in the queue.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) ticket: Ticket,
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
            waited: Waited::default(),
            state: Mutex::new(None),
        })
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What it was told last.
    pub(super) fn quota(&self) -> Quota {
        self.when_unchanging(Bucket::quota)
    }

    /// Takes `tokens` at once if they are there; a rejection is not yet counted.
    #[inline(always)]
    pub(super) fn take(&self, tokens: u32) -> Result<(), Shortage> {
        let is_tight = self.bucket.is_tight();
        let answer = if is_tight { self.take_finely(tokens) } else { self.bucket.take(tokens, self.clock.coarse()) };
        match answer {
            Answer::Granted => {}
            Answer::Refused(shortage) => return Err(shortage),
            Answer::Unclear => self.take_exactly(tokens, is_tight)?,
        }
        self.counts.add(ACQUIRED, u64::from(tokens));
        Ok(())
    }

    #[inline(always)]
    fn take_finely(&self, tokens: u32) -> Answer {
        let time = self.clock.fine();
        if time.is_exact() {
            // So it is every few milliseconds; then the coarse clock is tried again.
            self.bucket.set_tight(false);
        }
        self.bucket.take(tokens, time)
    }

    #[inline(never)]
    fn take_exactly(&self, tokens: u32, is_tight: bool) -> Result<(), Shortage> {
        self.bucket.set_tight(true);
        let exact = || Reading::exact(self.clock.anchor());
        // The fine readings after an exact one are sharper than the one that was unclear.
        let mut time = if is_tight { exact() } else { self.clock.fine() };
        loop {
            match self.bucket.take(tokens, time) {
                Answer::Granted => return Ok(()),
                Answer::Refused(shortage) => return Err(shortage),
                // The parameters are being changed, under the lock.
                Answer::Unclear if time.is_exact() => drop(self.state.lock()),
                Answer::Unclear => {}
            }
            time = exact();
        }
    }

    /// Counts and logs a rejection.
    #[inline(always)]
    pub(super) fn rejected(&self) {
        self.counts.add(REJECTED, 1);
        if LevelFilter::current() >= Level::DEBUG {
            self.log_rejection();
        }
    }

    #[cold]
    fn log_rejection(&self) {
        tracing::debug!(target: "backstay", limiter = self.name(), "rate limit exceeded");
    }

    /// Counts and logs a rejection, and says when the tokens would be there.
    #[inline]
    pub(super) fn rejection(&self, shortage: Shortage) -> RateLimitExceededError {
        self.rejected();
        RateLimitExceededError::until(self.name.clone(), shortage, &self.clock)
    }

    /// The error of a waiter, which was counted when it was rejected.
    pub(super) fn error(&self, retry_after: Duration) -> RateLimitExceededError {
        RateLimitExceededError::new(self.name.clone(), retry_after)
    }

    /// How long a newcomer would have to wait for `tokens`.
    pub(super) fn wait_for(&self, tokens: u32) -> Duration {
        let (full_at, scale) = self.read();
        scale.wait(full_at, scale.cost(tokens), self.clock.now())
    }

    pub(super) fn tokens(&self) -> f64 {
        let (full_at, scale) = self.read();
        scale.tokens(scale.level(full_at, self.clock.now()))
    }

    fn read(&self) -> (u64, Scale) {
        self.when_unchanging(Bucket::read)
    }

    fn when_unchanging<T>(&self, read: impl Fn(&Bucket) -> Option<T>) -> T {
        loop {
            match read(&self.bucket) {
                Some(read) => return read,
                // The parameters are being changed, under the lock.
                None => drop(self.state.lock()),
            }
        }
    }

    /// Joins the queue, unless that would take longer than `within`.
    pub(super) fn join(&self, tokens: u32, within: Duration) -> Result<Waiter, RateLimitExceededError> {
        let mut guard = self.state.lock();
        let now = self.clock.now();
        let scale = self.bucket.scale();
        let cost = scale.cost(tokens);
        let place = self.bucket.reserve(|full_at| {
            let wait = scale.wait(full_at, cost, now);
            if cost > scale.capacity || wait > within {
                Err(Shortage { scale, full_at, cost })
            } else {
                Ok(scale.reserve(full_at, cost, now))
            }
        });
        match place {
            Ok(place) => {
                let state = guard.get_or_insert_default();
                let waiter =
                    Waiter { ticket: state.queue.join(&scale, place), since: now, deadline: now + within, tokens };
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

    /// How `waiter` stands now. If it has to wait, `wake` is woken when it is due, or when that moment moves; a thread
    /// wakes itself.
    pub(super) fn look(this: &Arc<Self>, waiter: &Waiter, wake: Wake) -> Standing {
        let mut guard = this.state.lock();
        let Some(state) = guard.as_deref_mut() else { return Standing::Served };
        let scale = this.bucket.scale();
        let now = this.clock.now();
        let Some(place) = state.queue.place(&scale, waiter.ticket) else { return Standing::Served };
        let due = scale.due(place);
        if due <= now {
            let unused = state.queue.served(waiter.ticket);
            state.with_deadline -= usize::from(waiter.has_deadline());
            this.count_waiting(&state.queue);
            this.count_waited(now.since(waiter.since));
            drop(guard);
            drop(unused);
            this.counts.add(ACQUIRED, u64::from(waiter.tokens));
            return Standing::Served;
        }
        if due > waiter.deadline {
            Self::give_back(this, guard, waiter, place);
            this.rejected();
            return Standing::Rejected(scale.remaining(place, now));
        }
        let alarm = if this.shares_alarm() && matches!(wake, Wake::Task(_)) { Alarm::Shared } else { Alarm::Own };
        let replaced = state.queue.listen(waiter.ticket, wake, alarm);
        Self::settle(this, guard);
        drop(replaced);
        Standing::Until(due)
    }

    /// When `waiter` is due; `None` once it has left.
    pub(super) fn due(&self, waiter: &Waiter) -> Option<Moment> {
        let guard = self.state.lock();
        let scale = self.bucket.scale();
        guard.as_ref()?.queue.place(&scale, waiter.ticket).map(|place| scale.due(place))
    }

    /// `waiter` goes away without its tokens.
    pub(super) fn leave(this: &Arc<Self>, waiter: &Waiter) {
        let guard = this.state.lock();
        let place = guard.as_ref().and_then(|state| state.queue.place(&this.bucket.scale(), waiter.ticket));
        if let Some(place) = place {
            Self::give_back(this, guard, waiter, place);
        }
    }

    fn give_back<'a>(this: &'a Arc<Self>, mut guard: StateGuard<'a>, waiter: &Waiter, place: Place) {
        let Some(state) = guard.as_deref_mut() else { return };
        let refund = this.bucket.refund(place, || this.clock.now());
        let unused = state.queue.leave(&this.bucket.scale(), waiter.ticket, refund);
        state.with_deadline -= usize::from(waiter.has_deadline());
        this.count_waiting(&state.queue);
        if refund == 0 || this.shares_alarm() {
            Self::settle(this, guard);
        } else {
            Self::wake_behind(this, guard, Some(waiter.ticket));
        }
        drop(unused);
    }

    pub(super) fn reset(this: &Arc<Self>) {
        let mut guard = this.state.lock();
        let (scale, now) = (this.bucket.scale(), this.clock.now());
        let full_at = guard.as_deref_mut().map_or(scale.units(now), |state| state.queue.refill(&scale, now));
        this.bucket.refill(full_at);
        if this.shares_alarm() { Self::settle(this, guard) } else { Self::wake_behind(this, guard, None) }
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
        if late || !this.shares_alarm() {
            // RL-5: some may have to be rejected now.
            Self::wake_behind(this, guard, None);
        } else {
            Self::settle(this, guard);
        }
        Ok(())
    }

    /// Wakes those who listen behind `ticket`, or all; a batch at a time, so that the lock is never held for long.
    fn wake_behind<'a>(this: &'a Arc<Self>, mut guard: StateGuard<'a>, mut ticket: Option<Ticket>) {
        let mut woken = Vec::new();
        while let Some(state) = guard.as_deref_mut() {
            // Continues after the last one: a waiter that was woken may already listen again.
            ticket = state.queue.take_behind(ticket, BATCH, &mut woken);
            if ticket.is_none() {
                break;
            }
            drop(guard);
            wake_all(woken.drain(..));
            guard = this.state.lock();
        }
        Self::settle(this, guard);
    }

    /// Whether tasks are woken by the one alarm of the limiter. On other clocks than the system's, which are for tests,
    /// each has an alarm of its own, and has to be woken when its moment moves.
    pub(super) fn shares_alarm(&self) -> bool {
        cfg!(not(backstay_loom)) && matches!(self.clock.source(), Source::System)
    }

    #[cfg(not(backstay_loom))]
    pub(super) fn lock(&self) -> StateGuard<'_> {
        self.state.lock()
    }

    /// Models of the protocol do not use the system's clock.
    #[cfg(backstay_loom)]
    fn settle<'a>(_this: &'a Arc<Self>, guard: StateGuard<'a>) {
        drop(guard);
    }

    fn count_waiting(&self, queue: &Queue<Wake>) {
        self.waited.waiting.store(queue.len() as u64, Ordering::Relaxed);
    }

    /// Under the lock.
    fn count_waited(&self, time: Duration) {
        let add = |count: &AtomicU64, amount: u64| {
            count.store(count.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
        };
        add(&self.waited.seconds, time.as_secs());
        add(&self.waited.nanos, time.subsec_nanos().into());
    }

    pub(super) fn stats(&self) -> super::RateLimiterStats {
        let Waited { waiting, seconds, nanos } = &self.waited;
        let seconds = Duration::from_secs(seconds.load(Ordering::Relaxed));
        super::RateLimiterStats {
            acquired: self.counts.sum(ACQUIRED),
            rejected: self.counts.sum(REJECTED),
            waited: seconds.saturating_add(Duration::from_nanos(nanos.load(Ordering::Relaxed))),
            waiting: usize::try_from(waiting.load(Ordering::Relaxed)).unwrap_or(usize::MAX),
        }
    }
}

/// Wakers are foreign: one that panics must not take along those of others, nor the alarm of all.
pub(super) fn wake_all(woken: impl Iterator<Item = Wake>) {
    for wake in woken {
        if let Err(panic) = caught(|| wake.wake()) {
            log_in_background(move || tracing::error!(target: "backstay", panic, "a waker panicked"));
        }
    }
}
