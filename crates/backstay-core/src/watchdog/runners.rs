use core::time::Duration;

/// So many threads may run callbacks without proof that they are needed.
pub const FEW_RUNNERS: usize = 8;

/// The most threads that run callbacks at the same time. So many callbacks that block delay no other.
pub const MAX_RUNNERS: usize = 256;

/// A job that waits for this long may need another thread.
pub const STUCK: Duration = Duration::from_millis(10);

/// Jobs that wait longer than this, at the pace of the last moments, need more threads.
const TOO_LONG: Duration = Duration::from_secs(1);

/// The threads that run callbacks, and the jobs that wait for one.
///
/// ```
/// use backstay_core::watchdog::{FEW_RUNNERS, MAX_RUNNERS, Runners, STUCK};
///
/// // All threads are in callbacks that block.
/// let stuck = Runners { threads: FEW_RUNNERS, waiting: 10_000, begun: 0 };
/// assert_eq!(stuck.more(STUCK), FEW_RUNNERS);
/// // Many jobs, none of which takes long.
/// assert_eq!(Runners { begun: 500, ..stuck }.more(STUCK), 0);
/// assert_eq!(Runners { threads: MAX_RUNNERS, ..stuck }.more(STUCK), 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runners {
    /// Threads that there are.
    pub threads: usize,
    /// Jobs that wait.
    pub waiting: usize,
    /// Jobs that were begun within the last [`STUCK`].
    pub begun: usize,
}

impl Runners {
    /// How many threads to add, `oldest` being how long the first of the jobs has waited.
    ///
    /// Doubles the threads where the jobs would wait for more than a second at the present pace: either no job is begun
    /// any more, since all threads are in callbacks that block, or far too few are. Many jobs that take no time need
    /// no threads.
    #[must_use]
    pub fn more(self, oldest: Duration) -> usize {
        let paces = TOO_LONG.as_nanos() / STUCK.as_nanos();
        let in_time = self.begun as u128 * paces >= self.waiting as u128;
        if oldest < STUCK || in_time {
            return 0;
        }
        self.threads.max(1).min(self.waiting).min(MAX_RUNNERS.saturating_sub(self.threads))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(crate::cases(256))]

        // WD-3: callbacks that block are joined by as many threads as there are jobs, within a few looks, and never by
        // more than the bound.
        #[test]
        fn blocked_callbacks_get_threads_up_to_the_bound(jobs in 1..20_000usize) {
            let mut runners = Runners { threads: FEW_RUNNERS.min(jobs), waiting: jobs.saturating_sub(FEW_RUNNERS), begun: 0 };
            for _ in 0..6 {
                let more = runners.more(STUCK);
                prop_assert!(more <= runners.waiting);
                runners.threads += more;
                runners.waiting -= more;
                prop_assert!(runners.threads <= MAX_RUNNERS);
            }
            prop_assert_eq!(runners.threads, jobs.min(MAX_RUNNERS));
        }
    }

    #[test]
    fn nothing_is_added_before_its_time_or_where_the_pace_suffices() {
        let runners = Runners { threads: 8, waiting: 1000, begun: 0 };
        assert_eq!(runners.more(STUCK - Duration::from_nanos(1)), 0);
        assert_eq!(Runners { begun: 10, ..runners }.more(STUCK), 0);
        assert_eq!(Runners { begun: 9, ..runners }.more(STUCK), 8);
        assert_eq!(Runners { waiting: 3, ..runners }.more(STUCK), 3);
        assert_eq!(Runners { threads: 0, waiting: 1, begun: 0 }.more(STUCK), 1);
    }
}
