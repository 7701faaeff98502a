//! Reports the supervisor's state: to the log, to the heartbeat file that `status` reads, and to systemd.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backstay::clock::Moment;
use backstay::config::Config;
use backstay::heartbeat::Status;
use backstay::{BuildError, Heartbeat};
use serde_json::{Map, Value, json};

use super::background::within;
use super::claim::Claim;
use super::event::SupervisorState;
use super::log::Log;
use super::log_event::LogEvent;
use super::notify::SupervisorNotifier;
use super::supervisor::Supervisor;

/// How long the end of the supervisor waits for the last heartbeat, if the disk hangs.
const LAST_BEAT_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct Reporter {
    pub(crate) log: Log,
    command: String,
    heartbeat: Option<Heartbeat>,
    claim: Option<Claim>,
    notifier: SupervisorNotifier,
    /// The status text that the program sent.
    text: Option<String>,
    reported: Option<SupervisorState>,
    /// The status text has not been reported yet.
    has_new_text: bool,
    /// No new text is reported before then, because each report writes to the disk.
    next_text: Moment,
}

/// Minimum time between two reports of the program's status text; the last text is reported.
const TEXT_INTERVAL: Duration = Duration::from_secs(1);

impl Reporter {
    pub(crate) fn new(command: &str, log: Log) -> Self {
        Self {
            log,
            command: command.to_owned(),
            heartbeat: None,
            claim: None,
            notifier: SupervisorNotifier::of_process(),
            text: None,
            reported: None,
            has_new_text: false,
            next_text: Moment::from_nanos(0),
        }
    }

    /// Starts the supervisor's heartbeat, which `status` reads.
    pub(crate) fn start_heartbeat(
        &mut self,
        claim: Claim,
        interval: Option<Duration>,
        file_mode: u32,
        config: &Config,
    ) -> Result<(), BuildError> {
        let file = claim.file.clone();
        self.claim = Some(claim);
        let missed = AtomicBool::new(false);
        let log = self.log.clone();
        let mut builder =
            Heartbeat::builder().state_file(file).file_mode(file_mode).status(Status::Starting).on_missed_beat(
                move |error| {
                    if !missed.swap(true, Ordering::Relaxed) {
                        log.write(&LogEvent::Trouble { what: format!("no heartbeat: {error}") });
                    }
                },
            );
        if let Some(interval) = interval {
            builder = builder.interval(interval);
        }
        let heartbeat = builder.config(config).metadata([("command", self.command.as_str())]).build()?;
        if let Err(error) = heartbeat.start() {
            self.log(&LogEvent::Trouble { what: format!("no heartbeat: {error}") });
        }
        self.heartbeat = Some(heartbeat);
        Ok(())
    }

    /// The interval of `WATCHDOG=1`, if the service manager expects it.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.notifier.every
    }

    pub(crate) fn notify_watchdog(&self) {
        self.notifier.send("WATCHDOG=1");
    }

    /// Clears the status text, which belongs to the previous start.
    pub(crate) fn clear_status_text(&mut self) {
        self.text = None;
    }

    pub(crate) fn log(&self, event: &LogEvent) {
        self.log.write(event);
    }

    /// Sets the status text that the program sent.
    pub(crate) fn status_text(&mut self, text: String) {
        let text = Some(text).filter(|text| !text.is_empty());
        self.has_new_text |= self.text != text;
        self.text = text;
    }

    /// When [`report`](Self::report) has a new text to report.
    pub(crate) fn deadline(&self) -> Moment {
        if self.has_new_text { self.next_text } else { Moment::NEVER }
    }

    /// Reports the state, if it changed.
    pub(crate) fn report(&mut self, supervisor: &Supervisor, now: Moment) {
        let state = supervisor.state();
        if self.reported.replace(state) == Some(state) && now < self.deadline() {
            return;
        }
        if std::mem::take(&mut self.has_new_text) {
            self.next_text = now + TEXT_INTERVAL;
        }
        let (word, status) = match state {
            SupervisorState::Waiting if supervisor.last_exit().is_none() => ("starting", Status::Starting),
            SupervisorState::Waiting => ("waiting to restart", Status::Degraded),
            SupervisorState::Starting => ("starting", Status::Starting),
            SupervisorState::Running => ("running", Status::Ready),
            SupervisorState::Suspended => ("suspended", Status::Degraded),
            SupervisorState::Frozen => ("frozen", Status::Degraded),
            SupervisorState::Ending => ("stopping", Status::Stopping),
            SupervisorState::Done if supervisor.has_failed() => ("failed", Status::Degraded),
            SupervisorState::Done => ("stopped", Status::Stopping),
        };
        let text = self.text.as_deref();
        let mut message = format!("STATUS={}", text.map_or_else(|| word.to_owned(), |text| format!("{word}: {text}")));
        if status == Status::Ready {
            message += "\nREADY=1";
        }
        self.notifier.send(&message);

        let Some(heartbeat) = &self.heartbeat else { return };
        let mut metadata = Map::new();
        let mut set = |key: &str, value: Value| metadata.insert(key.to_owned(), value);
        set("command", json!(self.command));
        set("state", json!(word));
        if let Some(pid) = supervisor.pid() {
            set("child", json!(pid));
        }
        set("restarts", json!(supervisor.restarts()));
        set("freezes", json!(supervisor.freezes()));
        if let Some(exit) = supervisor.last_exit() {
            set("last_exit", json!(exit.to_string()));
        }
        if let Some(text) = text {
            set("says", json!(text));
        }
        let _ = heartbeat.set_metadata(metadata);
        heartbeat.set_status(status);
    }

    pub(crate) fn stopping(&self) {
        self.notifier.send("STOPPING=1");
    }

    /// Writes the last heartbeat. After a success its status is `stopped`. After a failure it is not, so that a probe sees
    /// that the process is gone.
    pub(crate) fn finish(self, success: bool) {
        let (heartbeat, claim) = (self.heartbeat, self.claim);
        let stop = move || {
            if let Some(heartbeat) = heartbeat {
                if success {
                    heartbeat.stop();
                } else {
                    let _ = heartbeat.beat();
                    // Its destructor would write the status `stopped`.
                    std::mem::forget(heartbeat);
                }
            }
            // The name is held until the last heartbeat is written.
            drop(claim);
        };
        let _ = within(LAST_BEAT_TIMEOUT, stop);
    }
}
