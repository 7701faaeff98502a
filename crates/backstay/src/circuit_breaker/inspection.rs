//! What a breaker shows of itself. Nothing here changes it.

use std::time::Duration;

use backstay_core::circuit_breaker::{BreakerState, CircuitMode, CircuitState, Outcome, Window, WindowCounts};

use super::CircuitBreaker;
use super::decision::{REJECTED, counter};
use crate::sync::atomic::Ordering;

impl CircuitBreaker {
    /// Returns the state now. Computes it and stores nothing: an open breaker whose `reset_timeout` has passed shows as
    /// half-open, and becomes so when the next call asks for admission.
    #[must_use]
    pub fn state(&self) -> CircuitState {
        self.0.state().state_at(|| self.0.clock.now())
    }

    /// Returns whether the breaker decides about calls, or was [isolated](Self::isolate).
    #[must_use]
    pub fn mode(&self) -> CircuitMode {
        self.0.state().mode()
    }

    /// Returns the name that it was built with.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.name().map(AsRef::as_ref)
    }

    /// Returns the consecutive failures so far; `max_failures` while it is open or half-open. 0 if it has no `max_failures`.
    #[must_use]
    pub fn failure_count(&self) -> u32 {
        match self.0.state() {
            BreakerState::Closed { failures, .. } => failures,
            BreakerState::Open { .. } | BreakerState::HalfOpen { .. } => self.0.policy.max_failures().unwrap_or(0),
            BreakerState::Isolated => 0,
        }
    }

    /// Returns the numbers of calls so far.
    #[must_use]
    pub fn stats(&self) -> CircuitStats {
        let sum = |outcome| self.0.counters.sum(counter(outcome));
        let [beside_successful, beside_failed] = self.0.rates().map_or([0, 0], super::window::RateWindow::beside);
        let successful = sum(Outcome::Success) + beside_successful;
        let failed = sum(Outcome::Failure) + beside_failed;
        let ignored = sum(Outcome::Ignored);
        let rejected = self.0.counters.sum(REJECTED);
        let state_changes = self.0.shared.state_changes.load(Ordering::Relaxed).into();
        let total = successful + failed + rejected + ignored;
        CircuitStats { total, successful, failed, rejected, ignored, state_changes }
    }

    /// Returns what a dashboard shows, as of now: the state, and the counts of the window. Changes nothing.
    ///
    /// ```
    /// use backstay::{CircuitBreaker, CircuitState};
    ///
    /// let breaker = CircuitBreaker::builder().failure_rate(0.5).build()?;
    /// let _ = breaker.call(|| Err::<(), _>("down"));
    /// let snapshot = breaker.snapshot();
    /// assert_eq!((snapshot.state, snapshot.failure_rate), (CircuitState::Closed, Some(1.0)));
    /// # Ok::<(), backstay::BuildError>(())
    /// ```
    #[must_use]
    pub fn snapshot(&self) -> CircuitSnapshot {
        let (state, now) = (self.0.state(), self.0.clock.now());
        let rates = self.0.rates();
        let window =
            rates.map(|rates| rates.counts(&self.0.counters, now)).filter(|_| state.state() == CircuitState::Closed);
        // Leaving the closed state empties the window; the words are emptied when it is entered again.
        let window = rates.map(|_| window.unwrap_or_default());
        let half_open_in = match state {
            BreakerState::Open { until } => Some(until.since(now)).filter(|left| !left.is_zero()),
            _ => None,
        };
        CircuitSnapshot {
            state: state.state_at(|| now),
            mode: state.mode(),
            window,
            failure_rate: window.as_ref().map(WindowCounts::failure_rate),
            slow_call_rate: self.slow_call().and(window).as_ref().map(WindowCounts::slow_call_rate),
            half_open_in,
        }
    }

    /// Returns the consecutive failures that open the circuit; `None` if only rates do.
    #[must_use]
    pub fn max_failures(&self) -> Option<u32> {
        self.0.policy.max_failures()
    }

    /// Returns how long the circuit stays open.
    #[must_use]
    pub fn reset_timeout(&self) -> Duration {
        self.0.policy.reset_timeout()
    }

    /// Returns how many half-open calls run at once, and how many must succeed to close the circuit.
    #[must_use]
    pub fn half_open_max_calls(&self) -> u32 {
        self.0.policy.half_open_max_calls()
    }

    /// Returns how long a half-open call keeps its slot.
    #[must_use]
    pub fn half_open_timeout(&self) -> Duration {
        self.0.policy.half_open_timeout()
    }

    /// Returns whether cancelled calls are failures.
    #[must_use]
    pub fn cancellation_is_failure(&self) -> bool {
        self.0.policy.cancellation_is_failure()
    }

    /// Returns the share of failed calls that opens the circuit.
    #[must_use]
    pub fn failure_rate(&self) -> Option<f64> {
        self.0.rates()?.policy.failure_rate()
    }

    /// Returns the calls over which rates are computed; `None` without `failure_rate` and `slow_call`.
    #[must_use]
    pub fn window(&self) -> Option<Window> {
        Some(self.0.rates()?.policy.window())
    }

    /// Returns the calls that the window must hold before it is evaluated; `None` without a window.
    #[must_use]
    pub fn minimum_calls(&self) -> Option<u32> {
        Some(self.0.rates()?.policy.minimum_calls())
    }

    /// Returns the duration above which a call is slow.
    #[must_use]
    pub fn slow_call(&self) -> Option<Duration> {
        self.0.rates()?.policy.slow_call()
    }

    /// Returns the share of slow calls that opens the circuit.
    #[must_use]
    pub fn slow_call_rate(&self) -> Option<f64> {
        self.0.rates()?.policy.slow_call_rate()
    }
}

