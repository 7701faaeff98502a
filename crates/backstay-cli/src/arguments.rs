//! What can be said on the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::run::{HealthUrl, Restart};
use crate::serve::Serve;
pub(crate) use crate::values::file_name;
use crate::values::{count, duration, every, file_mode, interval, pace, positive};

/// Fault tolerance from the outside: for programs in any language, unchanged.
#[derive(Debug, Parser)]
#[command(
    name = "backstay",
    version,
    arg_required_else_help = true,
    max_term_width = 120,
    after_help = "\
Examples:
  backstay run -- python bot.py            restarted when it crashes, stopped in order, seen by status
  backstay probe /run/bot.heartbeat        is it alive? the exit code says what is wrong
  backstay status --watch /run             every heartbeat of a folder, live
  backstay serve                           the same in the browser, and metrics for Prometheus
  backstay config show                     which setting holds, and where it comes from"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Box<Run>),
    Probe(Probe),
    Status(Status),
    Serve(Serve),
    #[command(subcommand)]
    Config(Config),
    Completions(Completions),
    Man(Man),
    #[command(hide = true)]
    Guard(Guard),
}

macro_rules! with_codes {
    ($examples:literal) => {
        concat!(
            $examples,
            "

Exit codes:
   0  alive
   2  the command line is wrong
   3  stale: the last beat is too old
   4  its process is gone, without a farewell
   5  alive, but degraded (with --strict)
   6  stopped, as it was meant to
   7  there is no such file
   8  the file is no heartbeat: damaged, too large, or no regular file
   9  the file cannot be read
  10  the beat lies in the future: a clock is wrong
  11  alive, but starting or stopping (with --strict)"
        )
    };
}

