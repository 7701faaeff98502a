//! Turns the command line into a supervisor that is ready to start its program.

use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::Path;
use std::time::Duration;

use backstay::clock::Clock;
use backstay::config::{Config, Sources};

use super::arguments::{Health, Run};
use super::background::within;
use super::claim::{Claim, Refusal};
use super::event::Policy;
use super::foreground::Terminal;
use super::gate::Gate;
use super::guard::Guard;
use super::health::HealthUrl;
use super::life::{Source, Watch};
use super::log::Log;
use super::looks::Looks;
use super::news::News;
use super::options::Options;
use super::private::PrivateFolder;
use super::processes::{Processes, no_guard};
use super::reporter::Reporter;
use super::shell::Shell;
use super::signs::{BeatFile, LastSeen, Signs, Strictness};
use super::supervisor::Supervisor;
use super::user::User;
use super::{Plan, family, signals};
use crate::places;
use crate::values::file_name;

/// Maximum length of the command line in the heartbeat, in characters: every beat carries it.
const LONGEST_LINE: usize = 4096;

/// How long the configuration's files may take to be read: one that hangs may hold settings that matter.
const CONFIG_LIMIT: Duration = Duration::from_secs(5);
/// How long the folder of heartbeats may take to answer; then the program is started without a heartbeat.
const CLAIM_LIMIT: Duration = Duration::from_secs(2);

