//! What the supervisor logs: lines for people, and fields for programs.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use signal_hook::consts::{SIGTTIN, SIGTTOU};

use super::freeze_detector::Source;
use super::restart_limiter::{Reason, Wait};

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    pub(crate) fn is_success(self) -> bool {
        self == Self::Code(0)
    }

    /// The exit code as in a shell: 128 + N after signal N.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Code(code) => u8::try_from(code).unwrap_or(u8::MAX),
            Self::Signal(signal) => 128_u8.saturating_add(u8::try_from(signal).unwrap_or(0)),
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "{}", name(*signal)),
        }
    }
}

/// A request to stop the supervisor, by this signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StopRequest(pub(crate) i32);

impl StopRequest {
    pub(crate) fn signal(self) -> i32 {
        self.0
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum LogEvent {
    Started {
        pid: u32,
        restarts: u64,
    },
    NotStarted {
        error: String,
    },
    /// The name that was derived from the program is taken; the supervisor uses one with a suffix.
    Renamed {
        wanted: String,
    },
    /// The health checks that must pass.
    Watched {
        what: String,
    },
    /// The configuration files that were read.
    Configured {
        files: Vec<PathBuf>,
    },
    /// No health check counts so far: none has passed in this time.
    NotWatched {
        time: Duration,
    },
    Suspended {
        signal: i32,
    },
    Continued,
    Ready,
    Stopping,
    Exited {
        exit: Exit,
        ran: Duration,
    },
    Froze {
        source: Source,
        inactive: Duration,
    },
    HookTooSlow,
    HookFailed {
        error: String,
    },
    Killing,
    /// Some processes survived SIGKILL.
    GaveUp,
    Waiting(Wait),
    StopRequested(StopRequest),
    StopRequestedAgain(StopRequest),
    /// A part of the supervisor does not work; the program runs without it.
    Trouble {
        what: String,
    },
}

impl LogEvent {
    pub(crate) fn is_warning(&self) -> bool {
        match self {
            Self::Started { .. }
            | Self::Renamed { .. }
            | Self::Watched { .. }
            | Self::Configured { .. }
            | Self::NotWatched { .. }
            | Self::Continued
            | Self::Ready
            | Self::Stopping
            | Self::StopRequested(_) => false,
            Self::Exited { exit, .. } => !exit.is_success(),
            _ => true,
        }
    }

    /// The name of the event, for programs.
    pub(crate) fn event(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::NotStarted { .. } => "not_started",
            Self::Renamed { .. } => "renamed",
            Self::Watched { .. } => "health",
            Self::Configured { .. } => "configured",
            Self::NotWatched { .. } => "health_not_watched",
            Self::Suspended { .. } => "suspended",
            Self::Continued => "continued",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
            Self::Exited { .. } => "exited",
            Self::Froze { .. } => "froze",
            Self::HookTooSlow => "on_freeze_timeout",
            Self::HookFailed { .. } => "on_freeze_failed",
            Self::Killing => "killing",
            Self::GaveUp => "gave_up",
            Self::Waiting(_) => "waiting",
            Self::StopRequested(_) => "asked_to_stop",
            Self::StopRequestedAgain(_) => "asked_again",
            Self::Trouble { .. } => "trouble",
        }
    }

    /// One line of text, for people.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Started { pid, restarts: 0 } => format!("started, process {pid}"),
            Self::Started { pid, restarts } => format!("restarted, process {pid}, restart {restarts}"),
            Self::NotStarted { error } => format!("failed to start: {error}"),
            Self::Renamed { wanted } => format!("the name {wanted:?} is taken by another supervisor"),
            Self::Watched { what } => format!("health: {what}"),
            Self::Configured { files } => format!("configuration read from {}", shown(files).join(", ")),
            Self::NotWatched { time } => {
                format!("health: not watched, no heartbeat or sd_notify seen in {}", seconds(*time))
            }
            Self::Suspended { signal } => match *signal {
                SIGTTIN | SIGTTOU => {
                    format!("stopped by {}: it asks for the terminal, see --foreground", name(*signal))
                }
                _ => format!("stopped by {}, until it gets SIGCONT", name(*signal)),
            },
            Self::Continued => "continued".to_owned(),
            Self::Ready => "ready".to_owned(),
            Self::Stopping => "the program is stopping (STOPPING=1)".to_owned(),
            Self::Exited { exit, ran } => format!("ended after {}: {exit}", seconds(*ran)),
            Self::Froze { source, inactive } if inactive.is_zero() => {
                format!("frozen: reported by the program ({})", source.as_str())
            }
            Self::Froze { source, inactive } => format!("frozen: {source} for {}", seconds(*inactive)),
            Self::HookTooSlow => "--on-freeze command timed out, sending SIGKILL to it".to_owned(),
            Self::HookFailed { error } => format!("--on-freeze command failed: {error}"),
            Self::Killing => "still running, sending SIGKILL".to_owned(),
            Self::GaveUp => "still running after SIGKILL, giving up on it".to_owned(),
            Self::Waiting(Wait { time, reason }) => match reason {
                Reason::Pause => format!("restarting in {}", seconds(*time)),
                Reason::RateLimit => format!("restart limit reached: next start in {}", seconds(*time)),
                Reason::CircuitOpen => format!("crash loop: next start attempt in {}", seconds(*time)),
            },
            Self::StopRequested(request) => format!("{}: stopping", name(request.signal())),
            Self::StopRequestedAgain(request) => format!("{} again: stopping at once", name(request.signal())),
            Self::Trouble { what } => what.clone(),
        }
    }

    /// The data of the event, for programs. Times are in seconds.
    pub(crate) fn fields(&self) -> Vec<(&'static str, Value)> {
        match self {
            Self::Started { pid, restarts } => vec![("pid", json!(pid)), ("restarts", json!(restarts))],
            Self::NotStarted { error } | Self::HookFailed { error } => vec![("error", json!(error))],
            Self::Exited { exit, ran } => {
                let how = match exit {
                    Exit::Code(code) => ("code", json!(code)),
                    Exit::Signal(signal) => ("signal", json!(name(*signal))),
                };
                vec![how, ("ran", json!(ran.as_secs_f64()))]
            }
            Self::Froze { source, inactive } => {
                vec![("source", json!(source.as_str())), ("inactive", json!(inactive.as_secs_f64()))]
            }
            Self::Waiting(Wait { time, reason }) => {
                let reason = match reason {
                    Reason::Pause => "backoff",
                    Reason::RateLimit => "rate_limit",
                    Reason::CircuitOpen => "circuit_open",
                };
                vec![("reason", json!(reason)), ("wait", json!(time.as_secs_f64()))]
            }
            Self::StopRequested(request) | Self::StopRequestedAgain(request) => {
                vec![("signal", json!(name(request.signal())))]
            }
            Self::Suspended { signal } => vec![("signal", json!(name(*signal)))],
            Self::Configured { files } => vec![("files", json!(shown(files)))],
            Self::NotWatched { time } => vec![("inactive", json!(time.as_secs_f64()))],
            _ => Vec::new(),
        }
    }
}

fn shown(files: &[PathBuf]) -> Vec<String> {
    files.iter().map(|file| file.display().to_string()).collect()
}

/// Returns the name of a signal, or "signal N".
pub(crate) fn name(signal: i32) -> String {
    signal_hook::low_level::signal_name(signal).map_or_else(|| format!("signal {signal}"), str::to_owned)
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
