//! Checks a heartbeat file: the state of its service, the reason, and the exit code.

use std::path::{Path, PathBuf};
use std::time::Duration;

use backstay::heartbeat::{HeartbeatState, Liveness, Status, tolerated_age};
use backstay::{Heartbeat, HeartbeatError};
use clap::Args;
use serde_json::{Value, json};

use crate::values::duration;

/// Options of a heartbeat check.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct CheckOptions {
    /// Maximum age of the last heartbeat [default: three of its intervals, at least 30s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) max_age: Option<Duration>,
    /// Judge readiness: only status `ready` passes
    #[arg(long)]
    pub(crate) strict: bool,
    /// Judge a supervisor alone, whether or not its program runs.
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

/// The result of a heartbeat check, the best first. An orderly end is not a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum CheckResult {
    Alive,
    Stopped,
    NotReady,
    Degraded,
    Missing,
    Unreadable,
    Damaged,
    FromFuture,
    /// The program is not running, but its supervisor is alive.
    NotRunning,
    Stale,
    ProcessGone,
}

/// The state of a service: a summary of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Alive,
    Stopped,
    Unknown,
    Dead,
}

impl CheckResult {
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

    /// The exit code of `probe`. Code 1 is reserved for unexpected failures.
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

/// How a service is shown and sorted, the best first: its state, with a separate value for services that are not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    Healthy,
    Stopped,
    /// Alive, and degraded, starting or stopping.
    Unready,
    Unknown,
    Dead,
}

impl Severity {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "well",
            Self::Unready => "unready",
            Self::Stopped => "stopped",
            Self::Unknown => "unknown",
            Self::Dead => "dead",
        }
    }
}

/// The check of one heartbeat file.
#[derive(Clone, Debug)]
pub(crate) struct HeartbeatCheck {
    pub(crate) path: PathBuf,
    pub(crate) result: CheckResult,
    /// The result as text, with its reason.
    pub(crate) message: String,
    /// Age of the last heartbeat, if known.
    pub(crate) age: Option<Duration>,
    /// The contents of the file, if it is valid.
    pub(crate) heartbeat: Option<HeartbeatState>,
}

impl HeartbeatCheck {
    pub(crate) fn of(path: &Path, check_options: CheckOptions) -> Self {
        match Heartbeat::read_state(path) {
            Ok(heartbeat) => Self::read(path, heartbeat, check_options),
            Err(error) => {
                let result = match error {
                    HeartbeatError::Missing { .. } => CheckResult::Missing,
                    HeartbeatError::Damaged { .. }
                    | HeartbeatError::TooLarge { .. }
                    | HeartbeatError::NotAFile { .. } => CheckResult::Damaged,
                    _ => CheckResult::Unreadable,
                };
                Self { path: path.to_owned(), result, message: error.to_string(), age: None, heartbeat: None }
            }
        }
    }

    /// The result for a folder that cannot be read.
    pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        let message = format!("{}: {error}", path.display());
        Self { path: path.to_owned(), result: CheckResult::Unreadable, message, age: None, heartbeat: None }
    }

    fn read(path: &Path, heartbeat: HeartbeatState, check_options: CheckOptions) -> Self {
        let max_age = check_options.max_age.unwrap_or_else(|| tolerated_age(heartbeat.interval));
        let liveness = heartbeat.liveness(max_age);
        let by_timestamp = heartbeat.timestamp.elapsed().ok();
        let (result, age) = match liveness {
            Liveness::Alive { age } => (alive(&heartbeat, check_options), Some(age)),
            Liveness::Stale { age } => (CheckResult::Stale, Some(age)),
            Liveness::FromFuture { .. } => (CheckResult::FromFuture, None),
            Liveness::Stopped => (CheckResult::Stopped, by_timestamp),
            _ => (CheckResult::ProcessGone, by_timestamp),
        };
        let status = heartbeat.status.filter(|_| result.state() == State::Alive);
        let prefix = match result {
            CheckResult::NotRunning => "program not running, supervisor ".to_owned(),
            _ => status.map(|status| format!("{status}, ")).unwrap_or_default(),
        };
        let limit = match result {
            CheckResult::Stale => format!(", {:.1} s allowed", max_age.as_secs_f64()),
            _ => String::new(),
        };
        let message = format!("{}: {prefix}process {}: {liveness}{limit}", path.display(), heartbeat.pid);
        Self { path: path.to_owned(), result, message, age, heartbeat: Some(heartbeat) }
    }

    pub(crate) fn severity(&self) -> Severity {
        let status = self.heartbeat.as_ref().and_then(|heartbeat| heartbeat.status);
        match self.result.state() {
            State::Dead => Severity::Dead,
            State::Unknown => Severity::Unknown,
            State::Stopped => Severity::Stopped,
            State::Alive if readiness(status) == CheckResult::Alive => Severity::Healthy,
            State::Alive => Severity::Unready,
        }
    }

    /// The key to sort by, the worst last. A service that is alive can still be degraded.
    pub(crate) fn rank(&self) -> (Severity, CheckResult) {
        (self.severity(), self.result)
    }

    /// A summary in one line, such as "running · 2 restarts · 40 orders".
    pub(crate) fn summary(&self) -> String {
        let heartbeat = self.heartbeat.as_ref();
        // Metadata may have any type; only text is shown as text.
        let text = |key| heartbeat.and_then(|beat| beat.metadata.get(key)?.as_str()).unwrap_or_default();
        let count = |key: &str, word| {
            let count = heartbeat.and_then(|beat| beat.metadata.get(key)?.as_u64()).filter(|count| *count > 0);
            count.map(|count| format!("{count} {word}{}", if count == 1 { "" } else { "s" })).unwrap_or_default()
        };
        let status = heartbeat.and_then(|beat| beat.status).map(Status::as_str);
        let state = match (self.result, text("state")) {
            (CheckResult::NotRunning, state) if !state.is_empty() => state,
            (result, _) if result.state() != State::Alive => result.as_str(),
            (_, "") => status.unwrap_or_default(),
            (_, state) => state,
        };
        let last_exit = Some(text("last_exit")).filter(|exit| !exit.is_empty() && self.severity() != Severity::Healthy);
        let parts = [
            state.to_owned(),
            count("restarts", "restart"),
            count("freezes", "freeze"),
            last_exit.map(|exit| format!("last: {exit}")).unwrap_or_default(),
            text("says").to_owned(),
        ];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ")
    }

    /// The check as a JSON object. Times are in seconds.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "file": self.path.to_string_lossy(),
            "state": self.result.state().as_str(),
            "verdict": self.result.as_str(),
            "exit_code": self.result.code(),
            "message": self.message,
            "age": self.age.map(|age| age.as_secs_f64()),
            "heartbeat": self.heartbeat.as_ref().and_then(|heartbeat| serde_json::to_value(heartbeat).ok()),
        })
    }
}

