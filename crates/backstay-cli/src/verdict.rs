//! What a heartbeat file says about its service: the state, the reason, the exit code.

use std::path::{Path, PathBuf};
use std::time::Duration;

use backstay::heartbeat::{HeartbeatState, Liveness, Status, tolerated_age};
use backstay::{Heartbeat, HeartbeatError};
use clap::Args;
use serde_json::{Value, json};

use crate::values::duration;

/// How a heartbeat is judged.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct Judging {
    /// Maximum age of the last heartbeat [default: three of its intervals, at least 30s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) max_age: Option<Duration>,
    /// Judge readiness: only status `ready` passes
    #[arg(long)]
    pub(crate) strict: bool,
    /// A supervisor's heartbeat is judged without regard to its program.
    #[arg(skip)]
    pub(crate) supervisor: bool,
}

/// Appends the exit codes to the help of a command.
macro_rules! with_codes {
    ($examples:literal) => {
        concat!(
            $examples,
            "

Exit codes:
   0  alive
   2  invalid command line
   3  stale: the last heartbeat is too old
   4  process gone: it ended without a final heartbeat
   5  alive, but degraded (with --strict)
   6  stopped in order
   7  no such file
   8  damaged: not a heartbeat, too large, or not a regular file
   9  the file cannot be read
  10  the timestamp is in the future: a clock is wrong
  11  alive, but starting or stopping (with --strict)
  12  not running: the supervisor is alive, its program is not"
        )
    };
}
pub(crate) use with_codes;

/// What became of a service, the best first. An orderly end is no failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Verdict {
    Alive,
    Stopped,
    NotReady,
    Degraded,
    Missing,
    Unreadable,
    Damaged,
    FromFuture,
    /// Its supervisor is alive.
    NotRunning,
    Stale,
    ProcessGone,
}

/// The verdict in one word of a few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Alive,
    Stopped,
    Unknown,
    Dead,
}

impl Verdict {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 11] = [
        Self::Alive,
        Self::Stopped,
        Self::NotReady,
        Self::Degraded,
        Self::Missing,
        Self::Unreadable,
        Self::Damaged,
        Self::FromFuture,
        Self::NotRunning,
        Self::Stale,
        Self::ProcessGone,
    ];

    /// The exit code of `probe`. 1 stays free for unexpected failures.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Alive => 0,
            Self::Stale => 3,
            Self::ProcessGone => 4,
            Self::Degraded => 5,
            Self::Stopped => 6,
            Self::Missing => 7,
            Self::Damaged => 8,
            Self::Unreadable => 9,
            Self::FromFuture => 10,
            Self::NotReady => 11,
            Self::NotRunning => 12,
        }
    }

    pub(crate) const fn state(self) -> State {
        match self {
            Self::Alive | Self::NotReady | Self::Degraded => State::Alive,
            Self::Missing | Self::Unreadable | Self::Damaged | Self::FromFuture => State::Unknown,
            Self::Stopped => State::Stopped,
            Self::NotRunning | Self::Stale | Self::ProcessGone => State::Dead,
        }
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::NotReady => "not ready",
            Self::Degraded => "degraded",
            Self::Stopped => "stopped",
            Self::Missing => "missing",
            Self::Unreadable => "unreadable",
            Self::Damaged => "damaged",
            Self::FromFuture => "from the future",
            Self::NotRunning => "not running",
            Self::Stale => "stale",
            Self::ProcessGone => "process gone",
        }
    }
}

impl State {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "ALIVE",
            Self::Stopped => "STOPPED",
            Self::Unknown => "UNKNOWN",
            Self::Dead => "DEAD",
        }
    }
}

/// How it is shown: the states, and what people want to tell apart at a glance. The best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Look {
    Well,
    Stopped,
    /// Alive, and degraded, starting or stopping.
    Unready,
    Unknown,
    Dead,
}

impl Look {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Unready => "unready",
            Self::Stopped => "stopped",
            Self::Unknown => "unknown",
            Self::Dead => "dead",
        }
    }
}

/// One look at one heartbeat file.
#[derive(Clone, Debug)]
pub(crate) struct Sighting {
    pub(crate) path: PathBuf,
    pub(crate) verdict: Verdict,
    /// The verdict in words, with what led to it.
    pub(crate) message: String,
    /// How old the last beat is, as far as anyone can say.
    pub(crate) age: Option<Duration>,
    /// What the file says, where it says anything.
    pub(crate) heartbeat: Option<HeartbeatState>,
}

