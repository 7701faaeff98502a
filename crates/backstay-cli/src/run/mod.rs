//! `backstay run`: supervises a program in any language, unchanged.
//!
//! `supervisor` makes the decisions, with `freeze_detector` and `restart_limiter`. All three are pure, with time as an
//! argument. `prepare` builds the `event_loop`, which waits for events and performs actions through `processes`
//! (`process_tree`, `guard`), `notify`, `health_checks`, `private_folder`, `log` and `reporter`.

mod arguments;
mod background;
mod claim;
mod event;
mod event_loop;
mod foreground;
mod freeze_detector;
mod guard;
mod health_checks;
mod health_url;
mod heartbeat_file;
mod log;
mod log_event;
mod notification;
mod notify;
mod options;
mod output_pump;
mod prepare;
mod private_folder;
mod proc_fs;
mod process_tree;
mod processes;
mod pty;
mod reporter;
mod restart_limiter;
mod sender;
mod signals;
mod start;
mod supervisor;
mod user;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use crate::output;
pub(crate) use arguments::RunArguments;
pub(crate) use event::Restart;
use freeze_detector::{Source, Watch};
pub(crate) use guard::{GuardArguments, guard};
pub(crate) use health_url::HealthUrl;
use private_folder::PrivateFolder;
pub(crate) use process_tree::{can_pause, ignored_signals};
use user::User;

/// Exit code if the supervisor itself fails, as with `env` and `timeout`.
const FAILED: u8 = 125;

pub(crate) fn run(arguments: RunArguments) -> ExitCode {
    match prepare::prepare(arguments) {
        Ok(event_loop) => ExitCode::from(event_loop.run()),
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
    heartbeat_file: PathBuf,
    folder: PrivateFolder,
    user: Option<User>,
    /// The program's output is a pseudo-terminal.
    tty: bool,
    /// The program has the supervisor's terminal.
    foreground: bool,
}

impl Plan {
    fn command(&self, starts: u64) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .stdin(process_tree::stdin(self.foreground))
            .env("BACKSTAY_HEARTBEAT_FILE", &self.heartbeat_file)
            .env("BACKSTAY_RESTARTS", starts.to_string())
            .env("NOTIFY_SOCKET", self.folder.socket())
            // These are for the supervisor, if it has a supervisor itself.
            .env_remove("WATCHDOG_PID")
            .env_remove("WATCHDOG_USEC");
        if let Some(user) = &self.user {
            user.take_over(&mut command);
        }
        if self.watch.uses(Source::Notify) {
            command.env("WATCHDOG_USEC", self.watch.timeout.as_micros().to_string());
        }
        command
    }
}
