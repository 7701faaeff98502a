//! `backstay run`: supervises a program in any language, unchanged.
//!
//! `supervisor` decides, with `life` (freezes) and `gate` (restart limits): pure, with time as an argument. `prepare` makes
//! `shell`, which waits and acts through `processes` (`family`, `guard`), `notify` and `signs` (signs of life), `private` (the
//! private folder), `log` and `reporter`.

mod arguments;
mod background;
mod claim;
mod event;
mod family;
mod foreground;
mod gate;
mod guard;
mod health;
mod life;
mod log;
mod looks;
mod message;
mod news;
mod notify;
mod options;
mod prepare;
mod private;
mod processes;
mod pty;
mod reporter;
mod sender;
mod shell;
mod signals;
mod signs;
mod start;
mod supervisor;
mod tree;
mod user;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use crate::output;
#[cfg(test)]
pub(crate) use arguments::Health;
pub(crate) use arguments::Run;
pub(crate) use event::Restart;
pub(crate) use family::{can_stand_still, ignored_signals};
pub(crate) use guard::{Arguments as Guard, guard};
pub(crate) use health::HealthUrl;
use life::{Source, Watch};
use private::PrivateFolder;
use user::User;

/// Exit code where the supervisor itself failed, as with `env` and `timeout`.
const FAILED: u8 = 125;

pub(crate) fn run(arguments: Run) -> ExitCode {
    match prepare::prepare(arguments) {
        Ok(shell) => ExitCode::from(shell.run()),
        Err(error) => {
            output::error(&format!("error: {error}"));
            ExitCode::from(FAILED)
        }
    }
}

/// The program, and how to run it.
pub(crate) struct Plan {
    name: String,
    program: OsString,
    arguments: Vec<OsString>,
    watch: Watch,
    grace: Duration,
    on_freeze: Option<OsString>,
    /// The program's heartbeat file.
    beats: PathBuf,
    folder: PrivateFolder,
    user: Option<User>,
    /// The program's output is a pseudo-terminal.
    tty: bool,
    /// The program has our terminal.
    foreground: bool,
}

impl Plan {
    fn command(&self, starts: u64) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .stdin(family::stdin(self.foreground))
            .env("BACKSTAY_HEARTBEAT_FILE", &self.beats)
            .env("BACKSTAY_RESTARTS", starts.to_string())
            .env("NOTIFY_SOCKET", self.folder.socket())
            // These are for the supervisor, where it is watched itself.
            .env_remove("WATCHDOG_PID")
            .env_remove("WATCHDOG_USEC");
        if let Some(user) = &self.user {
            user.take_over(&mut command);
        }
        if self.watch.looks_at(Source::Notify) {
            command.env("WATCHDOG_USEC", self.watch.timeout.as_micros().to_string());
        }
        command
    }
}
