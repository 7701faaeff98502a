//! Threads that run callbacks and check files, both of which can block.
//!
//! An idle thread takes the next job. Without an idle thread a new one is started, up to [`BASE_POOL_SIZE`]. Beyond
//! that, threads are added only while jobs are stalled, as [`PoolLoad::threads_to_add`] decides.
//!
//! Locks: one, `state`. Jobs run without it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use backstay_core::watchdog::{BASE_POOL_SIZE, PoolLoad, STALL_THRESHOLD};

use crate::callback::caught;
use crate::clock::{Clock, Moment};
use crate::log::log_in_background;
use crate::threads;

type Job = Box<dyn FnOnce() + Send>;

/// Time after which an idle thread ends.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct CallbackPool {
    state: Mutex<PoolState>,
    job_added: Condvar,
}

#[derive(Default)]
struct PoolState {
    jobs: VecDeque<(Moment, Job)>,
    threads: usize,
    idle: usize,
    /// Jobs started since `checked_at`.
    started: usize,
    /// When [`CallbackPool::check`] last counted them.
    checked_at: Moment,
}

impl CallbackPool {
    /// Runs `job` on another thread soon.
    pub(super) fn submit(&'static self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.lock();
        state.jobs.push_back((Clock::system().now(), Box::new(job)));
        if state.idle >= state.jobs.len() {
            self.job_added.notify_one();
        } else if state.threads < BASE_POOL_SIZE {
            self.add_thread(&mut state);
        }
    }

    /// Adds threads if jobs are stalled. Returns the time until the next check, `None` if no job waits.
    pub(super) fn check(&'static self) -> Option<Duration> {
        let mut state = self.lock();
        let &(queued, _) = state.jobs.front()?;
        let now = Clock::system().now();
        // The monitor may call this more often.
        if now.since(state.checked_at) >= STALL_THRESHOLD {
            let started = std::mem::take(&mut state.started);
            state.checked_at = now;
            let load = PoolLoad { threads: state.threads, waiting: state.jobs.len(), started };
            for _ in 0..load.threads_to_add(now.since(queued)) {
                self.add_thread(&mut state);
            }
        }
        Some(STALL_THRESHOLD)
    }

    /// Returns whether no job waits.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().jobs.is_empty()
    }

    fn add_thread(&'static self, state: &mut PoolState) {
        const NAME: &str = "backstay-pool";
        // If the configured stack size cannot be had, the default one is better than no thread.
        let spawned = threads::named(NAME).spawn(|| self.run_jobs());
        let spawned = spawned.or_else(|_| Builder::new().name(NAME.to_owned()).spawn(|| self.run_jobs()));
        // Without a thread the job stays in the queue, and a later `check` tries again.
        state.threads += usize::from(spawned.is_ok());
    }

    fn run_jobs(&self) {
        let mut state = self.lock();
        loop {
            if let Some((_, job)) = state.jobs.pop_front() {
                state.started += 1;
                drop(state);
                if let Err(panic) = caught(job) {
                    log_in_background(
                        move || tracing::error!(target: "backstay", panic, "a watchdog's background job panicked"),
                    );
                }
                state = self.lock();
                continue;
            }
            state.idle += 1;
            let (woken, wait) =
                self.job_added.wait_timeout(state, IDLE_TIMEOUT).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if wait.timed_out() && state.jobs.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use backstay_core::watchdog::MAX_POOL_SIZE;

    // WD-3: callbacks that block get more threads, up to the maximum.
    #[test]
    fn blocked_jobs_get_threads_up_to_the_maximum() {
        static BLOCKED: AtomicUsize = AtomicUsize::new(0);
        let pool: &'static CallbackPool = Box::leak(Box::default());
        let gate: &'static (Mutex<bool>, Condvar) = Box::leak(Box::default());
        for _ in 0..MAX_POOL_SIZE + 100 {
            pool.submit(move || {
                BLOCKED.fetch_add(1, Ordering::SeqCst);
                let open = gate.0.lock().unwrap();
                drop(gate.1.wait_while(open, |open| !*open).unwrap());
            });
        }
        let check_while = |condition: &dyn Fn() -> bool| {
            while condition() {
                pool.check();
                std::thread::yield_now();
            }
        };
        check_while(&|| BLOCKED.load(Ordering::SeqCst) < MAX_POOL_SIZE);
        let end = Clock::system().now() + STALL_THRESHOLD * 3;
        check_while(&|| Clock::system().now() < end);
        let state = pool.lock();
        assert_eq!((state.threads, state.jobs.len()), (MAX_POOL_SIZE, 100));
        drop(state);
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        check_while(&|| BLOCKED.load(Ordering::SeqCst) < MAX_POOL_SIZE + 100);
        assert!(pool.check().is_none());
    }
}