/// Supervise a program: restart it when it crashes or freezes, hold crash loops back, stop it in order
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  backstay run -- python bot.py
  backstay run --health output --timeout 1m -- ./worker      frozen: writes nothing for a minute
  backstay run --health http://127.0.0.1:8080/healthz -- ./server
  backstay run --on-freeze 'py-spy dump --pid $BACKSTAY_PID' -- python bot.py
  ENTRYPOINT [\"backstay\", \"run\", \"--\"]                      in a Dockerfile: process 1, orphans are reaped

The program finds in its environment BACKSTAY_HEARTBEAT_FILE, to beat into, and NOTIFY_SOCKET, systemd's own protocol.
Without --health these two count from the first sign that the program gives. BACKSTAY_RESTARTS says how often it was
started again.

Signals: TERM, INT and QUIT stop: they go to the program's whole process group, after --grace follows KILL; a second
one kills at once. HUP, USR1 and USR2 go to the program; one that dies of the HUP is not restarted, and the exit code is
129; a HUP while none runs stops. HUP, INT and QUIT stay ignored where they were (nohup). Ctrl-Z stops the program as
well, until both go on. A terminal as standard input is replaced by /dev/null: the program is in the background. Should
this process itself be killed, a guard ends the program.

What is not given comes from kstlib.conf.yml, resilience.run.instances.NAME or resilience.run, and BACKSTAY_RUN__GRACE=30
and the like; `backstay config show` shows it.

Exit codes: the program's, or 128 + n where signal n ended it;
  125  backstay itself failed
  126  the program cannot be run
  127  there is no such program
    2  the command line is wrong")]
pub(crate) struct Run {
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
    /// What to call it [default: the program's file name]
    #[arg(long, value_parser = file_name)]
    pub(crate) name: Option<String>,
    /// What must give signs of life: heartbeat, output, notify, or a health URL; where several are given, all of them
    #[arg(long, value_name = "SOURCE")]
    pub(crate) health: Vec<Health>,
    /// Frozen: no sign of life for so long [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = positive)]
    pub(crate) timeout: Option<Duration>,
    /// How long the first sign of life may take [default: the timeout]
    #[arg(long, value_name = "TIME", value_parser = positive)]
    pub(crate) start_timeout: Option<Duration>,
    /// A heartbeat file that the program writes anyway
    #[arg(long, value_name = "FILE")]
    pub(crate) heartbeat: Option<PathBuf>,
    /// A heartbeat that says `degraded` is no sign of life
    #[arg(long)]
    pub(crate) strict: bool,
    /// Run by `sh` when it froze, before it is ended; BACKSTAY_PID is the frozen process
    #[arg(long, value_name = "COMMAND")]
    pub(crate) on_freeze: Option<OsString>,
    /// How long that may take [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = positive)]
    pub(crate) on_freeze_timeout: Option<Duration>,
    /// From the polite signal to the last [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) grace: Option<Duration>,
    /// After which ends to start it again [default: on-failure]
    #[arg(long, value_enum)]
    pub(crate) restart: Option<Restart>,
    /// Before the first restart; doubled for each one that does not last, half of it by chance [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) backoff: Option<Duration>,
    /// The longest wait [default: 1m]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) max_backoff: Option<Duration>,
    /// What runs for so long has not crashed at once [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) min_uptime: Option<Duration>,
    /// So many restarts ... [default: 20]
    #[arg(long, value_name = "N", value_parser = count())]
    pub(crate) max_restarts: Option<u32>,
    /// ... in so long; those beyond have to wait [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = pace)]
    pub(crate) per: Option<Duration>,
    /// So many crashes in a row are a crash loop ... [default: 5]
    #[arg(long, value_name = "N", value_parser = count())]
    pub(crate) max_crashes: Option<u32>,
    /// ... which is held back for so long between two tries [default: 1m]
    #[arg(long, value_name = "TIME", value_parser = pace)]
    pub(crate) cooldown: Option<Duration>,
    /// How often to beat, for `backstay status` [default: the configuration's, or 10s]
    #[arg(long, value_name = "TIME", value_parser = interval)]
    pub(crate) interval: Option<Duration>,
    /// Permissions of the supervisor's heartbeat file, octal; 644 lets other users read it
    #[arg(long, value_name = "MODE", value_parser = file_mode, default_value = "600")]
    pub(crate) file_mode: u32,
    /// Show the program's arguments in the heartbeat file; without it, the program alone
    #[arg(long)]
    pub(crate) show_command: bool,
    /// How to log, on standard error
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// Log what is bad only
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// How `run` logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    /// One object on each line
    Json,
}

/// A way to give signs of life, as it is written.
#[derive(Clone, Debug)]
pub(crate) enum Health {
    Heartbeat,
    Output,
    Notify,
    Http(HealthUrl),
}

impl FromStr for Health {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "heartbeat" => Ok(Self::Heartbeat),
            "output" => Ok(Self::Output),
            "notify" => Ok(Self::Notify),
            url if url.contains("://") => HealthUrl::parse(url).map(Self::Http),
            _ => Err("must be heartbeat, output, notify, or a URL such as http://127.0.0.1:8080/healthz".to_owned()),
        }
    }
}

/// Print what a shell needs to complete command lines
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  backstay completions bash > ~/.local/share/bash-completion/completions/backstay
  backstay completions zsh > ~/.zfunc/_backstay
  backstay completions fish > ~/.config/fish/completions/backstay.fish")]
pub(crate) struct Completions {
    pub(crate) shell: clap_complete::Shell,
}

/// Write the man pages into a folder, one for each command
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  backstay man ~/.local/share/man/man1 && man backstay-run")]
pub(crate) struct Man {
    /// Made when missing
    pub(crate) folder: PathBuf,
}

/// Ends a program whose supervisor was killed
#[derive(Debug, Args)]
pub(crate) struct Guard {
    #[arg(long, value_parser = duration)]
    pub(crate) grace: Duration,
    #[arg(long)]
    pub(crate) folder: PathBuf,
}

/// Say in one line, and by the exit code, whether the service that writes a heartbeat file is alive
#[derive(Debug, Args)]
#[command(after_help = with_codes!("\
Examples:
  HEALTHCHECK CMD [\"backstay\", \"probe\", \"/run/bot.heartbeat\"]          # Dockerfile
  exec: {command: [backstay, probe, --strict, /run/bot.heartbeat]}     # Kubernetes, readiness
  backstay probe --max-age 1m --json bot.heartbeat"))]
pub(crate) struct Probe {
    /// The heartbeat file
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) judging: Judging,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// How a heartbeat is judged.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct Judging {
    /// How old the last beat may be: seconds, or a text such as "1m 30s" [default: three of the writer's intervals,
    /// 30 s at least]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) max_age: Option<Duration>,
    /// To be alive is not enough: it must say that it is ready, too
    #[arg(long)]
    pub(crate) strict: bool,
}