impl Sighting {
    pub(crate) fn of(path: &Path, judging: Judging) -> Self {
        match Heartbeat::read_state(path) {
            Ok(heartbeat) => Self::read(path, heartbeat, judging),
            Err(error) => {
                let verdict = match error {
                    HeartbeatError::Missing { .. } => Verdict::Missing,
                    HeartbeatError::Damaged { .. }
                    | HeartbeatError::TooLarge { .. }
                    | HeartbeatError::NotAFile { .. } => Verdict::Damaged,
                    _ => Verdict::Unreadable,
                };
                Self { path: path.to_owned(), verdict, message: error.to_string(), age: None, heartbeat: None }
            }
        }
    }

    /// Of a folder that cannot be looked at.
    pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        let message = format!("{}: {error}", path.display());
        Self { path: path.to_owned(), verdict: Verdict::Unreadable, message, age: None, heartbeat: None }
    }

    fn read(path: &Path, heartbeat: HeartbeatState, judging: Judging) -> Self {
        let max_age = judging.max_age.unwrap_or_else(|| tolerated_age(heartbeat.interval));
        let liveness = heartbeat.liveness(max_age);
        let by_timestamp = heartbeat.timestamp.elapsed().ok();
        let (verdict, age) = match liveness {
            Liveness::Alive { age } => (alive(&heartbeat, judging), Some(age)),
            Liveness::Stale { age } => (Verdict::Stale, Some(age)),
            Liveness::FromFuture { .. } => (Verdict::FromFuture, None),
            Liveness::Stopped => (Verdict::Stopped, by_timestamp),
            _ => (Verdict::ProcessGone, by_timestamp),
        };
        let status = heartbeat.status.filter(|_| verdict.state() == State::Alive);
        let said = match verdict {
            Verdict::NotRunning => "program not running, supervisor ".to_owned(),
            _ => status.map(|status| format!("{status}, ")).unwrap_or_default(),
        };
        let limit = match verdict {
            Verdict::Stale => format!(", {:.1} s allowed", max_age.as_secs_f64()),
            _ => String::new(),
        };
        let message = format!("{}: {said}process {}: {liveness}{limit}", path.display(), heartbeat.pid);
        Self { path: path.to_owned(), verdict, message, age, heartbeat: Some(heartbeat) }
    }

    pub(crate) fn look(&self) -> Look {
        let status = self.heartbeat.as_ref().and_then(|heartbeat| heartbeat.status);
        match self.verdict.state() {
            State::Dead => Look::Dead,
            State::Unknown => Look::Unknown,
            State::Stopped => Look::Stopped,
            State::Alive if readiness(status) == Verdict::Alive => Look::Well,
            State::Alive => Look::Unready,
        }
    }

    /// How bad it is, for an order with the worst first. A service that is alive may be degraded all the same.
    pub(crate) fn rank(&self) -> (Look, Verdict) {
        (self.look(), self.verdict)
    }

    /// What a person wants to know first, in one line: "running · 2 restarts · 40 orders".
    pub(crate) fn summary(&self) -> String {
        let heartbeat = self.heartbeat.as_ref();
        // Metadata may hold anything; only text is shown as text.
        let text = |key| heartbeat.and_then(|beat| beat.metadata.get(key)?.as_str()).unwrap_or_default();
        let count = |key: &str, word| {
            let count = heartbeat.and_then(|beat| beat.metadata.get(key)?.as_u64()).filter(|count| *count > 0);
            count.map(|count| format!("{count} {word}{}", if count == 1 { "" } else { "s" })).unwrap_or_default()
        };
        let status = heartbeat.and_then(|beat| beat.status).map(Status::as_str);
        let state = match (self.verdict, text("state")) {
            (Verdict::NotRunning, state) if !state.is_empty() => state,
            (verdict, _) if verdict.state() != State::Alive => verdict.as_str(),
            (_, "") => status.unwrap_or_default(),
            (_, state) => state,
        };
        let last_exit = Some(text("last_exit")).filter(|exit| !exit.is_empty() && self.look() != Look::Well);
        let parts = [
            state.to_owned(),
            count("restarts", "restart"),
            count("freezes", "freeze"),
            last_exit.map(|exit| format!("last: {exit}")).unwrap_or_default(),
            text("says").to_owned(),
        ];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ")
    }

    /// One object, for programs. Times are in seconds.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "file": self.path.to_string_lossy(),
            "state": self.verdict.state().as_str(),
            "verdict": self.verdict.as_str(),
            "exit_code": self.verdict.code(),
            "message": self.message,
            "age": self.age.map(|age| age.as_secs_f64()),
            "heartbeat": self.heartbeat.as_ref().and_then(|heartbeat| serde_json::to_value(heartbeat).ok()),
        })
    }
}

