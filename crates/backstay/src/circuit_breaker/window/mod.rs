//! The windows over which a breaker computes rates.

mod calls;
#[cfg(all(test, backstay_loom))]
mod loom_tests;
#[cfg(all(test, not(backstay_loom)))]
mod tests;
mod time;

use std::sync::atomic::{AtomicU64, Ordering};

use backstay_core::circuit_breaker::{Cause, RatePolicy, Window, WindowCounts};

use super::decision::{FAILED, SUCCESSFUL};
use crate::clock::{Clock, Moment};
use crate::striped::Striped;
use calls::CallWindow;
use time::{TimeWindow, Total};

/// The window of a breaker, and the policy that is applied to it.
///
/// The statistics of the breaker are divided: calls that count in the window, and others (half-open calls, late ones). A
/// window of time takes the first from the breaker's counters, so the others have words of their own. A window of calls
/// counts the first by itself, so the others are in the breaker's counters.
pub(super) struct RateWindow {
    pub(super) policy: RatePolicy,
    kind: Kind,
}

// There is one for each breaker that has a window; a box would be one more step on the hot path.
#[allow(clippy::large_enum_variant)]
enum Kind {
    Time { window: TimeWindow, outside: [AtomicU64; 2] },
    Calls(CallWindow),
}

fn total(counters: &Striped<4>) -> impl Fn(Total) -> u64 {
    |total| match total {
        Total::Succeeded => counters.sum(SUCCESSFUL),
        Total::Failed => counters.sum(FAILED),
    }
}

impl RateWindow {
    pub(super) fn new(policy: RatePolicy) -> Self {
        let kind = match policy.window() {
            Window::Time(length) => Kind::Time { window: TimeWindow::new(length), outside: [0, 0].map(AtomicU64::new) },
            Window::Calls(calls) => Kind::Calls(CallWindow::new(calls)),
        };
        Self { policy, kind }
    }

    /// Counts a call of the closed period that succeeded and was not slow.
    #[inline(never)]
    pub(super) fn count_success(&self, counters: &Striped<4>, clock: &Clock) {
        match &self.kind {
            Kind::Time { window, .. } => {
                window.advance(clock.coarse().earliest, total(counters));
                counters.add(SUCCESSFUL, 1);
            }
            Kind::Calls(window) => window.success(),
        }
    }

    /// Counts a call of the closed period, which may end meanwhile: `lasts` tells.
    pub(super) fn count(
        &self,
        (failed, slow): (bool, bool),
        counters: &Striped<4>,
        clock: &Clock,
        lasts: impl Fn() -> bool,
    ) {
        match &self.kind {
            Kind::Time { window, .. } => {
                window.advance(clock.coarse().earliest, total(counters));
                if slow {
                    window.add_slow();
                }
                counters.add(if failed { FAILED } else { SUCCESSFUL }, 1);
            }
            Kind::Calls(window) if failed || slow => window.mark(failed, slow, lasts),
            Kind::Calls(window) => window.success(),
        }
    }

    /// Counts a call that is not in the window.
    pub(super) fn count_outside(&self, failed: bool, counters: &Striped<4>) {
        match &self.kind {
            Kind::Time { outside, .. } => {
                outside[usize::from(failed)].fetch_add(1, Ordering::Relaxed);
            }
            Kind::Calls(_) => counters.add(if failed { FAILED } else { SUCCESSFUL }, 1),
        }
    }

    /// Calls that are not in the breaker's counters: those that succeeded, and those that failed.
    pub(super) fn beside(&self) -> [u64; 2] {
        match &self.kind {
            Kind::Time { outside, .. } => [&outside[0], &outside[1]].map(|count| count.load(Ordering::Relaxed)),
            Kind::Calls(window) => window.totals(),
        }
    }

    pub(super) fn counts(&self, counters: &Striped<4>, now: Moment) -> WindowCounts {
        match &self.kind {
            Kind::Time { window, .. } => window.counts(now, total(counters)),
            Kind::Calls(window) => window.counts(),
        }
    }

    /// Why the circuit opens after a call that was counted, if it does.
    pub(super) fn trips(&self, (failed, slow): (bool, bool), counters: &Striped<4>, now: Moment) -> Option<Cause> {
        self.policy.trips(self.counts(counters, now), failed, slow)
    }

    pub(super) fn empty(&self, counters: &Striped<4>) {
        match &self.kind {
            Kind::Time { window, .. } => window.empty(total(counters)),
            Kind::Calls(window) => window.empty(),
        }
    }
}
