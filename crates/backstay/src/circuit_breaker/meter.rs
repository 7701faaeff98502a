//! What measures each call of a breaker: its window, and listeners for calls.

use std::sync::atomic::{AtomicU8, Ordering};
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

pub(super) struct Meter {
    pub(super) rates: Option<RateWindow>,
    /// How the duration of a call is measured. Relaxed: a listener may miss the calls that end while it is added.
    timing: AtomicU8,
    listeners: List<CallListener>,
}

const NOT_MEASURED: u8 = 0;
const COARSE: u8 = 1;
const EXACT: u8 = 2;

impl Default for Meter {
    fn default() -> Self {
        Self { rates: None, timing: AtomicU8::new(NOT_MEASURED), listeners: List::default() }
    }
}

impl Meter {
    pub(super) fn new(rates: RateWindow) -> Self {
        let timing = match (rates.policy.needs_exact_clock(), rates.policy.slow_call()) {
            (true, _) => EXACT,
            (false, Some(_)) => COARSE,
            (false, None) => NOT_MEASURED,
        };
        Self { rates: Some(rates), timing: AtomicU8::new(timing), ..Self::default() }
    }

    pub(super) fn add(&self, listener: CallListener) {
        self.listeners.push(listener);
        self.timing.store(EXACT, Ordering::Relaxed);
    }

    /// The beginning of a call; [`Moment::NEVER`] if nothing needs its duration.
    #[inline]
    pub(super) fn begin(&self, clock: &Clock) -> Moment {
        if self.timing.load(Ordering::Relaxed) == NOT_MEASURED { Moment::NEVER } else { self.now(clock) }
    }

    #[inline(never)]
    fn now(&self, clock: &Clock) -> Moment {
        if self.timing.load(Ordering::Relaxed) == EXACT { clock.now() } else { clock.coarse().earliest }
    }

    pub(super) fn duration(&self, begun: Moment, clock: &Clock) -> Option<Duration> {
        if begun == Moment::NEVER {
            return None;
        }
        Some(self.now(clock).since(begun))
    }

    pub(super) fn is_slow(&self, duration: Duration) -> bool {
        self.rates.as_ref().is_some_and(|rates| rates.policy.is_slow(duration))
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
