//! `backstay run`: supervises a program in any language, unchanged.
//!
//! `supervisor` decides, with `life` (is it frozen?) and `gate` (may it start again?): pure, with time as an argument.
//! `shell` waits and acts, through `family` (processes), `notify` and `signs` (signs of life), `guard` (what if we
//! are killed?), `private` (where do we meet?), `log` and `reporter` (who wants to know?).

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
mod private;
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

use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, Hasher};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use backstay::clock::Clock;
use backstay::config::{Config, Sources};

use crate::values::file_name;
use crate::{output, places};
pub(crate) use arguments::{Health, Run};
use background::within;
use claim::{Claim, Refusal};
use event::Policy;
pub(crate) use event::Restart;
pub(crate) use family::{can_stand_still, ignored_signals};
use foreground::Terminal;
use gate::Gate;
pub(crate) use guard::{Arguments as Guard, guard};
pub(crate) use health::HealthUrl;
use life::{Source, Watch};
use log::Log;
use looks::Looks;
use news::News;
use options::Options;
use private::PrivateFolder;
use reporter::Reporter;
use shell::Shell;
use signs::{BeatFile, LastSeen, Strictness};
use supervisor::Supervisor;
use user::User;

/// The supervisor itself failed; what the program's own codes are is its business, as with `env` and `timeout`.
const FAILED: u8 = 125;

pub(crate) fn run(arguments: Run) -> ExitCode {
    match prepare(arguments) {
        Ok(shell) => ExitCode::from(shell.run()),
        Err(error) => {
            output::error(&format!("error: {error}"));
            ExitCode::from(FAILED)
        }
    }
}

/// As much of a command line as is shown, in characters: every beat carries it.
const LONGEST_LINE: usize = 4096;

/// How long the configuration's files may take to be read: one that hangs may hold settings that matter.
const CONFIG_LIMIT: Duration = Duration::from_secs(5);
/// How long the folder of heartbeats may take to answer; the program is started without a heartbeat then.
const CLAIM_LIMIT: Duration = Duration::from_secs(2);

/// What is to be run, and how.
pub(crate) struct Plan {
    name: String,
    program: OsString,
    arguments: Vec<OsString>,
    watch: Watch,
    grace: Duration,
    on_freeze: Option<OsString>,
    folder: PrivateFolder,
    user: Option<User>,
    /// The program's output is a pseudo-terminal.
    tty: bool,
    /// The program has our terminal.
    foreground: bool,
}

