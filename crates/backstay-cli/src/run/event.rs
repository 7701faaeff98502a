//! The supervisor's events, actions and policy.

use std::time::Duration;

use super::life::{Source, Watch};
use super::news::{Ask, Exit, News};

/// Settings that hold for every start.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) restart: Restart,
    pub(crate) watch: Watch,
    /// Between SIGTERM and SIGKILL.
    pub(crate) grace: Duration,
    /// Time limit of the --on-freeze command, if there is one.
    pub(crate) hook: Option<Duration>,
    /// The program has the terminal: the signals of its keys reach the program, and not us.
    pub(crate) foreground: bool,
}

/// After which ends it is started again.
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
    /// There is no such program (127), or it cannot be run (126).
    NotStarted {
        error: String,
        code: u8,
    },
    /// The program ended; perhaps it left others of its family.
    Exited {
        exit: Exit,
        family_left: bool,
    },
    /// No process of the program's tree is left.
    FamilyGone,
    /// A signal asks the supervisor to stop; a second one to stop at once.
    Asked(Ask),
    /// A signal is to be forwarded to the program.
    PassOn(i32),
    HookEnded,
    Ready,
    Stopping,
    Extend(Duration),
    /// The program knows by itself that it froze.
    Trigger,
    WatchdogTime(Duration),
    /// A signal stopped the program.
    Suspended(i32),
    /// The program was continued.
    Continued,
    /// Everything was stopped for this long, and goes on.
    Stood(Duration),
    /// Nothing but time.
    Tick,
}

/// Something to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    Spawn,
    /// To the whole family.
    Signal(i32),
    /// To the program alone.
    SignalProgram(i32),
    RunHook {
        pid: u32,
        inactive: Duration,
        source: Source,
    },
    KillHook,
    Tell(News),
    Exit(u8),
}

pub(crate) const SIGKILL: i32 = signal_hook::consts::SIGKILL;
pub(crate) const SIGTERM: i32 = signal_hook::consts::SIGTERM;
pub(crate) const SIGCONT: i32 = signal_hook::consts::SIGCONT;
pub(crate) const SIGHUP: i32 = signal_hook::consts::SIGHUP;
pub(crate) const SIGINT: i32 = signal_hook::consts::SIGINT;
pub(crate) const SIGQUIT: i32 = signal_hook::consts::SIGQUIT;

/// The supervisor's state, as it is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Waiting,
    Starting,
    Running,
    /// Stopped by a signal, until it is continued.
    Suspended,
    Frozen,
    Ending,
    Done,
}
