//! Reports of firings, and running the callbacks with them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::WatchdogInner;
use super::callback_pool::CallbackPool;
use super::error::NameOrUnnamed;
use super::shared::thread_name;
use crate::alert::Alert;
use crate::log::{flush, log_in_background};

/// Longest time that a callback is delayed until the log line is written.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(250);

/// Describes a firing of a watchdog: which thread is frozen, and for how long.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TimeoutReport {
    /// The watchdog's name, if it has one.
    pub name: Option<Arc<str>>,
    /// Operating system id of the thread that last pinged or started the watchdog.
    ///
    /// `None` for a heartbeat file, and on systems other than Linux.
    pub thread_id: Option<u32>,
    /// Name of that thread, if it is still alive.
    pub thread_name: Option<String>,
    /// Stack of that thread when the watchdog fired.
    ///
    /// `None` unless [`stack_of`](super::WatchdogBuilder::stack_of) returns one.
    pub stack: Option<Arc<str>>,
    /// Time since the last ping, excluding time in which the process did not run.
    ///
    /// For a heartbeat file, time since the last check that found the service alive.
    pub inactive: Duration,
    /// Number of times the watchdog has fired, including this one.
    pub firings: u64,
    /// The watched heartbeat file.
    pub state_file: Option<PathBuf>,
    /// Why the service of the heartbeat file is considered dead.
    pub reason: Option<String>,
}

/// A firing that has not been reported yet.
pub(super) struct Firing {
    pub(super) inactive: Duration,
    pub(super) count: u64,
    pub(super) reason: Option<String>,
}

impl WatchdogInner {
    /// Logs the firing and runs the callbacks, on threads of `pool`.
    pub(super) fn report(self: Arc<Self>, pool: &'static CallbackPool, firing: Firing) {
        pool.submit(move || {
            let report = self.describe(firing);
            let logged = report.clone();
            log_in_background(move || logged.log());
            // A callback may end the process, so the log line comes first, unless the log blocks.
            if self.on_timeout.is_some() || self.on_alert.is_some() {
                flush(FLUSH_TIMEOUT);
            }
            // Two callbacks run on two threads, so that one that hangs does not prevent the other.
            match (self.on_timeout.clone(), self.on_alert.is_some()) {
                (None, _) => self.alert(&report),
                (Some(on_timeout), false) => log_failure("on_timeout", &report, on_timeout.run(&report)),
                (Some(on_timeout), true) => {
                    let alerted = report.clone();
                    pool.submit(move || self.alert(&alerted));
                    log_failure("on_timeout", &report, on_timeout.run(&report));
                }
            }
        });
    }

    fn describe(&self, firing: Firing) -> TimeoutReport {
        let file = self.shared.file.as_ref();
        let thread_id = if file.is_some() { None } else { self.shared.pinger() };
        TimeoutReport {
            name: self.name.clone(),
            thread_id,
            thread_name: thread_id.and_then(thread_name),
            stack: thread_id.and_then(|thread| self.stack_of(thread)),
            inactive: firing.inactive,
            firings: firing.count,
            state_file: file.map(|file| file.path.clone()),
            reason: firing.reason,
        }
    }

    fn stack_of(&self, thread: u32) -> Option<Arc<str>> {
        let stack_of = self.stack_of?;
        // A panic here must not prevent the report.
        std::panic::catch_unwind(|| stack_of(thread)).ok().flatten().map(Arc::from)
    }

    fn alert(&self, report: &TimeoutReport) {
        if let Some(on_alert) = &self.on_alert {
            log_failure("on_alert", report, on_alert.run(&report.alert()));
        }
    }
}

impl TimeoutReport {
    fn log(&self) {
        tracing::error!(
            target: "backstay",
            watchdog = self.name.as_deref(),
            thread = self.thread_name.as_deref(),
            thread_id = self.thread_id,
            seconds = self.inactive.as_secs_f64(),
            firings = self.firings,
            stack = self.stack.as_deref(),
            "{self}"
        );
    }

    fn alert(&self) -> Alert {
        let context = [
            ("name", json!(self.name.as_deref())),
            ("seconds_inactive", json!(self.inactive.as_secs_f64())),
            ("firings", json!(self.firings)),
            ("thread_id", json!(self.thread_id)),
            ("thread_name", json!(self.thread_name)),
            ("stack", json!(self.stack.as_deref())),
            ("state_file", json!(self.state_file.as_ref().map(|path| path.to_string_lossy()))),
            ("reason", json!(self.reason)),
        ];
        Alert::new("watchdog", self.to_string(), context)
    }
}

/// Formats the report as one line, as in the log.
impl fmt::Display for TimeoutReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "watchdog {}", NameOrUnnamed(self.name.as_ref()))?;
        if let Some(reason) = &self.reason {
            return write!(f, ": {reason}");
        }
        write!(f, " received no ping for {:.3} s", self.inactive.as_secs_f64())?;
        match (&self.thread_name, self.thread_id) {
            (Some(thread), Some(id)) => write!(f, ", thread {thread:?} ({id})"),
            _ => Ok(()),
        }
    }
}

fn log_failure(callback: &str, report: &TimeoutReport, outcome: Result<(), String>) {
    if let Err(panic) = outcome {
        let (watchdog, callback) = (report.name.clone(), callback.to_owned());
        log_in_background(
            move || tracing::error!(target: "backstay", watchdog = watchdog.as_deref(), panic, "the watchdog's {callback} callback panicked"),
        );
    }
}
