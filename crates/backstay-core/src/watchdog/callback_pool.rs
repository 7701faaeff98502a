use core::time::Duration;

/// Number of threads that the callback pool starts as jobs arrive.
///
/// More are added only for stalled jobs.
pub const BASE_POOL_SIZE: usize = 8;

/// Largest number of threads in the callback pool.
///
/// Fewer blocked callbacks than this delay no other callback.
pub const MAX_POOL_SIZE: usize = 256;

/// Waiting time after which a job can justify another thread.
pub const STALL_THRESHOLD: Duration = Duration::from_millis(10);

/// Longest acceptable time until the last waiting job is started, at the current rate.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// Threads and jobs of the callback pool.
///
/// ```
/// use backstay_core::watchdog::{BASE_POOL_SIZE, MAX_POOL_SIZE, PoolLoad, STALL_THRESHOLD};
///
/// // All threads run callbacks that block.
/// let stalled = PoolLoad { threads: BASE_POOL_SIZE, waiting: 10_000, started: 0 };
/// assert_eq!(stalled.threads_to_add(STALL_THRESHOLD), BASE_POOL_SIZE);
/// // Many jobs, each of which is short.
/// assert_eq!(PoolLoad { started: 500, ..stalled }.threads_to_add(STALL_THRESHOLD), 0);
/// assert_eq!(PoolLoad { threads: MAX_POOL_SIZE, ..stalled }.threads_to_add(STALL_THRESHOLD), 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLoad {
    /// Existing threads.
    pub threads: usize,
    /// Waiting jobs.
    pub waiting: usize,
    /// Jobs started within the last [`STALL_THRESHOLD`].
    pub started: usize,
}

impl PoolLoad {
    /// Returns how many threads to add; `oldest` is the waiting time of the first job.
    ///
    /// Doubles the threads if the waiting jobs would take more than a second to start at the current rate: either every
    /// thread is blocked in a callback, or there are far too few threads. Many short jobs need no more threads.
    #[must_use]
    pub fn threads_to_add(self, oldest: Duration) -> usize {
        let periods = MAX_WAIT.as_nanos() / STALL_THRESHOLD.as_nanos();
        let in_time = self.started as u128 * periods >= self.waiting as u128;
        if oldest < STALL_THRESHOLD || in_time {
            return 0;
        }
        self.threads.max(1).min(self.waiting).min(MAX_POOL_SIZE.saturating_sub(self.threads))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(crate::cases(256))]

        // WD-3: within a few checks, each callback that blocks has a thread, up to the maximum.
        #[test]
        fn blocked_callbacks_get_threads_up_to_the_maximum(jobs in 1..20_000usize) {
            let threads = BASE_POOL_SIZE.min(jobs);
            let mut load = PoolLoad { threads, waiting: jobs - threads, started: 0 };
            for _ in 0..6 {
                let added = load.threads_to_add(STALL_THRESHOLD);
                prop_assert!(added <= load.waiting);
                load.threads += added;
                load.waiting -= added;
                prop_assert!(load.threads <= MAX_POOL_SIZE);
            }
            prop_assert_eq!(load.threads, jobs.min(MAX_POOL_SIZE));
        }
    }

    #[test]
    fn threads_are_added_only_after_the_threshold_and_only_if_the_rate_is_too_low() {
        let load = PoolLoad { threads: 8, waiting: 1000, started: 0 };
        assert_eq!(load.threads_to_add(STALL_THRESHOLD - Duration::from_nanos(1)), 0);
        assert_eq!(PoolLoad { started: 10, ..load }.threads_to_add(STALL_THRESHOLD), 0);
        assert_eq!(PoolLoad { started: 9, ..load }.threads_to_add(STALL_THRESHOLD), 8);
        assert_eq!(PoolLoad { waiting: 3, ..load }.threads_to_add(STALL_THRESHOLD), 3);
        assert_eq!(PoolLoad { threads: 0, waiting: 1, started: 0 }.threads_to_add(STALL_THRESHOLD), 1);
    }
}