impl Plan {
    fn command(&self, beats: &Path, starts: u64) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .stdin(family::stdin(self.foreground))
            .env("BACKSTAY_HEARTBEAT_FILE", beats)
            .env("BACKSTAY_RESTARTS", starts.to_string())
            .env("NOTIFY_SOCKET", self.folder.socket())
            // Ours, should we be watched ourselves.
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

/// What the heartbeat says of the command line: arguments may hold secrets, so it is the program alone unless asked.
fn shown_command(command: &[OsString], whole: bool) -> String {
    let words = if whole { command } else { command.get(..1).unwrap_or_default() };
    let line = words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    line.chars().take(LONGEST_LINE).collect()
}

/// Under the rules of a name that is given.
fn default_name(program: &OsStr) -> String {
    let name = Path::new(program).file_name().and_then(|name| file_name(&name.to_string_lossy()).ok());
    name.unwrap_or_else(|| "program".to_owned())
}

fn prepare(arguments: Run) -> Result<Shell, String> {
    let fail = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let signals = signals::listen().map_err(fail("no pipe for signals"))?;
    let (program, rest) = arguments.command.split_first().ok_or("which command?")?;
    let asked = arguments.name.clone().unwrap_or_else(|| default_name(program));
    let config = within(CONFIG_LIMIT, || Config::load(&Sources::of_process()))
        .map_err(fail("the configuration cannot be read"))?
        .map_err(|error| error.to_string())?;
    let options = Options::new(&arguments, &asked, &config);
    let mut required = Vec::new();
    let mut urls = Vec::new();
    for way in arguments.health {
        required.push(match way {
            Health::Heartbeat => Source::Heartbeat,
            Health::Output => Source::Output,
            Health::Notify => Source::Notify,
            Health::Http(url) => {
                urls.push(url);
                Source::Http
            }
        });
    }
    let watch = Watch { timeout: options.timeout, start_timeout: options.start_timeout, required };
    let clock = Clock::system();
    let gate = Gate::new(options.pace, &clock, RandomState::new().build_hasher().finish())
        .map_err(|error| error.to_string())?;
    let policy = Policy {
        restart: options.restart,
        watch: watch.clone(),
        grace: options.grace,
        hook: arguments.on_freeze.as_ref().map(|_| options.on_freeze_timeout),
        foreground: arguments.foreground,
    };

    let terminal = match arguments.foreground {
        true => Some(Terminal::open().map_err(fail("--foreground needs a terminal: /dev/tty"))?),
        false => None,
    };
    let (wanted, is_explicit) = (asked.clone(), arguments.name.is_some());
    let claim = within(CLAIM_LIMIT, move || Claim::new(&wanted, is_explicit));
    let hangs = |error: std::io::Error| {
        let what = format!("{}: {error}", places::folder().display());
        Err(Refusal::Impossible(std::io::Error::new(error.kind(), what)))
    };
    let claim = match claim.unwrap_or_else(hangs) {
        Err(Refusal::Taken(why)) => return Err(why),
        Err(Refusal::Impossible(error)) => Err(format!("no heartbeat: {error}")),
        Ok(claim) => Ok(claim),
    };
    let name = claim.as_ref().map_or_else(|_| asked.clone(), |claim| claim.name.clone());

    arguments.user.as_ref().map_or(Ok(()), User::check)?;
    let (folder, ear) =
        PrivateFolder::new(arguments.user.as_ref()).map_err(fail("no private folder with a notification socket"))?;
    let shown = shown_command(&arguments.command, arguments.show_command);
    let mut reporter = Reporter::new(&shown, Log::new(&name, arguments.log_format, arguments.quiet));
    match claim {
        Ok(claim) => {
            reporter.beat(claim, arguments.interval, arguments.file_mode).map_err(|error| error.to_string())?;
        }
        Err(what) => reporter.tell(&News::Trouble { what }),
    }
    if name != asked {
        reporter.tell(&News::Renamed { asked });
    }
    reporter.tell(&News::Watched { what: watch.to_string() });
    let trouble = |what: String| reporter.tell(&News::Trouble { what });
    if !config.files().is_empty() {
        reporter.tell(&News::Configured { files: config.files().to_vec() });
    }
    config.warnings().iter().for_each(|warning| trouble(warning.to_string()));

    // Whoever was started before us by the shell that became us: a sidecar, and none of the program's.
    let elders = family::children();
    let is_init = std::process::id() == 1;
    if let Err(error) = family::adopt_orphans() {
        trouble(format!("orphans of the program cannot be reaped: {error}"));
    }
    // The kernel itself ends everybody when process 1 ends.
    let guard =
        if is_init { Ok(None) } else { guard::Guard::start(options.grace, folder.path(), clock.now()).map(Some) };
    let guard = guard.unwrap_or_else(|error| {
        trouble(format!("no guard: should this process be killed, the program will go on alone: {error}"));
        None
    });
    let mut health = Vec::new();
    for url in urls {
        let seen = LastSeen::default();
        url.ask_for_ever(watch.timeout, seen.clone()).map_err(fail("no thread for the health URL"))?;
        health.push(seen);
    }
    let strictness = match (arguments.lenient, arguments.strict) {
        (true, _) => Strictness::Lenient,
        (_, true) => Strictness::Strict,
        _ => Strictness::Watchdog,
    };
    // The program may go elsewhere.
    let told = arguments.heartbeat.map(|path| std::path::absolute(&path).unwrap_or(path));
    let beats = BeatFile { path: told.unwrap_or_else(|| folder.beats()), strictness };
    let plan = Plan {
        name,
        program: program.clone(),
        arguments: rest.to_vec(),
        watch,
        grace: options.grace,
        on_freeze: arguments.on_freeze,
        folder,
        user: arguments.user,
        tty: arguments.tty,
        foreground: arguments.foreground,
    };
    Ok(Shell {
        plan,
        supervisor: Supervisor::new(policy, gate),
        reporter,
        signals,
        ear,
        looks: Looks::new(beats.clone(), clock.clone(), options.timeout),
        clock,
        beats,
        output: LastSeen::default(),
        health,
        guard,
        elders,
        family: None,
        abandoned: false,
        strangers: false,
        hook: None,
        pumps: Vec::new(),
        terminal,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_a_file_name_has_a_name() {
        for (program, name) in
            [("/bin/bot", "bot"), ("bot", "bot"), ("/", "program"), ("..", "program"), (".", "program")]
        {
            assert_eq!(default_name(OsStr::new(program)), name);
        }
        assert_eq!(default_name(OsStr::new("/opt/.hidden")), "program");
        assert_eq!(default_name(OsStr::new(&"x".repeat(200))), "program");
    }
}
