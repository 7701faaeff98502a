//! The builder of a breaker.

use std::time::Duration;

use backstay_core::circuit_breaker::{
    DEFAULT_HALF_OPEN_MAX_CALLS, DEFAULT_MAX_FAILURES, DEFAULT_RESET_TIMEOUT, HalfOpenSlot, Policy, RatePolicy, Rates,
    Window,
};
use once_cell::race::OnceBox;

use super::listeners::{Listener, Listeners, Transition};
use super::meter::{CallListener, CompletedCall, Meter};
use super::window::RateWindow;
use super::{CircuitBreaker, Extras, Inner, SharedState};
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
    call_listeners: Vec<CallListener>,
}

impl CircuitBreakerBuilder {
    /// Opens the circuit after so many consecutive failures: 1 to 1,048,575. Default: 5; with
    /// [`failure_rate`](Self::failure_rate), consecutive failures do not open it unless this is set.
    pub fn max_failures(mut self, failures: u32) -> Self {
        self.settings.max_failures = Some(failures);
        self
    }

    /// Opens the circuit when a call fails and at least this share of the window's calls has failed: above 0, up to 1.
    /// Default: off.
    ///
    /// With [`max_failures`](Self::max_failures) as well, either opens it. The window must hold
    /// [`minimum_calls`](Self::minimum_calls).
    ///
    /// ```
    /// use backstay::CircuitBreaker;
    /// use backstay::circuit_breaker::Window;
    /// use std::time::Duration;
    ///
    /// // Half of the calls of the last 30 s failed, and there were at least 50.
    /// let breaker = CircuitBreaker::builder()
    ///     .failure_rate(0.5)
    ///     .window(Window::time(Duration::from_secs(30)))
    ///     .minimum_calls(50)
    ///     .build()?;
    /// # Ok::<(), backstay::BuildError>(())
    /// ```
    pub fn failure_rate(mut self, share: f64) -> Self {
        self.settings.failure_rate = Some(share);
        self
    }

    /// Sets the calls over which rates are computed. Default: those of the last 10 s.
    ///
    /// A window of time (100 ms to 1 day) advances in tenths of its length, so it covers between nine tenths of it and the
    /// whole. It costs a coarse reading of the clock a call, and no word that threads share. A window of calls (1 to
    /// 1,000,000) holds exactly the last n; it costs no clock, but a counter that all threads share, and 8 to 16 bytes a
    /// call. Ignored calls and rejections are not in the window; a change of state empties it.
    pub fn window(mut self, window: Window) -> Self {
        self.settings.window = Some(window);
        self
    }

    /// Sets how many calls the window must hold before rates open the circuit: 1 to 1,000,000, at most a window of calls.
    /// Default: 20, or the window of calls if that is smaller.
    pub fn minimum_calls(mut self, calls: u32) -> Self {
        self.settings.minimum_calls = Some(calls);
        self
    }

    /// Counts calls that take longer than `limit` as slow: 1 ms to 1 day. Default: off.
    ///
    /// The circuit opens when a call is slow and at least [`slow_call_rate`](Self::slow_call_rate) of the window's calls
    /// were. A slow call is a success or a failure besides, and is not cancelled; a slow half-open call is a failure. Limits
    /// below 200 ms cost two exact readings of the clock a call, others two coarse ones, whose staleness (some
    /// milliseconds) bounds the error.
    pub fn slow_call(mut self, limit: Duration) -> Self {
        self.settings.slow_call = Some(limit);
        self
    }

    /// Sets the share of slow calls that opens the circuit: above 0, up to 1. Default: 1.
    pub fn slow_call_rate(mut self, share: f64) -> Self {
        self.settings.slow_call_rate = Some(share);
        self
    }

    /// Sets how long the circuit stays open before half-open calls: 1 µs to 100 years. Default: 60 s.
    pub fn reset_timeout(mut self, timeout: Duration) -> Self {
        self.settings.reset_timeout = Some(timeout);
        self
    }

    /// Sets how many half-open calls run at once, and how many must succeed to close the circuit: 1 to 100. Default: 1.
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