pub(super) fn prepare(arguments: Run) -> Result<Shell, String> {
    let signals = signals::listen().map_err(fail("no pipe for signals"))?;
    let (program, rest) = arguments.command.split_first().ok_or("which command?")?;
    let asked = arguments.name.clone().unwrap_or_else(|| default_name(program));
    let config = config()?;
    let options = Options::new(&arguments, &asked, &config);
    let (required, urls) = checks(&arguments.health);
    let watch = Watch { timeout: options.timeout, start_timeout: options.start_timeout, required };
    let policy = policy(&arguments, &options, &watch);
    let clock = Clock::system();
    let gate = Gate::new(options.pace, &clock, RandomState::new().build_hasher().finish())
        .map_err(|error| error.to_string())?;
    let terminal = arguments.foreground.then(Terminal::open).transpose();
    let terminal = terminal.map_err(fail("--foreground needs a terminal: /dev/tty"))?;
    let claim = claim(&asked, arguments.name.is_some())?;
    arguments.user.as_ref().map_or(Ok(()), User::check)?;
    let (folder, ear) =
        PrivateFolder::new(arguments.user.as_ref()).map_err(fail("no private folder with a notification socket"))?;
    let name = claim.as_ref().map_or_else(|_| asked.clone(), |claim| claim.name.clone());
    let reporter = introduce(&arguments, &asked, &name, claim, &watch, &config)?;
    let processes = processes(options.grace, folder.path(), &clock, &reporter);
    let health = urls.into_iter().map(|url| ask(url, watch.timeout)).collect::<Result<_, _>>()?;
    let looks = Looks::new(beat_file(&arguments, &folder), clock.clone(), options.timeout);
    let plan = Plan {
        name,
        program: program.clone(),
        arguments: rest.to_vec(),
        watch,
        grace: options.grace,
        on_freeze: arguments.on_freeze,
        beats: looks.path().to_owned(),
        folder,
        user: arguments.user,
        tty: arguments.tty,
        foreground: arguments.foreground,
    };
    Ok(Shell {
        plan,
        supervisor: Supervisor::new(policy, gate),
        reporter,
        clock,
        signals,
        ear,
        signs: Signs { looks, output: LastSeen::default(), health },
        processes,
        strangers: false,
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

fn policy(arguments: &Run, options: &Options, watch: &Watch) -> Policy {
    Policy {
        restart: options.restart,
        watch: watch.clone(),
        grace: options.grace,
        hook: arguments.on_freeze.as_ref().map(|_| options.on_freeze_timeout),
        foreground: arguments.foreground,
    }
}

/// The health checks that must pass, and the URLs of those by HTTP.
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

/// Claims the name. A name that is taken is an error; a folder that does not work only costs the heartbeat, and the inner
/// error says why.
fn claim(asked: &str, is_explicit: bool) -> Result<Result<Claim, String>, String> {
    let wanted = asked.to_owned();
    let claim = within(CLAIM_LIMIT, move || Claim::new(&wanted, is_explicit));
    match claim {
        Ok(Ok(claim)) => Ok(Ok(claim)),
        Ok(Err(Refusal::Taken(why))) => Err(why),
        Ok(Err(Refusal::Impossible(error))) => Ok(Err(format!("no heartbeat: {error}"))),
        Err(error) => Ok(Err(format!("no heartbeat: {}: {error}", places::folder().display()))),
    }
}

/// Begins to report: the heartbeat, and the log of what was found at the start.
fn introduce(
    arguments: &Run,
    asked: &str,
    name: &str,
    claim: Result<Claim, String>,
    watch: &Watch,
    config: &Config,
) -> Result<Reporter, String> {
    let shown = shown_command(&arguments.command, arguments.show_command);
    let mut reporter = Reporter::new(&shown, Log::new(name, arguments.log_format, arguments.quiet));
    match claim {
        Ok(claim) => {
            reporter.beat(claim, arguments.interval, arguments.file_mode, config).map_err(|error| error.to_string())?;
        }
        Err(what) => reporter.tell(&News::Trouble { what }),
    }
    if name != asked {
        reporter.tell(&News::Renamed { asked: asked.to_owned() });
    }
    reporter.tell(&News::Watched { what: watch.to_string() });
    if !config.files().is_empty() {
        reporter.tell(&News::Configured { files: config.files().to_vec() });
    }
    for warning in config.warnings() {
        reporter.tell(&News::Trouble { what: warning.to_string() });
    }
    Ok(reporter)
}

/// The processes that there are before the program's: those of a shell that became this process, and the guard.
fn processes(grace: Duration, folder: &Path, clock: &Clock, reporter: &Reporter) -> Processes {
    let trouble = |what: String| reporter.tell(&News::Trouble { what });
    let elders = family::children();
    if let Err(error) = family::adopt_orphans() {
        trouble(format!("orphans of the program cannot be reaped: {error}"));
    }
    // When process 1 ends, the kernel ends all others.
    let is_init = std::process::id() == 1;
    let guard = if is_init { Ok(None) } else { Guard::start(grace, folder, clock.now()).map(Some) };
    let guard = guard.unwrap_or_else(|error| {
        trouble(no_guard(&error));
        None
    });
    Processes::new(guard, elders)
}

fn ask(url: HealthUrl, timeout: Duration) -> Result<LastSeen, String> {
    let seen = LastSeen::default();
    url.ask_for_ever(timeout, seen.clone()).map_err(fail("no thread for the health URL"))?;
    Ok(seen)
}

fn beat_file(arguments: &Run, folder: &PrivateFolder) -> BeatFile {
    let strictness = match (arguments.lenient, arguments.strict) {
        (true, _) => Strictness::Lenient,
        (_, true) => Strictness::Strict,
        _ => Strictness::Watchdog,
    };
    // Absolute, because the program may change its directory.
    let given = arguments.heartbeat.as_ref().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()));
    BeatFile { path: given.unwrap_or_else(|| folder.beats()), strictness }
}

/// The command line in the heartbeat: the program alone by default, because arguments may hold secrets.
fn shown_command(command: &[OsString], whole: bool) -> String {
    let words = if whole { command } else { command.get(..1).unwrap_or_default() };
    let line = words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    line.chars().take(LONGEST_LINE).collect()
}

/// The program's file name, where the rules for names allow it.
fn default_name(program: &OsStr) -> String {
    let name = Path::new(program).file_name().and_then(|name| file_name(&name.to_string_lossy()).ok());
    name.unwrap_or_else(|| "program".to_owned())
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
