//! What the clones of a limiter share: the bucket, and the line of those who wait for it.
//!
//! Whoever stands in the line has its tokens already; it waits for the moment at which they are due. The lock guards
//! the line and every change of the bucket but taking at once; who is to be woken is woken after it is released.

use std::time::Duration;

use backstay_core::rate_limiter::{Place, Queue, Quota, Scale, Ticket};
use tracing::Level;
use tracing::level_filters::LevelFilter;

use super::bucket::{Answer, Bucket};
use crate::clock::{Clock, Moment, Reading};
use crate::error::{InvalidArgument, RateLimitExceededError};
use crate::striped::Striped;
use crate::sync::{Arc, Mutex, MutexGuard, Wake};

#[derive(Debug)]
pub(super) struct Shared {
    bucket: Bucket,
    clock: Clock,
    name: Option<std::sync::Arc<str>>,
    counts: Striped<2>,
    state: Mutex<State>,
}

const ACQUIRED: usize = 0;
const REJECTED: usize = 1;

#[derive(Debug)]
struct State {
    quota: Quota,
    line: Queue<Wake>,
    waited: Duration,
}

/// How a waiter stands.
pub(super) enum Standing {
    /// It has its tokens and has left the line.
    Served,
    /// It has left the line and given its tokens back: it would have had to wait for longer than it wanted.
    Refused(RateLimitExceededError),
    /// Its tokens are due then, as far as is known; when that changes it is woken.
    Until(Moment),
}

/// A waiter in the line.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) ticket: Ticket,
    pub(super) tokens: u32,
    since: Moment,
    deadline: Moment,
}

