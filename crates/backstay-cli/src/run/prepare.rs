//! Builds the event loop, ready to start the program, from the command line.

use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::Path;
use std::time::Duration;

use backstay::clock::Clock;
use backstay::config::{Config, Sources};

use super::arguments::{Health, RunArguments};
use super::background::within;
use super::claim::{Claim, ClaimError};
use super::event::Policy;
use super::event_loop::EventLoop;
use super::foreground::Terminal;
use super::freeze_detector::{Source, Watch};
use super::guard::Guard;
use super::health_checks::{HealthChecks, LastSeen};
use super::health_url::HealthUrl;
use super::heartbeat_file::{HeartbeatFile, HeartbeatPoller, Strictness};
use super::log::Log;
use super::log_event::LogEvent;
use super::options::Options;
use super::private_folder::PrivateFolder;
use super::processes::{Processes, no_guard};
use super::reporter::Reporter;
use super::restart_limiter::RestartLimiter;
use super::supervisor::Supervisor;
use super::user::User;
use super::{Plan, process_tree, signals};
use crate::heartbeats::files;
use crate::values::file_name;

/// Maximum length of the command line in the heartbeat, in characters: every heartbeat contains it.
const MAX_COMMAND: usize = 4096;

/// Time limit for reading the configuration files. A file that hangs is an error, because its settings may matter.
const CONFIG_LIMIT: Duration = Duration::from_secs(5);
/// Time limit for access to the folder of heartbeat files. After it the program is started without a heartbeat.
const CLAIM_LIMIT: Duration = Duration::from_secs(2);

pub(super) fn prepare(arguments: RunArguments) -> Result<EventLoop, String> {
    let signals = signals::listen().map_err(fail("no pipe for signals"))?;
    let (program, rest) = arguments.command.split_first().ok_or("which command?")?;
    let wanted = arguments.name.clone().unwrap_or_else(|| default_name(program));
    let config = config()?;
    let options = Options::new(&arguments, &wanted, &config);
    let (required, urls) = checks(&arguments.health);
    let watch = Watch { timeout: options.timeout, start_timeout: options.start_timeout, required };
    let policy = policy(&arguments, &options, &watch);
    let clock = Clock::system();
    let restart_limiter =
        RestartLimiter::new(options.restart_limits, &clock, RandomState::new().build_hasher().finish())
            .map_err(|error| error.to_string())?;
    let terminal = arguments.foreground.then(Terminal::open).transpose();
    let terminal = terminal.map_err(fail("--foreground needs a terminal: /dev/tty"))?;
    let claim = claim(&wanted, arguments.name.is_some())?;
    arguments.user.as_ref().map_or(Ok(()), User::check)?;
    let (folder, listener) =
        PrivateFolder::new(arguments.user.as_ref()).map_err(fail("no private folder with a notification socket"))?;
    let name = claim.as_ref().map_or_else(|_| wanted.clone(), |claim| claim.name.clone());
    let reporter = start_reporting(&arguments, &wanted, &name, claim, &watch, &config)?;
    let processes = processes(options.grace, folder.path(), &clock, &reporter);
    let urls = urls.into_iter().map(|url| poll(url, watch.timeout)).collect::<Result<_, _>>()?;
    let heartbeat = HeartbeatPoller::new(heartbeat_file(&arguments, &folder), clock.clone(), options.timeout);
    let plan = Plan {
        name,
        program: program.clone(),
        arguments: rest.to_vec(),
        watch,
        grace: options.grace,
        on_freeze: arguments.on_freeze,
        heartbeat_file: heartbeat.path().to_owned(),
        folder,
        user: arguments.user,
        tty: arguments.tty,
        foreground: arguments.foreground,
    };
    Ok(EventLoop {
        plan,
        supervisor: Supervisor::new(policy, restart_limiter),
        reporter,
        clock,
        signals,
        listener,
        health_checks: HealthChecks { heartbeat, output: LastSeen::default(), urls },
        processes,
        untrusted_logged: false,
        pumps: Vec::new(),
        terminal,
    })
}

fn fail(what: &'static str) -> impl Fn(io::Error) -> String {
    move |error| format!("{what}: {error}")
}

fn config() -> Result<Config, String> {
    let config = within(CONFIG_LIMIT, || Config::from_sources(&Sources::of_process()));
    config.map_err(fail("the configuration cannot be read"))?.map_err(|error| error.to_string())
}

fn policy(arguments: &RunArguments, options: &Options, watch: &Watch) -> Policy {
    Policy {
        restart: options.restart,
        watch: watch.clone(),
        grace: options.grace,
        hook: arguments.on_freeze.as_ref().map(|_| options.on_freeze_timeout),
        foreground: arguments.foreground,
    }
}