    /// Counts a cancelled call (a dropped future, a dropped permit) as a failure, so that timeouts around the call open the
    /// circuit. Default: cancelled calls are ignored.
    pub fn cancellation_is_failure(mut self, is_failure: bool) -> Self {
        self.settings.cancellation_is_failure = Some(is_failure);
        self
    }

    /// Sets the name for errors, logs and listeners, and for the instance's section in the configuration.
    pub fn name(mut self, name: impl Into<std::sync::Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the clock. Default: the system's monotonic clock.
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// Adds a listener for changes of state: [`CircuitBreaker::on_state_change`].
    pub fn on_state_change(mut self, listener: impl Fn(&Transition) + Send + Sync + 'static) -> Self {
        self.listeners.push(Box::new(listener));
        self
    }

    /// Adds a listener for calls that end: [`CircuitBreaker::on_call`].
    pub fn on_call(mut self, listener: impl Fn(&CompletedCall<'_>) + Send + Sync + 'static) -> Self {
        self.call_listeners.push(Box::new(listener));
        self
    }

    config_setter!(fallback);

    /// Builds the breaker.
    ///
    /// # Errors
    /// [`BuildError::InvalidArgument`] names the argument that is out of range.
    pub fn build(self) -> Result<CircuitBreaker, BuildError> {
        let settings = self.fallback.complete(self.settings, self.name.as_deref());
        let rates = RatePolicy::new(&rates(&self.settings, &settings))?;
        let reset_timeout = settings.reset_timeout.unwrap_or(DEFAULT_RESET_TIMEOUT);
        let default_failures = settings.failure_rate.is_none().then_some(DEFAULT_MAX_FAILURES);
        let policy = Policy::new(
            settings.max_failures.or(default_failures),
            reset_timeout,
            settings.half_open_max_calls.unwrap_or(DEFAULT_HALF_OPEN_MAX_CALLS),
            settings.half_open_timeout.unwrap_or(reset_timeout),
        )?
        .with_cancellation_as_failure(settings.cancellation_is_failure.unwrap_or(false));
        let meter = rates.map(|policy| Box::new(Meter::new(RateWindow::new(policy))));
        let more_slots = (1..policy.half_open_max_calls()).map(|_| AtomicU64::new(HalfOpenSlot::FREE.pack())).collect();
        let extras = Extras { name: self.name, listeners: Listeners::default(), more_slots };
        self.listeners.into_iter().for_each(|listener| extras.listeners.add(listener));
        let breaker = CircuitBreaker(Arc::new(Inner {
            shared: SharedState::new(),
            policy,
            clock: self.clock,
            counters: Striped::new(),
            meter: meter.map_or_else(OnceBox::new, OnceBox::with_value),
            extras: if extras.is_empty() { OnceBox::new() } else { OnceBox::with_value(Box::new(extras)) },
        }));
        self.call_listeners.into_iter().for_each(|listener| breaker.add_call_listener(listener));
        Ok(breaker)
    }
}

/// The arguments of rates. A value from the configuration that has no effect here is not an error: a section may hold the
/// window for those of its breakers that have a rate. Nor is a configured minimum above a window of calls.
fn rates(given: &CircuitBreakerSettings, settings: &CircuitBreakerSettings) -> Rates {
    let CircuitBreakerSettings { failure_rate, mut window, mut minimum_calls, slow_call, mut slow_call_rate, .. } =
        *settings;
    if failure_rate.is_none() && slow_call.is_none() {
        (window, minimum_calls) = (given.window, given.minimum_calls);
    }
    if slow_call.is_none() {
        slow_call_rate = given.slow_call_rate;
    }
    let both_given = given.window.is_some() && given.minimum_calls.is_some();
    if let (Some(Window::Calls(calls)), false) = (window, both_given) {
        minimum_calls = minimum_calls.map(|minimum| minimum.min(calls));
    }
    Rates { failure_rate, window, minimum_calls, slow_call, slow_call_rate }
}

impl std::fmt::Debug for CircuitBreakerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CircuitBreakerBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}