impl Shared {
    pub(super) fn new(quota: Quota, clock: Clock, name: Option<std::sync::Arc<str>>) -> Arc<Self> {
        let full_at = quota.scale().holding(quota.start(), clock.now());
        Arc::new(Self {
            bucket: Bucket::new(quota.scale(), full_at),
            clock,
            name,
            counts: Striped::new(),
            state: Mutex::new(State { quota, line: Queue::default(), waited: Duration::ZERO }),
        })
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(super) fn quota(&self) -> Quota {
        self.state.lock().quota
    }

    /// Takes `tokens` at once if they are there; a refusal is not yet counted.
    #[inline(always)]
    pub(super) fn take(&self, tokens: u32) -> bool {
        let granted = match self.bucket.take(tokens, self.clock.coarse()) {
            Answer::Granted => true,
            Answer::Refused => false,
            Answer::Unclear => self.take_exactly(tokens),
        };
        if granted {
            self.counts.add(ACQUIRED, u64::from(tokens));
        }
        granted
    }

    #[inline(never)]
    fn take_exactly(&self, tokens: u32) -> bool {
        loop {
            match self.bucket.take(tokens, Reading::exact(self.clock.now())) {
                Answer::Granted => return true,
                Answer::Refused => return false,
                // The parameters are being changed, under the lock.
                Answer::Unclear => drop(self.state.lock()),
            }
        }
    }

    /// Counts and logs a refusal.
    #[inline(always)]
    pub(super) fn refused(&self) {
        self.counts.add(REJECTED, 1);
        if LevelFilter::current() >= Level::DEBUG {
            self.log_refusal();
        }
    }

    #[cold]
    fn log_refusal(&self) {
        tracing::debug!(target: "backstay", limiter = self.name(), "rate limit exceeded");
    }

    /// Counts and logs a refusal, and says when `tokens` would be there.
    pub(super) fn refusal(&self, retry_after: Duration) -> RateLimitExceededError {
        self.refused();
        RateLimitExceededError { name: self.name.clone(), retry_after }
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
        loop {
            match self.bucket.read() {
                Some(read) => return read,
                // The parameters are being changed, under the lock.
                None => drop(self.state.lock()),
            }
        }
    }

    /// Stands in the line, unless that would take longer than `within`.
    pub(super) fn join(&self, tokens: u32, within: Duration) -> Result<Waiter, RateLimitExceededError> {
        let mut state = self.state.lock();
        let now = self.clock.now();
        let scale = self.bucket.scale();
        let cost = scale.cost(tokens);
        let place = self.bucket.reserve(|full_at| {
            let wait = scale.wait(full_at, cost, now);
            if cost > scale.capacity || wait > within { Err(wait) } else { Ok(scale.reserve(full_at, cost, now)) }
        });
        match place {
            Ok(place) => {
                let ticket = state.line.join(place);
                Ok(Waiter { ticket, tokens, since: now, deadline: now + within })
            }
            Err(wait) => {
                drop(state);
                Err(self.refusal(wait))
            }
        }
    }

    /// How `waiter` stands now. If it has to wait, `wake` is woken when its turn moves.
    pub(super) fn look(&self, waiter: &Waiter, wake: Option<Wake>) -> Standing {
        let mut state = self.state.lock();
        let now = self.clock.now();
        let Some(place) = state.line.place(waiter.ticket) else { return Standing::Served };
        let due = self.bucket.scale().due(place);
        if due <= now {
            let unused = state.line.served(waiter.ticket);
            state.waited = state.waited.saturating_add(now.since(waiter.since));
            drop(state);
            drop(unused);
            self.counts.add(ACQUIRED, u64::from(waiter.tokens));
            return Standing::Served;
        }
        if due > waiter.deadline {
            self.give_back(state, waiter.ticket, place);
            return Standing::Refused(self.refusal(self.bucket.scale().remaining(place, now)));
        }
        let replaced = wake.and_then(|wake| state.line.listen(waiter.ticket, wake));
        drop(state);
        drop(replaced);
        Standing::Until(due)
    }

    /// When `waiter` is due; `None` once it has left.
    pub(super) fn due(&self, waiter: &Waiter) -> Option<Moment> {
        let state = self.state.lock();
        state.line.place(waiter.ticket).map(|place| self.bucket.scale().due(place))
    }

    /// `waiter` goes away without its tokens.
    pub(super) fn leave(&self, waiter: &Waiter) {
        let state = self.state.lock();
        if let Some(place) = state.line.place(waiter.ticket) {
            self.give_back(state, waiter.ticket, place);
        }
    }

    fn give_back(&self, mut state: MutexGuard<'_, State>, ticket: Ticket, place: Place) {
        let mut moved = Vec::new();
        let refund = self.bucket.refund(place, || self.clock.now());
        let unused = state.line.leave(ticket, refund, &mut moved);
        drop(state);
        drop(unused);
        moved.into_iter().for_each(Wake::wake);
    }

    pub(super) fn reset(&self) {
        let mut moved = Vec::new();
        let mut state = self.state.lock();
        let now = self.clock.now();
        let full_at = state.line.refill(&self.bucket.scale(), now, &mut moved);
        self.bucket.refill(full_at);
        drop(state);
        moved.into_iter().for_each(Wake::wake);
    }

    pub(super) fn set_rate(&self, rate: f64, per: Duration) -> Result<(), InvalidArgument> {
        let mut moved = Vec::new();
        let mut state = self.state.lock();
        let quota = state.quota.with_rate(rate, per)?;
        let (old, new) = (self.bucket.scale(), quota.scale());
        self.bucket.change(&new, || {
            let now = self.clock.now();
            (now, state.line.convert(&old, &new, now, &mut moved))
        });
        state.quota = quota;
        drop(state);
        moved.into_iter().for_each(Wake::wake);
        Ok(())
    }

    pub(super) fn stats(&self) -> super::RateLimiterStats {
        let state = self.state.lock();
        super::RateLimiterStats {
            acquired: self.counts.sum(ACQUIRED),
            rejected: self.counts.sum(REJECTED),
            waited: state.waited,
            waiting: state.line.len(),
        }
    }
}
