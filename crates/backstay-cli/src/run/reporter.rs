//! Reports: the log, the heartbeat file that `status` reads, and systemd.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backstay::clock::Moment;
use backstay::config::Config;
use backstay::heartbeat::Status;
use backstay::{BuildError, Heartbeat};
use serde_json::{Map, Value, json};

use super::background::within;
use super::claim::Claim;
use super::event::Standing;
use super::log::Log;
use super::news::News;
use super::notify::Mouth;
use super::supervisor::Supervisor;

/// How long the end waits for the last beat, on a bad disk.
const FAREWELL: Duration = Duration::from_secs(5);

pub(crate) struct Reporter {
    pub(crate) log: Log,
    command: String,
    heartbeat: Option<Heartbeat>,
    claim: Option<Claim>,
    mouth: Mouth,
    /// What the program says of itself.
    text: Option<String>,
    told: Option<Standing>,
    /// There is a text that was not told yet.
    is_new: bool,
    /// Before then no new text is told: each is a write to the disk.
    next_text: Moment,
}

/// At most one change of the program's status text is reported in this time, the last one.
const TEXT_INTERVAL: Duration = Duration::from_secs(1);

impl Reporter {
    pub(crate) fn new(command: &str, log: Log) -> Self {
        Self {
            log,
            command: command.to_owned(),
            heartbeat: None,
            claim: None,
            mouth: Mouth::of_process(),
            text: None,
            told: None,
            is_new: false,
            next_text: Moment::from_nanos(0),
        }
    }

    /// Begins to beat, so that `status` sees it.
    pub(crate) fn beat(
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
                        log.tell(&News::Trouble { what: format!("no heartbeat: {error}") });
                    }
                },
            );
        if let Some(interval) = interval {
            builder = builder.interval(interval);
        }
        let heartbeat = builder.config(config).metadata([("command", self.command.as_str())]).build()?;
        if let Err(error) = heartbeat.start() {
            self.tell(&News::Trouble { what: format!("no heartbeat: {error}") });
        }
        self.heartbeat = Some(heartbeat);
        Ok(())
    }

    /// How often systemd wants to hear that we live.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.mouth.every
    }

    pub(crate) fn alive(&self) {
        self.mouth.say("WATCHDOG=1");
    }

    /// What the last start said of itself does not hold for the next.
    pub(crate) fn forget(&mut self) {
        self.text = None;
    }

    pub(crate) fn tell(&self, news: &News) {
        self.log.tell(news);
    }

    /// Takes what the program says of itself.
    pub(crate) fn status_text(&mut self, text: String) {
        let text = Some(text).filter(|text| !text.is_empty());
        self.is_new |= self.text != text;
        self.text = text;
    }

    /// When [`show`](Self::show) has a new text to report.
    pub(crate) fn deadline(&self) -> Moment {
        if self.is_new { self.next_text } else { Moment::NEVER }
    }

    /// Reports the state, if it changed.
    pub(crate) fn show(&mut self, supervisor: &Supervisor, now: Moment) {
        let standing = supervisor.standing();
        if self.told.replace(standing) == Some(standing) && now < self.deadline() {
            return;
        }
        if std::mem::take(&mut self.is_new) {
            self.next_text = now + TEXT_INTERVAL;
        }
        let (word, status) = match standing {
            Standing::Waiting if supervisor.last_exit().is_none() => ("starting", Status::Starting),
            Standing::Waiting => ("waiting to restart", Status::Degraded),
            Standing::Starting => ("starting", Status::Starting),
            Standing::Running => ("running", Status::Ready),
            Standing::Suspended => ("suspended", Status::Degraded),
            Standing::Frozen => ("frozen", Status::Degraded),
            Standing::Ending => ("stopping", Status::Stopping),
            Standing::Done if supervisor.has_failed() => ("failed", Status::Degraded),
            Standing::Done => ("stopped", Status::Stopping),
        };
        let text = self.text.as_deref();
        let mut said = format!("STATUS={}", text.map_or_else(|| word.to_owned(), |text| format!("{word}: {text}")));
        if status == Status::Ready {
            said += "\nREADY=1";
        }
        self.mouth.say(&said);

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
        self.mouth.say("STOPPING=1");
    }

    /// A program that was to end, or ended well, has stopped. One that failed is gone: whoever probes its heartbeat is
    /// not to take the one for the other.
    pub(crate) fn farewell(self, well: bool) {
        let (heartbeat, claim) = (self.heartbeat, self.claim);
        let farewell = move || {
            if let Some(heartbeat) = heartbeat {
                if well {
                    heartbeat.stop();
                } else {
                    let _ = heartbeat.beat();
                    // Its destructor would say farewell.
                    std::mem::forget(heartbeat);
                }
            }
            // Until here the name is ours.
            drop(claim);
        };
        let _ = within(FAREWELL, farewell);
    }
}
