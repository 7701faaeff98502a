//! Shares of failed and of slow calls in a window, and when they open the circuit.

use core::ops::RangeInclusive;
use core::time::Duration;

use alloc::format;

use super::Cause;
use crate::InvalidArgument;

/// Length of the time window where none is given.
pub const DEFAULT_WINDOW: Duration = Duration::from_secs(10);
/// Bounds of a time window.
pub const WINDOW_BOUNDS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(86_400);
/// Bounds of a window of calls.
pub const WINDOW_CALLS_BOUNDS: RangeInclusive<u32> = 1..=1_000_000;
/// Calls that a window must hold before it is evaluated, where no other number is given.
pub const DEFAULT_MINIMUM_CALLS: u32 = 20;
/// Bounds of `minimum_calls`.
pub const MINIMUM_CALLS_BOUNDS: RangeInclusive<u32> = 1..=1_000_000;
/// Bounds of `slow_call`.
pub const SLOW_CALL_BOUNDS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(86_400);
/// Share of slow calls that opens the circuit where only `slow_call` is given.
pub const DEFAULT_SLOW_CALL_RATE: f64 = 1.0;

/// Limits below this need the exact clock: the staleness of the coarse one would be a large part of them.
const EXACT_BELOW: Duration = Duration::from_millis(200);

/// The calls over which rates are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// The calls that ended in the last so much time, in steps of a tenth of it.
    Time(Duration),
    /// The last so many calls.
    Calls(u32),
}

impl Window {
    /// The calls that ended in the last `length`: 100 ms to 1 day.
    #[must_use]
    pub const fn time(length: Duration) -> Self {
        Self::Time(length)
    }

    /// The last `calls` calls: 1 to 1,000,000.
    #[must_use]
    pub const fn calls(calls: u32) -> Self {
        Self::Calls(calls)
    }
}

impl Default for Window {
    fn default() -> Self {
        Self::Time(DEFAULT_WINDOW)
    }
}

/// Calls in a window. Ignored calls and rejections are not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowCounts {
    /// Calls that succeeded or failed.
    pub calls: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Calls that took longer than `slow_call`, failed or not.
    pub slow: u64,
}

impl WindowCounts {
    /// The share of failed calls, from 0 to 1; 0 for an empty window.
    #[must_use]
    pub fn failure_rate(&self) -> f64 {
        share(self.failed, self.calls)
    }

    /// The share of slow calls, from 0 to 1; 0 for an empty window.
    #[must_use]
    pub fn slow_call_rate(&self) -> f64 {
        share(self.slow, self.calls)
    }
}

/// A quotient of two whole numbers, rounded as the literal that a user writes for it: 7 of 100 is at least 0.07, where
/// 0.07 * 100 is more than 7.
#[allow(clippy::cast_precision_loss)]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Arguments of a [`RatePolicy`]; those that are missing have defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Share of failed calls that opens the circuit.
    pub failure_rate: Option<f64>,
    /// Default: 10 s.
    pub window: Option<Window>,
    /// Default: 20, or the window of calls where that is smaller.
    pub minimum_calls: Option<u32>,
    /// Duration above which a call is slow.
    pub slow_call: Option<Duration>,
    /// Share of slow calls that opens the circuit. Default: 1.
    pub slow_call_rate: Option<f64>,
}

/// Opens a circuit by the share of failed or slow calls; valid once built.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatePolicy {
    window: Window,
    minimum_calls: u32,
    failure_rate: Option<f64>,
    slow_call: Option<Duration>,
    slow_call_rate: f64,
}