/// Show what heartbeat files say: ALIVE, DEAD or UNKNOWN
#[derive(Debug, Args)]
#[command(after_help = with_codes!("\
Examples:
  backstay status                          the heartbeats of what `backstay run` runs
  backstay status /run /tmp/bot.heartbeat  every *.heartbeat of a folder, and one file
  backstay status --watch --sort age       redrawn every second; s sorts, r reverses, q quits
  backstay status --watch | logger         piped: a line now for each, and one for each change

The exit code is the one of the worst: DEAD is worse than UNKNOWN, UNKNOWN than ALIVE. It is 1 where standard output
cannot be written."))]
pub(crate) struct Status {
    /// Heartbeat files, and folders of them (*.heartbeat) [default: where `backstay run` puts its own]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) judging: Judging,
    /// Print one JSON array; with --watch, an object for each change
    #[arg(long)]
    pub(crate) json: bool,
    /// Go on looking, until q or Ctrl-C
    #[arg(long, short)]
    pub(crate) watch: bool,
    /// How often --watch looks
    #[arg(long, value_name = "TIME", value_parser = every, default_value = "1s")]
    pub(crate) every: Duration,
    /// What comes first
    #[arg(long, value_enum, default_value_t = Sort::State)]
    pub(crate) sort: Sort,
    /// The other way round
    #[arg(long, short)]
    pub(crate) reverse: bool,
}

/// By what `status` sorts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Sort {
    /// The worst first
    State,
    Name,
    /// The oldest first
    Age,
    Pid,
    Host,
}

/// Check or show the configuration: kstlib.conf.yml and BACKSTAY_* variables
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    Check(Check),
    Show(Show),
}

/// Say whether the configuration is right: what is wrong in which line and column, and what is allowed there
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  right, perhaps with warnings
  1  broken; with --strict, also for a warning
  2  the command line is wrong")]
pub(crate) struct Check {
    /// The file to check [default: all that a program started here would read]
    pub(crate) file: Option<PathBuf>,
    /// Take a warning (an unknown key, a number out of bounds) for an error
    #[arg(long)]
    pub(crate) strict: bool,
}

/// Show every setting: which value holds, and where it comes from
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The file to show [default: all that a program started here would read]
    pub(crate) file: Option<PathBuf>,
    /// Print one JSON array
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::verdict::Verdict;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_comma_is_part_of_a_url() {
        let url = "http://127.0.0.1:1/a,http";
        let arguments = Arguments::parse_from(["backstay", "run", "--health", url, "--health", "output", "x"]);
        let Command::Run(run) = arguments.command else { panic!("another command") };
        assert!(matches!(&run.health[..], [Health::Http(_), Health::Output]), "{:?}", run.health);
    }

    #[test]
    fn a_wrong_health_url_is_a_wrong_command_line() {
        let parse = |url| Arguments::try_parse_from(["backstay", "run", "--health", url, "x"]);
        for url in ["http://h:0/", "https://h/", "HTTP://[zz]/"] {
            let error = parse(url).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains("--health") && error.to_string().contains(url), "{error}");
        }
        assert!(parse("HTTP://h/").is_ok());
    }

    #[test]
    fn whoever_looks_does_not_keep_the_machine_busy() {
        let Command::Serve(serve) = Arguments::parse_from(["backstay", "serve", "--every", "1e-9"]).command else {
            panic!("another command")
        };
        assert_eq!(serve.every, Duration::from_millis(20));
        let Command::Status(status) = Arguments::parse_from(["backstay", "status", "--every", "0"]).command else {
            panic!("another command")
        };
        assert_eq!(status.every, Duration::from_millis(20));
    }

    #[test]
    fn the_help_lists_every_exit_code() {
        let help = with_codes!("");
        for verdict in Verdict::ALL {
            assert_eq!(help.lines().filter(|line| line.starts_with(&format!("{:>4}  ", verdict.code()))).count(), 1);
        }
    }
}
