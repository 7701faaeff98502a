//! Threads for what is not ours: callbacks and looks at files, which may take as long as they like.
//!
//! A thread that is idle takes the next job, otherwise there is a new one, up to [`FEW_RUNNERS`] at once. Beyond those,
//! threads are added while the others are busy with something slow, up to [`MAX_RUNNERS`]: the rule is the core's.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use backstay_core::watchdog::{FEW_RUNNERS, Runners as Load, STUCK};

use crate::callback::caught;
use crate::clock::{Clock, Moment};
use crate::log::log_in_background;
use crate::threads;

type Job = Box<dyn FnOnce() + Send>;

/// A thread without work goes after this time.
const IDLE: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Runners {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<(Moment, Job)>,
    threads: usize,
    idle: usize,
    /// Jobs begun since the last look of [`Runners::tend`], which was then.
    begun: usize,
    looked: Moment,
}

impl Runners {
    /// Has `job` run soon, on another thread.
    pub(super) fn submit(&'static self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.lock();
        state.jobs.push_back((Clock::system().now(), Box::new(job)));
        if state.idle >= state.jobs.len() {
            self.work.notify_one();
        } else if state.threads < FEW_RUNNERS {
            self.add(&mut state);
        }
    }

    /// Adds threads where jobs are stuck. Returns when to look again; `None` when nothing waits.
    pub(super) fn tend(&'static self) -> Option<Duration> {
        let mut state = self.lock();
        let &(queued, _) = state.jobs.front()?;
        let now = Clock::system().now();
        // The monitor may look more often than every moment.
        if now.since(state.looked) >= STUCK {
            let begun = std::mem::take(&mut state.begun);
            state.looked = now;
            let load = Load { threads: state.threads, waiting: state.jobs.len(), begun };
            for _ in 0..load.more(now.since(queued)) {
                self.add(&mut state);
            }
        }
        Some(STUCK)
    }

    /// Nothing waits.
    pub(super) fn is_drained(&self) -> bool {
        self.lock().jobs.is_empty()
    }

    fn add(&'static self, state: &mut State) {
        const NAME: &str = "backstay-runner";
        // One with a small stack is better than none.
        let spawned = threads::named(NAME).spawn(|| self.work());
        let spawned = spawned.or_else(|_| Builder::new().name(NAME.to_owned()).spawn(|| self.work()));
        // Without a thread the job stays in the queue: a later `tend` tries again.
        state.threads += usize::from(spawned.is_ok());
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some((_, job)) = state.jobs.pop_front() {
                state.begun += 1;
                drop(state);
                if let Err(panic) = caught(job) {
                    log_in_background(move || tracing::error!(target: "backstay", panic, "a watchdog's job panicked"));
                }
                state = self.lock();
                continue;
            }
            state.idle += 1;
            let (woken, wait) = self.work.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if wait.timed_out() && state.jobs.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use backstay_core::watchdog::MAX_RUNNERS;

    // WD-3: callbacks that block are given threads, and not without bound.
    #[test]
    fn blocked_jobs_get_threads_and_no_more_than_the_bound() {
        static BLOCKED: AtomicUsize = AtomicUsize::new(0);
        let runners: &'static Runners = Box::leak(Box::default());
        let gate: &'static (Mutex<bool>, Condvar) = Box::leak(Box::default());
        for _ in 0..MAX_RUNNERS + 100 {
            runners.submit(move || {
                BLOCKED.fetch_add(1, Ordering::SeqCst);
                let open = gate.0.lock().unwrap();
                drop(gate.1.wait_while(open, |open| !*open).unwrap());
            });
        }
        let tend_while = |condition: &dyn Fn() -> bool| {
            while condition() {
                runners.tend();
                std::thread::yield_now();
            }
        };
        tend_while(&|| BLOCKED.load(Ordering::SeqCst) < MAX_RUNNERS);
        let end = Clock::system().now() + STUCK * 3;
        tend_while(&|| Clock::system().now() < end);
        let state = runners.lock();
        assert_eq!((state.threads, state.jobs.len()), (MAX_RUNNERS, 100));
        drop(state);
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        tend_while(&|| BLOCKED.load(Ordering::SeqCst) < MAX_RUNNERS + 100);
        assert!(runners.tend().is_none());
    }
}
