use alloc::vec::Vec;
use core::time::Duration;

use crate::time::Moment;

/// Shortest delay of a wake-up that counts as a clock gap.
///
/// Shorter delays are normal on a busy machine.
pub const MIN_CLOCK_GAP: Duration = Duration::from_millis(100);

/// Number of gaps kept. A new one replaces the shortest.
const CAPACITY: usize = 16;

/// Records when the process did not run.
///
/// Causes are a stopped process, a suspended system and a paused virtual machine. A thread that sleeps until a given
/// time and wakes late has detected a gap of that length. A long gap restarts the timeout of every watchdog. A short
/// gap is only subtracted, so that a machine which is always late still detects frozen threads.
///
/// ```
/// use backstay_core::time::Moment;
/// use backstay_core::watchdog::ClockGaps;
/// use std::time::Duration;
///
/// let second = |s: u64| Moment::from_nanos(s * 1_000_000_000);
/// let mut gaps = ClockGaps::default();
/// gaps.record_wakeup(second(10), second(70));
/// assert_eq!(gaps.inactive_since(second(9), Duration::from_secs(30)), second(70));
/// assert_eq!(gaps.inactive_since(second(71), Duration::from_secs(30)), second(71));
/// ```
#[derive(Clone, Debug, Default)]
pub struct ClockGaps(Vec<ClockGap>);

#[derive(Clone, Copy, Debug)]
struct ClockGap {
    end: Moment,
    length: Duration,
}

impl ClockGaps {
    /// Records that a thread which planned to wake at `planned` woke at `now`.
    ///
    /// Returns the length of the gap, if there was one.
    pub fn record_wakeup(&mut self, planned: Moment, now: Moment) -> Option<Duration> {
        let length = now.since(planned);
        if length < MIN_CLOCK_GAP {
            return None;
        }
        if self.0.len() >= CAPACITY {
            let shortest = (0..self.0.len()).min_by_key(|&i| self.0[i].length)?;
            self.0.remove(shortest);
        }
        self.0.push(ClockGap { end: now, length });
        Some(length)
    }

    /// Returns the time from which inactivity counts.
    ///
    /// The watchdog has this `timeout` and was last pinged at `last_ping`.
    ///
    /// A gap of at least a quarter of the timeout restarts the timeout at the gap's end. The length of a shorter gap is
    /// subtracted.
    #[must_use]
    pub fn inactive_since(&self, last_ping: Moment, timeout: Duration) -> Moment {
        let mut since = last_ping;
        for gap in &self.0 {
            let moved = if gap.length >= timeout / 4 { gap.end } else { (since + gap.length).min(gap.end) };
            // A gap that ended before the ping must not move the time back.
            since = since.max(moved);
        }
        since
    }
}
