//! What can be said on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Fault tolerance from the outside: for programs in any language, unchanged.
#[derive(Debug, Parser)]
#[command(
    name = "backstay",
    version,
    arg_required_else_help = true,
    max_term_width = 120,
    after_help = "\
Examples:
  backstay probe /run/bot.heartbeat        is it alive? the exit code says what is wrong
  backstay status --watch /run             every heartbeat of a folder, live
  backstay config show                     which setting holds, and where it comes from"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Probe(Probe),
    Status(Status),
    #[command(subcommand)]
    Config(Config),
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

The exit code is the one of the worst: DEAD is worse than UNKNOWN, UNKNOWN than ALIVE."))]
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
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1s")]
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

/// Seconds, or a text such as "1m 30s", "500ms", "PT1M".
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("must be seconds, or a text such as \"1m 30s\", not {text:?}");
    let text = text.trim();
    let length = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => text.parse::<jiff::SignedDuration>().ok().and_then(|length| Duration::try_from(length).ok()),
    };
    length.ok_or_else(wrong)
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
    fn times_are_seconds_or_texts() {
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        for wrong in ["", "-1", "soon", "NaN", "inf", "-3s", "1e300"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_help_lists_every_exit_code() {
        let help = with_codes!("");
        for verdict in Verdict::ALL {
            assert_eq!(help.lines().filter(|line| line.starts_with(&format!("{:>4}  ", verdict.code()))).count(), 1);
        }
    }
}
