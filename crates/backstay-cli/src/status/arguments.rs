//! The arguments of `backstay status`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::heartbeats::{CheckOptions, with_codes};
use crate::values::every;

/// Show the state of services by their heartbeat files: ALIVE, STOPPED, UNKNOWN or DEAD
#[derive(Debug, Args)]
#[command(after_help = with_codes!("\
Examples:
  backstay status                          services that run under `backstay run`
  backstay status /run /tmp/bot.heartbeat  all *.heartbeat files of a folder, and one file
  backstay status --watch --sort age       redraw every second; s sorts, r reverses, q quits
  backstay status --watch | logger         print a line for each service, and for each change

The exit code is that of the worst service: DEAD is worse than UNKNOWN, UNKNOWN than ALIVE. STOPPED, an orderly end, is \
not a failure (exit code 0). The exit code is 1 if standard output cannot be written."))]
pub(crate) struct StatusArguments {
    /// Heartbeat files, and folders with *.heartbeat files [default: the folder that `backstay run` uses]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) check_options: CheckOptions,
    /// Print one JSON array; with --watch, one JSON object for each change
    #[arg(long)]
    pub(crate) json: bool,
    /// Keep watching until q or Ctrl-C
    #[arg(long, short)]
    pub(crate) watch: bool,
    /// Refresh interval of --watch
    #[arg(long, value_name = "TIME", value_parser = every, default_value = "1s")]
    pub(crate) every: Duration,
    /// Sort order: state, name, age, pid or host
    #[arg(long, value_enum, default_value_t = Sort::State, hide_possible_values = true)]
    pub(crate) sort: Sort,
    /// Reverse the sort order
    #[arg(long, short)]
    pub(crate) reverse: bool,
}

/// The sort order of `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Sort {
    /// Worst first
    State,
    /// Alphabetically
    Name,
    /// Oldest heartbeat first
    Age,
    /// Lowest process id first
    Pid,
    /// Alphabetically by host
    Host,
}
