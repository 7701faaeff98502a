//! `backstay probe`: one file, one line, one exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::output::{self, printable};
use crate::verdict::{Judging, Sighting, with_codes};

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
pub(crate) struct Probe {
    /// Heartbeat file to check
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) judging: Judging,
    /// Judge the supervisor alone, whether or not its program runs
    #[arg(long)]
    supervisor: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn probe(arguments: &Probe) -> ExitCode {
    let judging = Judging { supervisor: arguments.supervisor, ..arguments.judging };
    let sighting = Sighting::of(&arguments.file, judging);
    let verdict = sighting.verdict;
    if arguments.json {
        output::line(&output::json(&sighting.to_json()));
    } else {
        output::line(&format!("{} {}", verdict.state().as_str(), printable(&sighting.message)));
    }
    ExitCode::from(verdict.code())
}