/// The result for a live process: its own status, or that of its program.
fn alive(heartbeat: &HeartbeatState, check_options: CheckOptions) -> CheckResult {
    if is_supervisor(heartbeat) && !check_options.supervisor && !heartbeat.metadata.contains_key("child") {
        return CheckResult::NotRunning;
    }
    if check_options.strict { readiness(heartbeat.status) } else { CheckResult::Alive }
}

fn readiness(status: Option<Status>) -> CheckResult {
    match status {
        Some(Status::Degraded) => CheckResult::Degraded,
        Some(Status::Starting | Status::Stopping) => CheckResult::NotReady,
        _ => CheckResult::Alive,
    }
}

/// Whether `backstay run` wrote a heartbeat: its metadata always has these keys. While the program runs, it also has
/// `child`.
pub(crate) fn is_supervisor(heartbeat: &HeartbeatState) -> bool {
    ["command", "state", "restarts", "freezes"].iter().all(|key| heartbeat.metadata.contains_key(*key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(result: CheckResult, status: &str, metadata: &Value) -> HeartbeatCheck {
        let json = json!({
            "timestamp": "2001-01-01T00:00:00Z", "pid": 7, "hostname": "h", "status": status, "metadata": metadata,
        });
        let heartbeat = serde_json::from_value(json).unwrap();
        HeartbeatCheck { path: "x".into(), result, message: String::new(), age: None, heartbeat: Some(heartbeat) }
    }

    #[test]
    fn a_summary_shows_state_counts_last_exit_and_status_text() {
        let supervisor = json!({
            "command": "x", "state": "waiting to restart", "restarts": 1, "freezes": 2, "last_exit": "exit code 1",
            "says": "40 orders",
        });
        let summary = |result, status, metadata: &Value| of(result, status, metadata).summary();
        assert_eq!(
            summary(CheckResult::NotRunning, "degraded", &supervisor),
            "waiting to restart · 1 restart · 2 freezes · last: exit code 1 · 40 orders"
        );
        assert_eq!(
            summary(CheckResult::Alive, "ready", &supervisor),
            "waiting to restart · 1 restart · 2 freezes · 40 orders"
        );
        assert_eq!(summary(CheckResult::Stale, "ready", &json!({"restarts": "many", "says": [1]})), "stale");
        assert_eq!(summary(CheckResult::Alive, "degraded", &json!({})), "degraded");
        assert_eq!(summary(CheckResult::Stopped, "stopped", &json!({"state": "stopping"})), "stopped");
    }

    #[test]
    fn only_a_supervisors_heartbeat_can_say_that_its_program_is_not_running() {
        let judged = |metadata: &Value, supervisor| {
            let heartbeat = of(CheckResult::Alive, "ready", metadata).heartbeat.unwrap();
            alive(&heartbeat, CheckOptions { supervisor, ..CheckOptions::default() })
        };
        let mut metadata = json!({"command": "x", "state": "waiting to restart", "restarts": 1, "freezes": 0});
        assert_eq!(judged(&metadata, false), CheckResult::NotRunning);
        assert_eq!(judged(&metadata, true), CheckResult::Alive);
        metadata["child"] = json!(7);
        assert_eq!(judged(&metadata, false), CheckResult::Alive);
        assert_eq!(judged(&json!({"state": "fine"}), false), CheckResult::Alive, "not a supervisor");
    }

    #[test]
    fn the_help_lists_every_exit_code() {
        let help = with_codes!("");
        for result in CheckResult::ALL {
            assert_eq!(help.lines().filter(|line| line.starts_with(&format!("{:>4}  ", result.code()))).count(), 1);
        }
    }
}