/// Returns the health checks that must pass, and the URLs of the HTTP checks.
fn checks(health: &[Health]) -> (Vec<Source>, Vec<HealthUrl>) {
    let mut urls = Vec::new();
    let source = |check: &Health| match check {
        Health::Heartbeat => Source::Heartbeat,
        Health::Output => Source::Output,
        Health::Notify => Source::Notify,
        Health::Http(url) => {
            urls.push(url.clone());
            Source::Http
        }
    };
    (health.iter().map(source).collect(), urls)
}

/// Claims the name. A name in use is an error. If the folder does not work, the program runs without a heartbeat, and the
/// inner error says why.
fn claim(wanted: &str, is_explicit: bool) -> Result<Result<Claim, String>, String> {
    let name = wanted.to_owned();
    let claim = within(CLAIM_LIMIT, move || Claim::new(&name, is_explicit));
    match claim {
        Ok(Ok(claim)) => Ok(Ok(claim)),
        Ok(Err(ClaimError::Taken(why))) => Err(why),
        Ok(Err(ClaimError::NoFolder(error))) => Ok(Err(format!("no heartbeat: {error}"))),
        Err(error) => Ok(Err(format!("no heartbeat: {}: {error}", files::folder().display()))),
    }
}

/// Starts the heartbeat, and logs the name, the health checks and the configuration.
fn start_reporting(
    arguments: &RunArguments,
    wanted: &str,
    name: &str,
    claim: Result<Claim, String>,
    watch: &Watch,
    config: &Config,
) -> Result<Reporter, String> {
    let shown = shown_command(&arguments.command, arguments.show_command);
    let mut reporter = Reporter::new(&shown, Log::new(name, arguments.log_format, arguments.quiet));
    match claim {
        Ok(claim) => {
            reporter
                .start_heartbeat(claim, arguments.interval, arguments.file_mode, config)
                .map_err(|error| error.to_string())?;
        }
        Err(what) => reporter.log(&LogEvent::Trouble { what }),
    }
    if name != wanted {
        reporter.log(&LogEvent::Renamed { wanted: wanted.to_owned() });
    }
    reporter.log(&LogEvent::Watched { what: watch.to_string() });
    if !config.files().is_empty() {
        reporter.log(&LogEvent::Configured { files: config.files().to_vec() });
    }
    for warning in config.warnings() {
        reporter.log(&LogEvent::Trouble { what: warning.to_string() });
    }
    Ok(reporter)
}

/// Starts the guard, and lists the children that this process had before it started any.
fn processes(grace: Duration, folder: &Path, clock: &Clock, reporter: &Reporter) -> Processes {
    let trouble = |what: String| reporter.log(&LogEvent::Trouble { what });
    let inherited = process_tree::children();
    if let Err(error) = process_tree::adopt_orphans() {
        trouble(format!("orphans of the program cannot be reaped: {error}"));
    }
    // Process 1 needs no guard: when it ends, the kernel ends all others.
    let is_init = std::process::id() == 1;
    let guard = if is_init { Ok(None) } else { Guard::start(grace, folder, clock.now()).map(Some) };
    let guard = guard.unwrap_or_else(|error| {
        trouble(no_guard(&error));
        None
    });
    Processes::new(guard, inherited)
}

fn poll(url: HealthUrl, timeout: Duration) -> Result<LastSeen, String> {
    let seen = LastSeen::default();
    url.start_polling(timeout, seen.clone()).map_err(fail("no thread for the health URL"))?;
    Ok(seen)
}

fn heartbeat_file(arguments: &RunArguments, folder: &PrivateFolder) -> HeartbeatFile {
    let strictness = match (arguments.lenient, arguments.strict) {
        (true, _) => Strictness::Lenient,
        (_, true) => Strictness::Strict,
        _ => Strictness::Watchdog,
    };
    // The path is absolute because the program may change its working directory.
    let given = arguments.heartbeat.as_ref().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()));
    HeartbeatFile { path: given.unwrap_or_else(|| folder.heartbeat_file()), strictness }
}

/// Returns the command line for the heartbeat. By default it is the program alone, because arguments may hold secrets.
fn shown_command(command: &[OsString], whole: bool) -> String {
    let words = if whole { command } else { command.get(..1).unwrap_or_default() };
    let line = words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    line.chars().take(MAX_COMMAND).collect()
}

/// Returns the program's file name if it is a valid name, or else "program".
fn default_name(program: &OsStr) -> String {
    let name = Path::new(program).file_name().and_then(|name| file_name(&name.to_string_lossy()).ok());
    name.unwrap_or_else(|| "program".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_a_valid_file_name_gets_a_default_name() {
        for (program, name) in
            [("/bin/bot", "bot"), ("bot", "bot"), ("/", "program"), ("..", "program"), (".", "program")]
        {
            assert_eq!(default_name(OsStr::new(program)), name);
        }
        assert_eq!(default_name(OsStr::new("/opt/.hidden")), "program");
        assert_eq!(default_name(OsStr::new(&"x".repeat(200))), "program");
    }
}
