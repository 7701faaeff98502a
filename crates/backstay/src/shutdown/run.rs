//! The shutdown thread: runs the callbacks, writes the report, and ends the process if it must.

use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use backstay_core::shutdown::{CallbackOutcome, Deadline, MIN_CALLBACK_TIME, SignalAction, Step};

use super::callback_run::{self, CallbackRun, Runtimes};
use super::{ShutdownInner, Signal};
#[cfg(feature = "tokio")]
use crate::callback::caught;
use crate::clock::{Clock, Moment};
use crate::log::{self, log_in_background};
use crate::signals::exit_at_once;
use crate::threads;

impl ShutdownInner {
    /// Begins the shutdown, unless it has begun. It runs on a thread of its own, so it goes on if the caller stops
    /// waiting.
    pub(super) fn begin(self: &Arc<Self>, runtimes: Runtimes) {
        if self.state.begin() {
            self.start(None, runtimes);
        }
    }

    /// Handles a signal.
    pub(super) fn signal(self: &Arc<Self>, signal: Signal) {
        match self.state.signal(self.still_running()) {
            SignalAction::Begin => self.start(Some(signal), Runtimes::default()),
            SignalAction::Continue => {
                log_in_background(move || tracing::info!(target: "backstay", %signal, "shutdown has already begun"));
            }
            SignalAction::ExitNow => end_process(signal.exit_code(), LOG_TIMEOUT_AT_EXIT, move || {
                tracing::error!(target: "backstay", %signal, "second signal during shutdown: exiting at once");
            }),
            SignalAction::ForceExit => self.force_exit(),
        }
    }

    fn start(self: &Arc<Self>, signal: Option<Signal>, runtimes: Runtimes) {
        #[cfg(feature = "tokio")]
        let _ = caught(|| self.token.cancel());
        let (inner, begun) = (Arc::clone(self), self.clock.now());
        callback_run::on_thread("backstay-shutdown", move || inner.run(begun, signal, &runtimes));
    }

    fn run(&self, begun: Moment, signal: Option<Signal>, runtimes: &Runtimes) {
        #[cfg(feature = "tokio")]
        let _context = runtimes.found.as_ref().map(tokio::runtime::Handle::enter);
        let cause = signal.map_or_else(|| "trigger".to_owned(), |signal| signal.to_string());
        let callbacks = self.queue.lock().len();
        log_in_background(move || tracing::info!(target: "backstay", cause, callbacks, "shutdown begins"));
        self.drain(begun);
        let deadline = Deadline::after(self.clock.now(), self.plan.timeout());
        while let Some(step) = self.run_next(deadline, runtimes) {
            self.partial_report.lock().steps.push(step);
        }
        let report = {
            let mut report = self.partial_report.lock();
            report.took = self.clock.now().since(begun);
            Arc::new(report.clone())
        };
        let logged = Arc::clone(&report);
        log_in_background(move || match logged.is_clean() {
            true => tracing::info!(target: "backstay", "{logged}"),
            false => tracing::warn!(target: "backstay", "{logged}"),
        });
        // The caller that waits for the end may end the process.
        log::flush(MIN_CALLBACK_TIME);
        self.wait_for_overdue();
        #[cfg(feature = "tokio")]
        self.reserved_runtime.clear();
        if self.state.finish(report, self.still_running()) {
            self.force_exit();
        }
    }

    fn drain(&self, begun: Moment) {
        if self.plan.drain_delay().is_zero() {
            return;
        }
        let delay = self.plan.drain_delay();
        log_in_background(move || tracing::info!(target: "backstay", ?delay, "shutdown drains"));
        let end = begun + delay;
        while self.clock.now() < end {
            self.clock.park_until(end);
        }
    }

    /// Runs the next callback.
    fn run_next(&self, deadline: Deadline, runtimes: &Runtimes) -> Option<Step> {
        let entry = self.queue.lock().next()?;
        let (name, begun) = (entry.name, self.clock.now());
        let timeout = deadline.callback_timeout(begun, entry.timeout);
        let callback = name.clone();
        log_in_background(move || tracing::debug!(target: "backstay", %callback, ?timeout, "shutdown callback begins"));
        let context = callback_run::RunContext {
            clock: &self.clock,
            runtimes,
            #[cfg(feature = "tokio")]
            reserved_runtime: &self.reserved_runtime,
        };
        let (outcome, overdue) = callback_run::run(self.id(), &name, entry.callback, timeout, &context);
        self.overdue.lock().extend(overdue);
        let took = self.clock.now().since(begun);
        let (callback, ended) = (name.clone(), outcome.clone());
        log_in_background(move || match ended {
            CallbackOutcome::Completed => tracing::info!(target: "backstay", %callback, ?took, "{ended}"),
            _ => tracing::warn!(target: "backstay", %callback, ?took, "{ended}"),
        });
        Some(Step::new(name, entry.priority, outcome, took))
    }

    /// Gives callbacks that timed out a last moment to end before the process is ended by force: an async one may be
    /// about to be dropped. Uses the system clock, because the process really ends.
    fn wait_for_overdue(&self) {
        if !self.state.is_signalled() {
            return;
        }
        let overdue = self.overdue.lock().clone();
        let clock = Clock::system();
        let deadline = clock.now() + MIN_CALLBACK_TIME;
        let stuck = overdue.into_iter().filter(|run| !run.returns_by(&clock, deadline)).collect();
        *self.overdue.lock() = stuck;
    }

    /// Returns whether code of a callback that timed out is executing.
    fn still_running(&self) -> bool {
        self.overdue.lock().iter().any(|run: &Arc<CallbackRun>| run.is_executing())
    }

    fn force_exit(&self) -> ! {
        let code = self.plan.force_exit_code();
        end_process(code, MIN_CALLBACK_TIME, move || {
            tracing::error!(target: "backstay", code, "shutdown is over and callbacks still run: exiting by force");
        })
    }
}

/// How long a second signal waits for its log line: enough for a log that does not block.
const LOG_TIMEOUT_AT_EXIT: Duration = Duration::from_millis(50);

/// Logs, flushes and ends the process. A callback that hangs may hold a lock that logging or flushing needs, so both
/// get at most `timeout`.
fn end_process(code: i32, timeout: Duration, log: impl FnOnce() + Send + 'static) -> ! {
    let (done, wait) = mpsc::channel();
    log_in_background(log);
    let _ = threads::named("backstay-flush").spawn(move || {
        log::flush(timeout);
        let _ = std::io::stdout().flush();
        let _ = done.send(());
    });
    let _ = wait.recv_timeout(timeout);
    exit_at_once(code)
}
