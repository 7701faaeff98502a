//! What a breaker is built from.

use std::time::Duration;

use backstay_core::circuit_breaker::{
    DEFAULT_HALF_OPEN_MAX_CALLS, DEFAULT_MAX_FAILURES, DEFAULT_RESET_TIMEOUT, Phase, Policy,
};

use super::listeners::{Listener, Listeners, Transition};
use super::{CircuitBreaker, Inner, Places};
use crate::clock::Clock;
use crate::error::{BuildError, InvalidArgument};
use crate::settings::{self, CircuitBreakerSettings};
use crate::striped::Striped;
use crate::sync::Arc;
use crate::sync::atomic::AtomicU64;

/// Builds a [`CircuitBreaker`].
///
/// `max_failures`, `reset_timeout` and `half_open_max_calls` come from the configuration where they are not given; a
/// builder that is given all three reads no file.
#[derive(Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct CircuitBreakerBuilder {
    max_failures: Option<u32>,
    reset_timeout: Option<Duration>,
    half_open_max_calls: Option<u32>,
    half_open_timeout: Option<Duration>,
    cancellation_is_failure: Option<bool>,
    name: Option<std::sync::Arc<str>>,
    clock: Clock,
    listeners: Vec<Listener>,
}

impl CircuitBreakerBuilder {
    /// Consecutive failures that open the breaker, at least 1. Default: 5.
    pub fn max_failures(mut self, failures: u32) -> Self {
        self.max_failures = Some(failures);
        self
    }

    /// How long it stays open before trials, from 1 µs to 100 years. Default: 60 s.
    pub fn reset_timeout(mut self, timeout: Duration) -> Self {
        self.reset_timeout = Some(timeout);
        self
    }

    /// How many trials run at once in half-open, and how many must succeed to close it: 1 to 100. Default: 1.
    pub fn half_open_max_calls(mut self, calls: u32) -> Self {
        self.half_open_max_calls = Some(calls);
        self
    }

    /// Frees the slot of a half-open call that has not reported after `timeout`, so that another call can be made.
    /// Default: `reset_timeout`; 1 µs to 100 years.
    ///
    /// A later outcome still counts while the half-open period in which the call was admitted lasts: a service that is
    /// slower than `timeout` closes the circuit all the same. `half_open_max_calls` bounds the slots, so more calls than
    /// that can be under way while some have lost theirs.
    pub fn half_open_timeout(mut self, timeout: Duration) -> Self {
        self.half_open_timeout = Some(timeout);
        self
    }

    /// Counts a cancelled call (a dropped future, a dropped permit) as a failure, so that time-outs around the call trip
    /// the breaker. Default: cancelled calls say nothing.
    pub fn cancellation_is_failure(mut self, is_failure: bool) -> Self {
        self.cancellation_is_failure = Some(is_failure);
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

    /// Builds the breaker.
    ///
    /// # Errors
    /// [`BuildError`] for a number that makes no sense, or for a broken configuration where a value was left to it.
    pub fn build(self) -> Result<CircuitBreaker, BuildError> {
        // What is given is looked at first: a broken file hides no wrong argument.
        self.policy(&CircuitBreakerSettings::default())?;
        let settings = self.settings()?;
        Ok(self.build_with(&settings)?)
    }

    /// Builds the breaker of an attribute, whose numbers were checked when it was compiled. Nobody could be told of a
    /// broken configuration: it is logged, and the built-in defaults hold.
    #[cfg(feature = "macros")]
    pub(crate) fn build_or_default(self) -> CircuitBreaker {
        let settings = self.settings().unwrap_or_else(|error| {
            tracing::error!(target: "backstay", %error, "configuration of a circuit breaker ignored");
            CircuitBreakerSettings::default()
        });
        self.build_with(&settings).expect("the numbers were checked when they were compiled or read")
    }

    fn settings(&self) -> Result<CircuitBreakerSettings, BuildError> {
        if self.max_failures.and(self.reset_timeout).and(self.half_open_max_calls).is_some() {
            return Ok(CircuitBreakerSettings::default());
        }
        settings::circuit_breaker(self.name.as_deref())
    }

    fn policy(&self, settings: &CircuitBreakerSettings) -> Result<Policy, InvalidArgument> {
        let reset_timeout = self.reset_timeout.or(settings.reset_timeout).unwrap_or(DEFAULT_RESET_TIMEOUT);
        Policy::new(
            self.max_failures.or(settings.max_failures).unwrap_or(DEFAULT_MAX_FAILURES),
            reset_timeout,
            self.half_open_max_calls.or(settings.half_open_max_calls).unwrap_or(DEFAULT_HALF_OPEN_MAX_CALLS),
            self.half_open_timeout.or(settings.half_open_timeout).unwrap_or(reset_timeout),
        )
    }

    fn build_with(self, settings: &CircuitBreakerSettings) -> Result<CircuitBreaker, InvalidArgument> {
        let cancellation_is_failure = self.cancellation_is_failure.or(settings.cancellation_is_failure);
        let policy = self.policy(settings)?.with_cancellation_as_failure(cancellation_is_failure.unwrap_or(false));
        Ok(CircuitBreaker(Arc::new(Inner {
            word: AtomicU64::new(Phase::START.pack()),
            policy,
            places: Places::new(policy.half_open_max_calls()),
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
