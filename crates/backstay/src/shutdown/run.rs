//! The run: each callback's turn, the report, and the end of the process where that has to be forced.

use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use backstay_core::shutdown::{Budget, OnSignal, Outcome, SHORT_TURN, Step};

use super::turn::{self, Runtimes, Turn};
use super::{Inner, Signal};
#[cfg(feature = "tokio")]
use crate::callback::caught;
use crate::clock::{Clock, Moment};
use crate::log::{self, log_in_background};
use crate::signals::exit_at_once;
use crate::threads;

impl Inner {
    /// Begins the shutdown, where it has not begun: on a thread of its own, so that nobody who waits for it can take
    /// it along when he stops waiting.
    pub(super) fn begin(self: &Arc<Self>, runtimes: Runtimes) {
        if self.stage.begin() {
            self.start(None, runtimes);
        }
    }

    /// A signal arrived.
    pub(super) fn signal(self: &Arc<Self>, signal: Signal) {
        match self.stage.signal(self.still_running()) {
            OnSignal::Begin => self.start(Some(signal), Runtimes::default()),
            OnSignal::Note => {
                log_in_background(move || tracing::info!(target: "backstay", %signal, "shutdown is under way"));
            }
            OnSignal::Exit => end_process(signal.exit_code(), AT_ONCE, move || {
                tracing::error!(target: "backstay", %signal, "second signal during shutdown: exit at once");
            }),
            OnSignal::ForceExit => self.force_exit(),
        }
    }

    fn start(self: &Arc<Self>, signal: Option<Signal>, runtimes: Runtimes) {
        #[cfg(feature = "tokio")]
        let _ = caught(|| self.token.cancel());
        let (inner, begun) = (Arc::clone(self), self.clock.now());
        turn::on_thread("backstay-shutdown", move || inner.run(begun, signal, &runtimes));
    }

    fn run(&self, begun: Moment, signal: Option<Signal>, runtimes: &Runtimes) {
        #[cfg(feature = "tokio")]
        let _context = runtimes.found.as_ref().map(tokio::runtime::Handle::enter);
        let cause = signal.map_or_else(|| "trigger".to_owned(), |signal| signal.to_string());
        let callbacks = self.roster.lock().len();
        log_in_background(move || tracing::info!(target: "backstay", cause, callbacks, "shutdown begins"));
        self.drain(begun);
        let budget = Budget::start(self.clock.now(), self.plan.timeout());
        while let Some(step) = self.next_turn(budget, runtimes) {
            self.known.lock().steps.push(step);
        }
        let report = {
            let mut known = self.known.lock();
            known.took = self.clock.now().since(begun);
            Arc::new(known.clone())
        };
        let told = Arc::clone(&report);
        log_in_background(move || match told.is_clean() {
            true => tracing::info!(target: "backstay", "{told}"),
            false => tracing::warn!(target: "backstay", "{told}"),
        });
        // Who waits for the end may end the process.
        log::flush(SHORT_TURN);
        self.let_go();
        #[cfg(feature = "tokio")]
        self.reserve.empty();
        if self.stage.finish(report, self.still_running()) {
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

    /// Lets the next callback have its turn.
    fn next_turn(&self, budget: Budget, runtimes: &Runtimes) -> Option<Step> {
        let entry = self.roster.lock().next()?;
        let (name, begun) = (entry.name, self.clock.now());
        let time = budget.turn(begun, entry.timeout);
        let callback = name.clone();
        log_in_background(
            move || tracing::debug!(target: "backstay", %callback, timeout = ?time, "shutdown callback begins"),
        );
        let room = turn::Room {
            clock: &self.clock,
            runtimes,
            #[cfg(feature = "tokio")]
            reserve: &self.reserve,
        };
        let (outcome, left) = turn::run(self.id(), &name, entry.callback, time, &room);
        self.overdue.lock().extend(left);
        let took = self.clock.now().since(begun);
        let (callback, ended) = (name.clone(), outcome.clone());
        log_in_background(move || match ended {
            Outcome::Completed => tracing::info!(target: "backstay", %callback, ?took, "{ended}"),
            _ => tracing::warn!(target: "backstay", %callback, ?took, "{ended}"),
        });
        Some(Step::new(name, entry.priority, outcome, took))
    }

    /// Before the process is ended because callbacks do not, they have a moment to: an async one whose time was up may
    /// be about to be dropped. Real time, since it is the real process that ends.
    fn let_go(&self) {
        if !self.stage.is_signalled() {
            return;
        }
        let overdue = self.overdue.lock().clone();
        let clock = Clock::system();
        let patience = clock.now() + SHORT_TURN;
        let stuck = overdue.into_iter().filter(|turn| !turn.comes_back(&clock, patience)).collect();
        *self.overdue.lock() = stuck;
    }

    /// Whether code of a callback is executed whose time is up.
    fn still_running(&self) -> bool {
        self.overdue.lock().iter().any(|turn: &Arc<Turn>| turn.is_busy())
    }

    fn force_exit(&self) -> ! {
        let code = self.plan.force_exit_code();
        end_process(code, SHORT_TURN, move || {
            tracing::error!(target: "backstay", code, "shutdown is over and callbacks still run: exit by force");
        })
    }
}

/// What a log line may cost when "at once" was asked for: enough for any log that is not stuck.
const AT_ONCE: Duration = Duration::from_millis(50);

/// Logs, flushes and ends the process. A hanging callback may hold the very lock that logging or flushing needs, so
/// neither is waited for longer than `patience`.
fn end_process(code: i32, patience: Duration, log: impl FnOnce() + Send + 'static) -> ! {
    let (done, wait) = mpsc::channel();
    log_in_background(log);
    let _ = threads::named("backstay-flush").spawn(move || {
        log::flush(patience);
        let _ = std::io::stdout().flush();
        let _ = done.send(());
    });
    let _ = wait.recv_timeout(patience);
    exit_at_once(code)
}
