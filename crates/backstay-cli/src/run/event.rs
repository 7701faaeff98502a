//! The supervisor's events, actions and policy.

use std::time::Duration;

use super::freeze_detector::{Source, Watch};
use super::log_event::{Exit, LogEvent, StopRequest};

/// Settings of the supervisor.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) restart: Restart,
    pub(crate) watch: Watch,
    /// Time between SIGTERM and SIGKILL.
    pub(crate) grace: Duration,
    /// Time limit of the --on-freeze command, if there is one.
    pub(crate) hook: Option<Duration>,
    /// The program has the terminal: signals of its keys (Ctrl-C) reach the program, not the supervisor.
    pub(crate) foreground: bool,
}

/// When a program that ended is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Restart {
    /// Restart after an exit code other than 0, a signal or a freeze
    OnFailure,
    /// Restart after every exit
    Always,
    /// Never restart
    Never,
}

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Event {
    Started {
        pid: u32,
    },
    /// The program does not exist (code 127) or cannot be run (126).
    NotStarted {
        error: String,
        code: u8,
    },
    /// The program ended. `tree_left`: other processes of its tree are left.
    Exited {
        exit: Exit,
        tree_left: bool,
    },
    /// No process of the program's tree is left.
    TreeGone,
    /// A signal asks the supervisor to stop; a second one, to stop at once.
    StopRequested(StopRequest),
    /// A signal is to be forwarded to the program.
    Forward(i32),
    HookEnded,
    Ready,
    Stopping,
    Extend(Duration),
    /// The program reports that it is frozen (`WATCHDOG=trigger`).
    Trigger,
    WatchdogTime(Duration),
    /// A signal stopped the program.
    Suspended(i32),
    /// The program was continued.
    Continued,
    /// The program and the supervisor were stopped for this long, and were continued.
    Paused(Duration),
    /// The deadline has come.
    Tick,
}

/// Something to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    Spawn,
    /// Signals the whole process tree.
    Signal(i32),
    /// Signals the program alone.
    SignalProgram(i32),
    RunHook {
        pid: u32,
        inactive: Duration,
        source: Source,
    },
    KillHook,
    Log(LogEvent),
    Exit(u8),
}

pub(crate) const SIGKILL: i32 = signal_hook::consts::SIGKILL;
pub(crate) const SIGTERM: i32 = signal_hook::consts::SIGTERM;
pub(crate) const SIGCONT: i32 = signal_hook::consts::SIGCONT;
pub(crate) const SIGHUP: i32 = signal_hook::consts::SIGHUP;
pub(crate) const SIGINT: i32 = signal_hook::consts::SIGINT;
pub(crate) const SIGQUIT: i32 = signal_hook::consts::SIGQUIT;

/// The state of the supervisor, as the reporter shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SupervisorState {
    Waiting,
    Starting,
    Running,
    /// Stopped by a signal, until it is continued.
    Suspended,
    Frozen,
    Ending,
    Done,
}
