//! What measures each call of a breaker: its window, and listeners for calls.

use std::time::Duration;

use backstay_core::circuit_breaker::Outcome;

use super::listeners::List;
use super::window::RateWindow;
use crate::callback::caught;
use crate::clock::{Clock, Moment};
use crate::log::log_now;

/// A call that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompletedCall<'a> {
    /// The breaker's name, if it has one.
    pub name: Option<&'a std::sync::Arc<str>>,
    /// How the call ended.
    pub outcome: Outcome,
    /// The time from its admission to its report.
    pub duration: Duration,
}

pub(super) type CallListener = Box<dyn Fn(&CompletedCall<'_>) + Send + Sync>;

#[derive(Default)]
pub(super) struct Meter {
    pub(super) rates: Option<RateWindow>,
    listeners: List<CallListener>,
}

impl Meter {
    pub(super) fn new(rates: RateWindow) -> Self {
        Self { rates: Some(rates), listeners: List::default() }
    }

    pub(super) fn add(&self, listener: CallListener) {
        self.listeners.push(listener);
    }

    /// The beginning of a call; [`Moment::NEVER`] if nothing needs its duration.
    #[inline]
    pub(super) fn begin(&self, clock: &Clock) -> Moment {
        if self.is_exact() {
            clock.now()
        } else if self.has_slow_calls() {
            clock.coarse().earliest
        } else {
            Moment::NEVER
        }
    }

    #[inline]
    pub(super) fn duration(&self, begun: Moment, clock: &Clock) -> Option<Duration> {
        if begun == Moment::NEVER {
            return None;
        }
        let now = if self.is_exact() { clock.now() } else { clock.coarse().earliest };
        Some(now.since(begun))
    }

    pub(super) fn is_slow(&self, duration: Duration) -> bool {
        self.rates.as_ref().is_some_and(|rates| rates.policy.is_slow(duration))
    }

    fn is_exact(&self) -> bool {
        self.rates.as_ref().is_some_and(|rates| rates.policy.needs_exact_clock()) || !self.listeners.is_empty()
    }

    fn has_slow_calls(&self) -> bool {
        self.rates.as_ref().is_some_and(|rates| rates.policy.slow_call().is_some())
    }

    pub(super) fn tell(&self, name: Option<&std::sync::Arc<str>>, outcome: Outcome, duration: Duration) {
        for listener in self.listeners.iter() {
            let call = CompletedCall { name, outcome, duration };
            if let Err(panic) = caught(|| listener(&call)) {
                let breaker = name.map(AsRef::<str>::as_ref);
                log_now(|| tracing::error!(target: "backstay", breaker, panic, "a listener for calls panicked"));
            }
        }
    }
}
