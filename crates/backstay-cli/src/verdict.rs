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
  11  alive, but starting or stopping (with --strict)"
        )
    };
}
pub(crate) use with_codes;

/// What became of a service, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Verdict {
    Alive,
    NotReady,
    Degraded,
    Stopped,
    Missing,
    Unreadable,
    Damaged,
    FromFuture,
    Stale,
    ProcessGone,
}

/// The page's three words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Alive,
    Unknown,
    Dead,
}

impl Verdict {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 10] = [
        Self::Alive,
        Self::NotReady,
        Self::Degraded,
        Self::Stopped,
        Self::Missing,
        Self::Unreadable,
        Self::Damaged,
        Self::FromFuture,
        Self::Stale,
        Self::ProcessGone,
    ];

    /// The exit code that says so. 1 stays free for what nobody thought of.
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
        }
    }

    pub(crate) const fn state(self) -> State {
        match self {
            Self::Alive | Self::NotReady | Self::Degraded => State::Alive,
            Self::Missing | Self::Unreadable | Self::Damaged | Self::FromFuture => State::Unknown,
            Self::Stopped | Self::Stale | Self::ProcessGone => State::Dead,
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
            Self::Stale => "stale",
            Self::ProcessGone => "process gone",
        }
    }
}

impl State {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "ALIVE",
            Self::Unknown => "UNKNOWN",
            Self::Dead => "DEAD",
        }
    }
}

/// How it is shown: the three words, and what people want to tell apart at a glance. The best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Look {
    Well,
    /// Alive, and degraded, starting or stopping.
    Unready,
    Stopped,
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
            Liveness::Alive { age } => (alive(heartbeat.status, judging.strict), Some(age)),
            Liveness::Stale { age } => (Verdict::Stale, Some(age)),
            Liveness::FromFuture { .. } => (Verdict::FromFuture, None),
            Liveness::Stopped => (Verdict::Stopped, by_timestamp),
            _ => (Verdict::ProcessGone, by_timestamp),
        };
        let status = heartbeat.status.filter(|_| verdict.state() == State::Alive);
        let said = status.map(|status| format!("{status}, ")).unwrap_or_default();
        let limit = match verdict {
            Verdict::Stale => format!(", {:.1} s allowed", max_age.as_secs_f64()),
            _ => String::new(),
        };
        let message = format!("{}: {said}process {}: {liveness}{limit}", path.display(), heartbeat.pid);
        Self { path: path.to_owned(), verdict, message, age, heartbeat: Some(heartbeat) }
    }

    pub(crate) fn look(&self) -> Look {
        let status = self.heartbeat.as_ref().and_then(|heartbeat| heartbeat.status);
        match (self.verdict.state(), self.verdict) {
            (State::Dead, Verdict::Stopped) => Look::Stopped,
            (State::Dead, _) => Look::Dead,
            (State::Unknown, _) => Look::Unknown,
            (State::Alive, _) if alive(status, true) == Verdict::Alive => Look::Well,
            (State::Alive, _) => Look::Unready,
        }
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

fn alive(status: Option<Status>, strict: bool) -> Verdict {
    match status {
        Some(Status::Degraded) if strict => Verdict::Degraded,
        Some(Status::Starting | Status::Stopping) if strict => Verdict::NotReady,
        _ => Verdict::Alive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_lists_every_exit_code() {
        let help = with_codes!("");
        for verdict in Verdict::ALL {
            assert_eq!(help.lines().filter(|line| line.starts_with(&format!("{:>4}  ", verdict.code()))).count(), 1);
        }
    }
}
