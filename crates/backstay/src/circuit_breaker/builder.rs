//! What a breaker is built from.

use std::time::Duration;

use backstay_core::circuit_breaker::{
    BreakerState, DEFAULT_HALF_OPEN_MAX_CALLS, DEFAULT_MAX_FAILURES, DEFAULT_RESET_TIMEOUT, Policy,
};

use super::listeners::{Listener, Listeners, Transition};
use super::{CircuitBreaker, HalfOpenSlots, Inner};
use crate::clock::Clock;
use crate::error::BuildError;
use crate::settings::{CircuitBreakerSettings, Fallback, config_setter};
use crate::striped::Striped;
use crate::sync::Arc;
use crate::sync::atomic::AtomicU64;

/// Builds a [`CircuitBreaker`].
#[derive(Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct CircuitBreakerBuilder {
    settings: CircuitBreakerSettings,
    pub(crate) fallback: Fallback,
    name: Option<std::sync::Arc<str>>,
    clock: Clock,
    listeners: Vec<Listener>,
}

impl CircuitBreakerBuilder {
    /// Consecutive failures that open the breaker, at least 1. Default: 5.
    pub fn max_failures(mut self, failures: u32) -> Self {
        self.settings.max_failures = Some(failures);
        self
    }

    /// How long it stays open before half-open calls, from 1 µs to 100 years. Default: 60 s.
    pub fn reset_timeout(mut self, timeout: Duration) -> Self {
        self.settings.reset_timeout = Some(timeout);
        self
    }

    /// How many half-open calls run at once in half-open, and how many must succeed to close it: 1 to 100. Default: 1.
    pub fn half_open_max_calls(mut self, calls: u32) -> Self {
        self.settings.half_open_max_calls = Some(calls);
        self
    }

    /// Frees the slot of a half-open call that has not reported after `timeout`, so that another call can be made.
    /// Default: `reset_timeout`; 1 µs to 100 years.
    ///
    /// A later outcome still counts while the half-open period in which the call was admitted lasts: a service that is
    /// slower than `timeout` closes the circuit all the same. `half_open_max_calls` bounds the slots, so more calls than
    /// that can be under way while some have lost theirs.
    pub fn half_open_timeout(mut self, timeout: Duration) -> Self {
        self.settings.half_open_timeout = Some(timeout);
        self
    }

    /// Counts a cancelled call (a dropped future, a dropped permit) as a failure, so that time-outs around the call trip
    /// the breaker. Default: cancelled calls say nothing.
    pub fn cancellation_is_failure(mut self, is_failure: bool) -> Self {
        self.settings.cancellation_is_failure = Some(is_failure);
        self
    }

    /// A name for errors, events and listeners, and for the instance's own section in the configuration.
    pub fn name(mut self, name: impl Into<std::sync::Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Where it takes its time from. Default: the system's monotonic clock.
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// Adds a listener, which hears each change of state once, in order, after it happened; on the thread whose call
    /// made the change, or on one that is telling an earlier change at that moment. A panic in it is logged.
    pub fn on_state_change(mut self, listener: impl Fn(&Transition) + Send + Sync + 'static) -> Self {
        self.listeners.push(Box::new(listener));
        self
    }

    config_setter!(fallback);

    /// Builds the breaker.
    ///
    /// # Errors
    /// [`BuildError::InvalidArgument`] names the argument that is out of range.
    pub fn build(self) -> Result<CircuitBreaker, BuildError> {
        let settings = self.fallback.complete(self.settings, self.name.as_deref());
        let reset_timeout = settings.reset_timeout.unwrap_or(DEFAULT_RESET_TIMEOUT);
        let policy = Policy::new(
            settings.max_failures.unwrap_or(DEFAULT_MAX_FAILURES),
            reset_timeout,
            settings.half_open_max_calls.unwrap_or(DEFAULT_HALF_OPEN_MAX_CALLS),
            settings.half_open_timeout.unwrap_or(reset_timeout),
        )?
        .with_cancellation_as_failure(settings.cancellation_is_failure.unwrap_or(false));
        Ok(CircuitBreaker(Arc::new(Inner {
            word: AtomicU64::new(BreakerState::START.pack()),
            policy,
            slots: HalfOpenSlots::new(policy.half_open_max_calls()),
            generations: AtomicU64::new(1),
            clock: self.clock,
            name: self.name,
            counters: Striped::new(),
            state_changes: 0.into(),
            listeners: Listeners::new(self.listeners),
        })))
    }
}

impl std::fmt::Debug for CircuitBreakerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CircuitBreakerBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}
