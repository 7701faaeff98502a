//! What can be said to `serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::hosts;
use crate::arguments::Judging;
use crate::values::{address, every};

/// Show every heartbeat of a folder in the browser, live, and as metrics for Prometheus
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  backstay serve                           what `backstay run` runs, at http://127.0.0.1:8642/
  backstay serve --listen 127.0.0.1:0 .    this folder, at a free port, which is printed
  backstay run -- backstay serve /run      restarted when it crashes or freezes
  ssh -L 8642:127.0.0.1:8642 host          the page of another machine
  scrape_configs: [{job_name: backstay, static_configs: [{targets: ['127.0.0.1:8642']}]}]     # Prometheus

  /             the page
  /metrics      for Prometheus
  /healthz      200: it serves
  /readyz       200: it sees the folder; 503 before the first look, and while the folder cannot be read
  /api/status   JSON, as `backstay status --json` prints it

It only reads, and only answers GET and HEAD. Whoever can reach it can read all that the heartbeats say: there is
neither a password nor encryption. Beyond this machine, put it behind something that has them.

Exit codes:
  0  stopped by SIGTERM or SIGINT, and everybody had the answer
  1  it cannot listen there, or somebody still waited for an answer when its time was over
  2  the command line is wrong")]
pub(crate) struct Serve {
    /// A folder of heartbeat files (*.heartbeat) [default: where `backstay run` puts its own]
    pub(crate) folder: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address, default_value = "127.0.0.1:8642")]
    pub(crate) listen: SocketAddr,
    /// A name under which the page is asked for, where a proxy passes it on; may be given several times. Without it a
    /// loopback address answers to IP addresses and localhost alone, so that no other site reads it through a browser
    #[arg(long, value_name = "NAME", value_parser = hosts::name)]
    pub(crate) allow_host: Vec<String>,
    /// How often to look
    #[arg(long, value_name = "TIME", value_parser = every, default_value = "1s")]
    pub(crate) every: Duration,
    /// Beat into this file [default: BACKSTAY_HEARTBEAT_FILE, as `backstay run` sets it]
    #[arg(long, value_name = "FILE")]
    pub(crate) heartbeat: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) judging: Judging,
}
