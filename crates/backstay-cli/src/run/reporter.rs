//! Telling the world: the log, the heartbeat file that `status` sees, and systemd.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backstay::heartbeat::Status;
use backstay::{BuildError, Heartbeat};
use rustix::fs::OFlags;
use rustix::process::getuid;
use serde_json::{Map, Value, json};

use super::event::Standing;
use super::log::Log;
use super::news::News;
use super::notify::Mouth;
use super::supervisor::Supervisor;
use crate::places;
use crate::verdict::{Judging, Sighting, State};

pub(crate) struct Reporter {
    name: String,
    pub(crate) log: Log,
    command: String,
    heartbeat: Option<Heartbeat>,
    /// Held for as long as the name is ours; the kernel lets go of it, however we end.
    claim: Claim,
    /// The heartbeat file where the name is somebody else's: nobody will have that name again.
    aside: Option<PathBuf>,
    mouth: Mouth,
    /// What the program says of itself.
    text: Option<String>,
    told: Option<Standing>,
}

impl Reporter {
    pub(crate) fn new(name: &str, command: &str, log: Log) -> Self {
        Self {
            name: name.to_owned(),
            log,
            command: command.to_owned(),
            heartbeat: None,
            claim: Claim::NoLocks,
            aside: None,
            mouth: Mouth::of_process(),
            text: None,
            told: None,
        }
    }

    /// Begins to beat, so that `status` sees it.
    pub(crate) fn beat(&mut self, interval: Option<Duration>, file_mode: u32) -> Result<(), BuildError> {
        let folder = match places::make_folder() {
            Ok(folder) => folder,
            Err(error) => {
                self.tell(&News::Trouble { what: format!("no heartbeat: {error}") });
                return Ok(());
            }
        };
        let path = |name: &str| folder.join(format!("{name}.{}", places::EXTENSION));
        let mut file = path(&self.name);
        // Another of the same name keeps its file, also before its first beat; and whoever else beats into it.
        match claim(&folder, &self.name) {
            Ok(claim) => self.claim = claim,
            Err(error) => {
                self.tell(&News::Trouble { what: format!("no heartbeat: {error}") });
                return Ok(());
            }
        }
        if matches!(self.claim, Claim::Taken)
            || is_foreign(&Sighting::of(&file, Judging::default()), matches!(self.claim, Claim::Ours(_)))
        {
            file = path(&format!("{}-{}", self.name, std::process::id()));
            self.aside = Some(file.clone());
        }
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
        let heartbeat = builder.metadata([("command", self.command.as_str())]).build()?;
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

    /// What the program says of itself.
    pub(crate) fn status_text(&mut self, text: String, supervisor: &Supervisor) {
        self.text = Some(text).filter(|text| !text.is_empty());
        self.told = None;
        self.show(supervisor);
    }

    /// Tells how things stand, where that is news.
    pub(crate) fn show(&mut self, supervisor: &Supervisor) {
        let standing = supervisor.standing();
        if self.told.replace(standing) == Some(standing) {
            return;
        }
        let (word, status) = match standing {
            Standing::Waiting if supervisor.last_exit().is_none() => ("starting", Status::Starting),
            Standing::Waiting => ("waits to start again", Status::Degraded),
            Standing::Starting => ("starting", Status::Starting),
            Standing::Running => ("running", Status::Ready),
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
        if let Some(heartbeat) = self.heartbeat {
            if well {
                heartbeat.stop();
            } else {
                let _ = heartbeat.beat();
                // Its destructor would say farewell.
                std::mem::forget(heartbeat);
            }
        }
        if let Some(file) = self.aside {
            let _ = std::fs::remove_file(file);
        }
        drop(self.claim);
    }
}

/// Whether somebody else beats into a file. Under a lock that is `ours` no supervisor does: what one wrote there is what
/// became of the last, in a container that started again perhaps, whose processes nobody sees.
fn is_foreign(sighting: &Sighting, ours: bool) -> bool {
    let has = |key: &str| sighting.heartbeat.as_ref().is_some_and(|beat| beat.metadata.contains_key(key));
    sighting.verdict.state() == State::Alive && !(ours && has("command") && has("state"))
}

/// Whose a name is.
enum Claim {
    Ours(#[expect(dead_code, reason = "held, not looked at")] File),
    /// Another process holds the lock.
    Taken,
    /// A file system without locks, or no folder: nobody can say.
    NoLocks,
}

/// Locks a name. A file that another user planted under the lock's name is neither
/// followed nor used, because that user could hold the lock for ever.
fn claim(folder: &Path, name: &str) -> io::Result<Claim> {
    let path = folder.join(format!("{name}.lock"));
    let fail = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let lock = options.custom_flags(flags.bits().cast_signed()).open(&path).map_err(fail)?;
    let there = lock.metadata().map_err(fail)?;
    if !there.is_file() || there.uid() != getuid().as_raw() {
        const WHY: &str = "not a file of this user; set BACKSTAY_DIR to another folder";
        return Err(fail(io::Error::new(io::ErrorKind::PermissionDenied, WHY)));
    }
    Ok(match lock.try_lock() {
        Ok(()) => Claim::Ours(lock),
        Err(TryLockError::WouldBlock) => Claim::Taken,
        Err(TryLockError::Error(_)) => Claim::NoLocks,
    })
}
