//! The arguments of `backstay run`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::{HealthUrl, Restart, User};
use crate::values::{count, duration, file_mode, file_name, interval, positive, restart_period};

/// Supervise a program: restart it when it crashes or freezes, limit crash loops, stop it in order
#[derive(Debug, Args)]
#[command(
    override_usage = "backstay run [OPTIONS] [--] COMMAND [ARG]...",
    after_help = "\
Examples:
  backstay run -- python bot.py
  backstay run --health output --timeout 1m -- ./worker        frozen after a minute without output
  backstay run --health http://127.0.0.1:8080/healthz -- ./server
  backstay run --on-freeze 'py-spy dump --pid $BACKSTAY_PID' -- python bot.py
  ENTRYPOINT [\"backstay\", \"run\", \"--\", \"./server\"]             Dockerfile: process 1, reaps orphans

Health checks:
  heartbeat  the program writes the file in BACKSTAY_HEARTBEAT_FILE
  notify     the program sends WATCHDOG=1 to NOTIFY_SOCKET, as with systemd
  output     the program writes to standard output or standard error
  URL        the program answers http://HOST[:PORT]/PATH with status 2xx or 3xx
Without --health, heartbeat and notify count from the first time that the program uses them. With output, Python gets \
PYTHONUNBUFFERED=1; other programs that write in blocks into a pipe need --tty.

Environment of the program:
  BACKSTAY_HEARTBEAT_FILE  heartbeat file that is watched
  BACKSTAY_RESTARTS        number of restarts so far
  NOTIFY_SOCKET            socket for sd_notify(3): READY=1, WATCHDOG=1, STATUS=..., STOPPING=1
  WATCHDOG_USEC            the timeout in microseconds, where notify is watched

Signals:
TERM, INT and QUIT stop: the signal goes to the program's process tree, KILL follows after the grace period. A second \
signal kills at once. Ctrl-Z stops both until they are continued.

HUP, USR1 and USR2 are forwarded to the program. A program that dies of a forwarded HUP is not restarted (exit code \
129), and with --foreground neither is one that Ctrl-C ended. HUP stops the supervisor while the program is not running. HUP, \
INT and QUIT stay ignored where they were ignored at the start (nohup).

A terminal on standard input is replaced by /dev/null, unless --foreground is given. If the supervisor itself is \
killed, its guard process ends the program.

Security:
Notifications count if the program's process tree or root sends them. With --user, the notification socket and the folder \
of BACKSTAY_HEARTBEAT_FILE belong to that user; a program that drops root by itself can send notifications, but cannot \
write that file. The --on-freeze command runs as the supervisor's user.

Configuration:
Defaults for options come from variables such as BACKSTAY_RUN__GRACE=30, and from resilience.run.instances.NAME or \
resilience.run in backstay.yml or kstlib.conf.yml (in the working directory, ~ or ~/.config). `backstay config show` \
prints them.

Exit codes:
    2  invalid command line
  125  backstay itself failed
  126  the program cannot be executed
  127  the program was not found
       otherwise the program's exit code, or 128 + N after signal N"
)]
pub(crate) struct RunArguments {
    /// Program to run, and its arguments
    #[arg(required = true, trailing_var_arg = true)]
    pub(crate) command: Vec<OsString>,
    /// Name in logs and in `backstay status` [default: the program's file name]
    #[arg(long, value_parser = file_name)]
    pub(crate) name: Option<String>,
    /// Health check that must pass: heartbeat, notify, output or an http:// URL; repeat it to require several
    #[arg(long, value_name = "CHECK")]
    pub(crate) health: Vec<Health>,
    /// Time without a passed health check after which the program counts as frozen [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = positive)]
    pub(crate) timeout: Option<Duration>,
    /// Timeout until the first passed health check [default: the timeout]
    #[arg(long, value_name = "TIME", value_parser = positive)]
    pub(crate) start_timeout: Option<Duration>,
    /// Heartbeat file to watch, for a program that ignores BACKSTAY_HEARTBEAT_FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) heartbeat: Option<PathBuf>,
    /// Count every heartbeat with status `degraded` as a freeze, not only that of a fired watchdog
    #[arg(long, conflicts_with = "lenient")]
    pub(crate) strict: bool,
    /// Count no heartbeat with status `degraded` as a freeze, not even that of a fired watchdog
    #[arg(long)]
    pub(crate) lenient: bool,
    /// Give the program a pseudo-terminal for its output, so that it writes line by line
    #[arg(long)]
    pub(crate) tty: bool,
    /// Lend the terminal to the program, for a shell or a password prompt
    #[arg(long, conflicts_with = "tty")]
    pub(crate) foreground: bool,
    /// Shell command to run on a freeze, before the program is stopped; BACKSTAY_PID is the frozen process
    #[arg(long, value_name = "COMMAND")]
    pub(crate) on_freeze: Option<OsString>,
    /// Time limit of the --on-freeze command [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = positive)]
    pub(crate) on_freeze_timeout: Option<Duration>,
    /// Grace period between SIGTERM and SIGKILL [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) grace: Option<Duration>,
    /// Restart policy: on-failure (exit code, signal or freeze), always or never [default: on-failure]
    #[arg(long, value_enum, hide_possible_values = true)]
    pub(crate) restart: Option<Restart>,
    /// Initial restart backoff; doubles after each failed start, with 50 % jitter [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) backoff: Option<Duration>,
    /// Maximum restart backoff [default: 1m]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) max_backoff: Option<Duration>,
    /// Minimum uptime for a start to count as successful [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) min_uptime: Option<Duration>,
    /// Maximum number of restarts within --per; further restarts are delayed [default: 20]
    #[arg(long, value_name = "N", value_parser = count())]
    pub(crate) max_restarts: Option<u32>,
    /// Period for --max-restarts [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = restart_period)]
    pub(crate) per: Option<Duration>,
    /// Consecutive crashes that open the circuit breaker [default: 5]
    #[arg(long, value_name = "N", value_parser = count())]
    pub(crate) max_crashes: Option<u32>,
    /// Cooldown between start attempts while the circuit breaker is open [default: 1m]
    #[arg(long, value_name = "TIME", value_parser = restart_period)]
    pub(crate) cooldown: Option<Duration>,
    /// Interval of the supervisor's own heartbeat [default: the configured heartbeat interval, or 10s]
    #[arg(long, value_name = "TIME", value_parser = interval)]
    pub(crate) interval: Option<Duration>,
    /// User and group to run the program as, by name or id; for root only
    #[arg(long, value_name = "USER[:GROUP]", value_parser = User::parse)]
    pub(crate) user: Option<User>,
    /// Permissions of the supervisor's heartbeat file, octal; 644 lets other users read it
    #[arg(long, value_name = "MODE", value_parser = file_mode, default_value = "600")]
    pub(crate) file_mode: u32,
    /// Show the program's arguments in the heartbeat file, which may hold secrets
    #[arg(long)]
    pub(crate) show_command: bool,
    /// Format of the log on standard error: text or json
    #[arg(long, value_enum, default_value = "text", hide_possible_values = true)]
    pub(crate) log_format: LogFormat,
    /// Log warnings only
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// How `run` logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// Plain text
    Text,
    /// One JSON object per line
    Json,
}

