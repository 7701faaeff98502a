//! Who froze, and telling those who asked to be told.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::Inner;
use super::beat::thread_name;
use super::runners::Runners;
use crate::alert::Alert;
use crate::error::Named;
use crate::log::{flush, log_in_background};

/// How long a callback waits for the log.
const LOG_FIRST: Duration = Duration::from_millis(250);

/// A watchdog has fired: who froze, and for how long.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TimeoutReport {
    /// The watchdog's name, where it has one.
    pub name: Option<Arc<str>>,
    /// The operating system's id of the thread that pinged last, or started the watchdog. `None` for a heartbeat file,
    /// and where the system does not say.
    pub thread_id: Option<u32>,
    /// That thread's name, while it is alive.
    pub thread_name: Option<String>,
    /// What that thread was doing when the watchdog fired, where [`stack_of`](super::WatchdogBuilder::stack_of) says.
    pub stack: Option<Arc<str>>,
    /// How long nobody had pinged, without the time in which the process did not run. For a heartbeat file, how long
    /// ago it was last seen to be well.
    pub inactive: Duration,
    /// How often the watchdog has fired, this time included.
    pub firings: u64,
    /// The heartbeat file that is watched.
    pub state_file: Option<PathBuf>,
    /// What is wrong with the heartbeat file.
    pub reason: Option<String>,
}

/// A firing, before anybody is told.
pub(super) struct Firing {
    pub(super) inactive: Duration,
    pub(super) count: u64,
    pub(super) reason: Option<String>,
}

impl Inner {
    /// Tells everybody, on another thread.
    pub(super) fn report(self: Arc<Self>, runners: &'static Runners, firing: Firing) {
        runners.submit(move || {
            let report = self.describe(firing);
            let told = report.clone();
            log_in_background(move || told.log());
            // A callback may end the process: it comes after the words, unless nobody reads them.
            if self.on_timeout.is_some() || self.on_alert.is_some() {
                flush(LOG_FIRST);
            }
            // Each on its own thread when there are two: one that hangs does not silence the other.
            match (self.on_timeout.clone(), self.on_alert.is_some()) {
                (None, _) => self.alert(&report),
                (Some(on_timeout), false) => log_failure("on_timeout", &report, on_timeout.run(&report)),
                (Some(on_timeout), true) => {
                    let alerted = report.clone();
                    runners.submit(move || self.alert(&alerted));
                    log_failure("on_timeout", &report, on_timeout.run(&report));
                }
            }
        });
    }

    fn describe(&self, firing: Firing) -> TimeoutReport {
        let file = self.beat.file.as_ref();
        let thread_id = if file.is_some() { None } else { self.beat.pinger() };
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
        // Without the stack the report is still worth having.
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

/// The report as one line, as the log has it.
impl fmt::Display for TimeoutReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "watchdog{}", Named(self.name.as_ref()))?;
        if let Some(reason) = &self.reason {
            return write!(f, ": {reason}");
        }
        write!(f, " saw no ping for {:.3} s", self.inactive.as_secs_f64())?;
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
            move || tracing::error!(target: "backstay", watchdog = watchdog.as_deref(), panic, "a watchdog's {callback} panicked"),
        );
    }
}