/// What a live process says of itself, or of its program.
fn alive(heartbeat: &HeartbeatState, judging: Judging) -> Verdict {
    if is_supervisor(heartbeat) && !judging.supervisor && !heartbeat.metadata.contains_key("child") {
        return Verdict::NotRunning;
    }
    if judging.strict { readiness(heartbeat.status) } else { Verdict::Alive }
}

fn readiness(status: Option<Status>) -> Verdict {
    match status {
        Some(Status::Degraded) => Verdict::Degraded,
        Some(Status::Starting | Status::Stopping) => Verdict::NotReady,
        _ => Verdict::Alive,
    }
}

/// Whether `backstay run` wrote a heartbeat: by the facts that its metadata always has. A program that runs is `child`.
pub(crate) fn is_supervisor(heartbeat: &HeartbeatState) -> bool {
    ["command", "state", "restarts", "freezes"].iter().all(|key| heartbeat.metadata.contains_key(*key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(verdict: Verdict, status: &str, metadata: &Value) -> Sighting {
        let json = json!({
            "timestamp": "2001-01-01T00:00:00Z", "pid": 7, "hostname": "h", "status": status, "metadata": metadata,
        });
        let heartbeat = serde_json::from_value(json).unwrap();
        Sighting { path: "x".into(), verdict, message: String::new(), age: None, heartbeat: Some(heartbeat) }
    }

    #[test]
    fn a_summary_says_what_a_person_wants_to_know_first() {
        let supervisor = json!({
            "command": "x", "state": "waiting to restart", "restarts": 1, "freezes": 2, "last_exit": "exit code 1",
            "says": "40 orders",
        });
        let summary = |verdict, status, metadata: &Value| of(verdict, status, metadata).summary();
        assert_eq!(
            summary(Verdict::NotRunning, "degraded", &supervisor),
            "waiting to restart · 1 restart · 2 freezes · last: exit code 1 · 40 orders"
        );
        assert_eq!(
            summary(Verdict::Alive, "ready", &supervisor),
            "waiting to restart · 1 restart · 2 freezes · 40 orders"
        );
        assert_eq!(summary(Verdict::Stale, "ready", &json!({"restarts": "many", "says": [1]})), "stale");
        assert_eq!(summary(Verdict::Alive, "degraded", &json!({})), "degraded");
        assert_eq!(summary(Verdict::Stopped, "stopped", &json!({"state": "stopping"})), "stopped");
    }

    #[test]
    fn a_program_that_does_not_run_is_told_by_its_supervisors_heartbeat_alone() {
        let judged = |metadata: &Value, supervisor| {
            let heartbeat = of(Verdict::Alive, "ready", metadata).heartbeat.unwrap();
            alive(&heartbeat, Judging { supervisor, ..Judging::default() })
        };
        let mut metadata = json!({"command": "x", "state": "waiting to restart", "restarts": 1, "freezes": 0});
        assert_eq!(judged(&metadata, false), Verdict::NotRunning);
        assert_eq!(judged(&metadata, true), Verdict::Alive);
        metadata["child"] = json!(7);
        assert_eq!(judged(&metadata, false), Verdict::Alive);
        assert_eq!(judged(&json!({"state": "fine"}), false), Verdict::Alive, "a program of its own");
    }

    #[test]
    fn the_help_lists_every_exit_code() {
        let help = with_codes!("");
        for verdict in Verdict::ALL {
            assert_eq!(help.lines().filter(|line| line.starts_with(&format!("{:>4}  ", verdict.code()))).count(), 1);
        }
    }
}