/// A health check on the command line.
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
            _ => Err("expected heartbeat, output, notify, or a URL such as http://127.0.0.1:8080/healthz".to_owned()),
        }
    }
}

#[cfg(test)]
impl RunArguments {
    /// The description of the command, with its arguments alone.
    pub(crate) fn description() -> clap::Command {
        Self::augment_args(clap::Command::new("run"))
    }

    /// Parses what follows `backstay run` on the command line.
    pub(crate) fn parse(line: &[&str]) -> Result<Self, clap::Error> {
        use clap::FromArgMatches;

        let matches = Self::description().try_get_matches_from([&["run"], line].concat())?;
        Self::from_arg_matches(&matches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_is_part_of_a_url() {
        let run = RunArguments::parse(&["--health", "http://127.0.0.1:1/a,http", "--health", "output", "x"]).unwrap();
        assert!(matches!(&run.health[..], [Health::Http(_), Health::Output]), "{:?}", run.health);
    }

    #[test]
    fn an_invalid_health_url_is_rejected() {
        for url in ["http://h:0/", "https://h/", "HTTP://[zz]/"] {
            let error = RunArguments::parse(&["--health", url, "x"]).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains("--health") && error.to_string().contains(url), "{error}");
        }
        assert!(RunArguments::parse(&["--health", "HTTP://h/", "x"]).is_ok());
    }

    // CL-1: a misspelt option must not be executed as the program.
    #[test]
    fn an_unknown_option_before_the_program_is_an_error_with_a_suggestion() {
        for (line, meant) in [
            (&["--timout", "5", "--", "true"][..], "--timeout"),
            (&["--timout=5", "true"], "--timeout"),
            (&["--name", "x", "--backof", "1s", "--", "true"], "--backoff"),
        ] {
            let error = RunArguments::parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            let text = error.to_string();
            assert!(text.contains("unexpected argument '") && text.contains(&format!("'{meant}'")), "{text}");
        }
        assert!(RunArguments::parse(&["-x", "true"]).is_err());
    }

    #[test]
    fn options_after_the_program_are_its_own() {
        for line in [&["sh", "--timeout", "x", "-c"][..], &["--", "sh", "--timeout", "x", "-c"]] {
            assert_eq!(RunArguments::parse(line).unwrap().command, ["sh", "--timeout", "x", "-c"]);
        }
        assert_eq!(RunArguments::parse(&["--", "--odd-name", "-q"]).unwrap().command, ["--odd-name", "-q"]);
        assert_eq!(RunArguments::parse(&["sh", "--", "-q"]).unwrap().command, ["sh", "--", "-q"]);
    }
}