/// The numbers of a breaker's calls, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CircuitStats {
    /// Calls that asked for admission: the sum of the next four.
    pub total: u64,
    /// Calls that succeeded.
    pub successful: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Calls that were rejected.
    pub rejected: u64,
    /// Calls that say nothing about the service: excluded errors, cancelled calls, dropped permits.
    pub ignored: u64,
    /// Changes between closed, open and half-open.
    pub state_changes: u64,
}

/// A breaker's state and window, at one moment.
///
/// With the feature `serde` it can be serialised: states and modes as their names, durations as seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct CircuitSnapshot {
    /// The state.
    pub state: CircuitState,
    /// Whether the breaker decides, or was isolated.
    pub mode: CircuitMode,
    /// The calls in the window; empty unless the circuit is closed. `None` without `failure_rate` and `slow_call`.
    pub window: Option<WindowCounts>,
    /// The share of failed calls in the window, from 0 to 1.
    pub failure_rate: Option<f64>,
    /// The share of slow calls in the window, from 0 to 1; `None` without `slow_call`.
    pub slow_call_rate: Option<f64>,
    /// How long the circuit will stay open; `None` if it is not open, or was isolated.
    pub half_open_in: Option<Duration>,
}

#[cfg(feature = "serde")]
impl serde::Serialize for CircuitSnapshot {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;

        let mut fields = serializer.serialize_struct("CircuitSnapshot", 8)?;
        fields.serialize_field("state", &format_args!("{}", self.state))?;
        fields.serialize_field("mode", &format_args!("{}", self.mode))?;
        fields.serialize_field("calls", &self.window.map(|window| window.calls))?;
        fields.serialize_field("failed", &self.window.map(|window| window.failed))?;
        fields.serialize_field("slow", &self.window.map(|window| window.slow))?;
        fields.serialize_field("failure_rate", &self.failure_rate)?;
        fields.serialize_field("slow_call_rate", &self.slow_call_rate)?;
        fields.serialize_field("half_open_in", &self.half_open_in.map(|left| left.as_secs_f64()))?;
        fields.end()
    }
}
