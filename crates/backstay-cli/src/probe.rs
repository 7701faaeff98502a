//! `backstay probe`: checks one heartbeat file; prints one line, and exits with a code that names the state.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::heartbeats::{CheckOptions, HeartbeatCheck, with_codes};
use crate::output::{self, printable};

/// Check one heartbeat file: print one line, and exit with a code that names the state
#[derive(Debug, Args)]
#[command(after_help = with_codes!("\
Examples:
  HEALTHCHECK CMD [\"backstay\", \"probe\", \"/run/bot.heartbeat\"]              # Dockerfile
  readinessProbe: {exec: {command: [backstay, probe, --strict, FILE]}}     # Kubernetes
  livenessProbe: {exec: {command: [backstay, probe, --supervisor, FILE]}}  # the same, of `run`
  backstay probe --max-age 1m --json bot.heartbeat

Supervised programs:
The heartbeat of `backstay run` passes while the program runs. While the program waits to be restarted, the exit code \
is 12, and with --supervisor still 0. A liveness probe uses --supervisor: otherwise the kubelet would restart the \
container during the backoff, and so defeat it."))]
pub(crate) struct ProbeArguments {
    /// Heartbeat file to check
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) check_options: CheckOptions,
    /// Judge the supervisor alone, whether or not its program runs
    #[arg(long)]
    supervisor: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn probe(arguments: &ProbeArguments) -> ExitCode {
    let check_options = CheckOptions { supervisor: arguments.supervisor, ..arguments.check_options };
    let check = HeartbeatCheck::of(&arguments.file, check_options);
    let result = check.result;
    if arguments.json {
        output::line(&output::json(&check.to_json()));
    } else {
        output::line(&format!("{} {}", result.state().as_str(), printable(&check.message)));
    }
    ExitCode::from(result.code())
}
