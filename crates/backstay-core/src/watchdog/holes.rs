use alloc::vec::Vec;
use core::time::Duration;

use crate::time::Moment;

/// Waking this much later than planned means that the process did not run; less is an ordinary busy machine.
pub const HOLE: Duration = Duration::from_millis(100);

/// How many are remembered. When there is no room, the shortest is forgotten.
const ROOM: usize = 16;

/// When the process did not run: stopped, suspended, or on a machine that was paused.
///
/// A thread that sleeps until a given moment and wakes late has seen a hole of that length. A long one starts the clock
/// of every watchdog again; a short one is only not counted, so that a machine which is always late still finds out who
/// is frozen.
///
/// ```
/// use backstay_core::time::Moment;
/// use backstay_core::watchdog::Holes;
/// use std::time::Duration;
///
/// let second = |s: u64| Moment::from_nanos(s * 1_000_000_000);
/// let mut holes = Holes::default();
/// holes.woke(second(10), second(70));
/// assert_eq!(holes.excused(second(9), Duration::from_secs(30)), second(70));
/// assert_eq!(holes.excused(second(71), Duration::from_secs(30)), second(71));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Holes(Vec<Hole>);

#[derive(Clone, Copy, Debug)]
struct Hole {
    end: Moment,
    length: Duration,
}

impl Holes {
    /// Notes that who wanted to wake at `planned` woke at `now`. Returns the hole that this shows.
    pub fn woke(&mut self, planned: Moment, now: Moment) -> Option<Duration> {
        let length = now.since(planned);
        if length < HOLE {
            return None;
        }
        if self.0.len() >= ROOM {
            let shortest = (0..self.0.len()).min_by_key(|&i| self.0[i].length)?;
            self.0.remove(shortest);
        }
        self.0.push(Hole { end: now, length });
        Some(length)
    }

    /// From when on a silence that began at `last_ping` counts, for a watchdog of this `timeout`.
    ///
    /// A hole of a quarter of the timeout or more starts the clock again at its end. Shorter ones are left out.
    #[must_use]
    pub fn excused(&self, last_ping: Moment, timeout: Duration) -> Moment {
        let mut since = last_ping;
        for hole in &self.0 {
            let moved = if hole.length >= timeout / 4 { hole.end } else { (since + hole.length).min(hole.end) };
            // Never back: a hole may lie before the ping.
            since = since.max(moved);
        }
        since
    }
}