impl RatePolicy {
    /// Checks the arguments. `None` where neither `failure_rate` nor `slow_call` is given.
    ///
    /// # Errors
    /// [`InvalidArgument`] for a number out of range, for `minimum_calls` above a window of calls, and for an argument
    /// that has no effect without another one.
    pub fn new(rates: &Rates) -> Result<Option<Self>, InvalidArgument> {
        let Rates { failure_rate, window, minimum_calls, slow_call, slow_call_rate } = *rates;
        if let Some(rate) = failure_rate {
            check_share("failure_rate", rate)?;
        }
        if let Some(rate) = slow_call_rate {
            check_share("slow_call_rate", rate)?;
            if slow_call.is_none() {
                return Err(InvalidArgument::new("slow_call_rate", rate, "given together with `slow_call`"));
            }
        }
        if let Some(limit) = slow_call {
            check_time("slow_call", limit, &SLOW_CALL_BOUNDS, "from 1 ms to 1 day")?;
        }
        if let Some(calls) = minimum_calls {
            check_count("minimum_calls", calls, &MINIMUM_CALLS_BOUNDS)?;
        }
        match window {
            Some(Window::Time(length)) => check_time("window", length, &WINDOW_BOUNDS, "from 100 ms to 1 day")?,
            Some(Window::Calls(calls)) => check_count("window_calls", calls, &WINDOW_CALLS_BOUNDS)?,
            None => {}
        }
        let largest = match window {
            Some(Window::Calls(calls)) => calls,
            _ => u32::MAX,
        };
        if let Some(calls) = minimum_calls.filter(|calls| *calls > largest) {
            return Err(InvalidArgument::new("minimum_calls", calls, format!("at most the window of {largest} calls")));
        }
        if failure_rate.is_none() && slow_call.is_none() {
            let needs = "given together with `failure_rate` or `slow_call`";
            return match (window, minimum_calls) {
                (Some(Window::Time(length)), _) => Err(InvalidArgument::new("window", format!("{length:?}"), needs)),
                (Some(Window::Calls(calls)), _) => Err(InvalidArgument::new("window_calls", calls, needs)),
                (None, Some(calls)) => Err(InvalidArgument::new("minimum_calls", calls, needs)),
                (None, None) => Ok(None),
            };
        }
        Ok(Some(Self {
            window: window.unwrap_or_default(),
            minimum_calls: minimum_calls.unwrap_or(DEFAULT_MINIMUM_CALLS.min(largest)),
            failure_rate,
            slow_call,
            slow_call_rate: slow_call_rate.unwrap_or(DEFAULT_SLOW_CALL_RATE),
        }))
    }

    /// The calls over which rates are computed.
    #[must_use]
    pub const fn window(&self) -> Window {
        self.window
    }

    /// Calls that the window must hold before it is evaluated.
    #[must_use]
    pub const fn minimum_calls(&self) -> u32 {
        self.minimum_calls
    }

    /// Share of failed calls that opens the circuit.
    #[must_use]
    pub const fn failure_rate(&self) -> Option<f64> {
        self.failure_rate
    }

    /// Duration above which a call is slow.
    #[must_use]
    pub const fn slow_call(&self) -> Option<Duration> {
        self.slow_call
    }

    /// Share of slow calls that opens the circuit; `None` without `slow_call`.
    #[must_use]
    pub fn slow_call_rate(&self) -> Option<f64> {
        self.slow_call.map(|_| self.slow_call_rate)
    }

    /// Whether durations must be measured with the exact clock. The staleness of a coarse clock bounds their error.
    #[must_use]
    pub fn needs_exact_clock(&self) -> bool {
        self.slow_call.is_some_and(|limit| limit < EXACT_BELOW)
    }

    /// Whether a call of this duration is slow.
    #[must_use]
    pub fn is_slow(&self, duration: Duration) -> bool {
        self.slow_call.is_some_and(|limit| duration > limit)
    }

    /// Why the circuit opens after a report, if it does. `counts` include the reported call.
    ///
    /// A failure is held against `failure_rate`, a slow call against `slow_call_rate`.
    #[must_use]
    pub fn trips(&self, counts: WindowCounts, failed: bool, slow: bool) -> Option<Cause> {
        if counts.calls < u64::from(self.minimum_calls) {
            return None;
        }
        if failed && self.failure_rate.is_some_and(|rate| counts.failure_rate() >= rate) {
            return Some(Cause::FailureRate { failed: counts.failed, calls: counts.calls });
        }
        if slow && counts.slow_call_rate() >= self.slow_call_rate {
            return Some(Cause::SlowCallRate { slow: counts.slow, calls: counts.calls });
        }
        None
    }
}

fn check_share(argument: &'static str, share: f64) -> Result<(), InvalidArgument> {
    let allowed = "a number above 0 and up to 1";
    if share > 0.0 && share <= 1.0 { Ok(()) } else { Err(InvalidArgument::new(argument, share, allowed)) }
}

fn check_count(argument: &'static str, count: u32, bounds: &RangeInclusive<u32>) -> Result<(), InvalidArgument> {
    let allowed = || format!("a whole number from {} to {}", bounds.start(), bounds.end());
    if bounds.contains(&count) { Ok(()) } else { Err(InvalidArgument::new(argument, count, allowed())) }
}

fn check_time(
    argument: &'static str,
    time: Duration,
    bounds: &RangeInclusive<Duration>,
    allowed: &str,
) -> Result<(), InvalidArgument> {
    if bounds.contains(&time) { Ok(()) } else { Err(InvalidArgument::new(argument, format!("{time:?}"), allowed)) }
}
