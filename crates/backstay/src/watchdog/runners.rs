//! Threads for what is not ours: callbacks and looks at files, which may take as long as they like.
//!
//! A thread that is idle takes the next job, otherwise there is a new one, up to [`FEW`] at once. Beyond those, a job
//! that has waited for [`STUCK`] proves that the others are busy with something slow, and the threads double.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use crate::callback::caught;
use crate::clock::{Clock, Moment};
use crate::log::say_aside;
use crate::threads;

type Job = Box<dyn FnOnce() + Send>;

/// Enough for callbacks that behave.
const FEW: usize = 8;
/// More threads than this help nobody.
const MANY: usize = 4096;
/// A job that waits this long needs another thread.
const STUCK: Duration = Duration::from_millis(10);
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
}

impl Runners {
    /// Has `job` run soon, on another thread.
    pub(super) fn submit(&'static self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.lock();
        state.jobs.push_back((Clock::system().now(), Box::new(job)));
        if state.idle >= state.jobs.len() {
            self.work.notify_one();
        } else if state.threads < FEW {
            self.add(&mut state);
        }
    }

    /// Adds threads where jobs are stuck. Returns when to look again; `None` when nothing waits.
    pub(super) fn tend(&'static self) -> Option<Duration> {
        let mut state = self.lock();
        let &(queued, _) = state.jobs.front()?;
        if Clock::system().now().since(queued) >= STUCK {
            let more = state.threads.max(1).min(state.jobs.len()).min(MANY.saturating_sub(state.threads));
            for _ in 0..more {
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
                drop(state);
                if let Err(panic) = caught(job) {
                    say_aside(move || tracing::error!(target: "backstay", panic, "a watchdog's job panicked"));
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
