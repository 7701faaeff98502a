//! The arguments of `backstay serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::hosts;
use crate::heartbeats::CheckOptions;
use crate::values::{address, every};

/// Serve the state of services as a live web page and as metrics for Prometheus
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  backstay serve                           services that run under `backstay run`, at http://127.0.0.1:8642/
  backstay serve --listen 127.0.0.1:0 .    this folder, at a free port, which is printed
  backstay run -- backstay serve /run      restarted on a crash or a freeze
  ssh -L 8642:127.0.0.1:8642 host          the web page of another machine
  scrape_configs: [{job_name: backstay, static_configs: [{targets: ['127.0.0.1:8642']}]}]

Paths:
  /             web page
  /metrics      metrics for Prometheus
  /healthz      200: it serves
  /readyz       200: the folder can be read; 503 before the first look, and while it cannot be read
  /api/status   JSON, as `backstay status --json` prints it

Security:
It answers GET and HEAD only, and changes nothing. Any client that can reach the address can read all heartbeats: there \
is no password and no encryption. To publish it beyond this machine, put it behind a proxy that has them, and name the \
proxy's host with --allow-host: on a loopback address only IP addresses and localhost are accepted by default, which \
keeps other sites from reading the heartbeats through a browser.

Exit codes:
  0  stopped by SIGTERM or SIGINT, every request answered
  1  cannot listen, or a request was still open at the end of the shutdown
  2  invalid command line")]
pub(crate) struct ServeArguments {
    /// Folder with *.heartbeat files [default: the folder that `backstay run` uses]
    pub(crate) folder: Option<PathBuf>,
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address, default_value = "127.0.0.1:8642")]
    pub(crate) listen: SocketAddr,
    /// Host name that requests may use, for a proxy in front; repeat it to allow several
    #[arg(long, value_name = "NAME", value_parser = hosts::name)]
    pub(crate) allow_host: Vec<String>,
    /// Interval at which the folder is read
    #[arg(long, value_name = "TIME", value_parser = every, default_value = "1s")]
    pub(crate) every: Duration,
    /// Heartbeat file to write [default: BACKSTAY_HEARTBEAT_FILE, as set by `backstay run`]
    #[arg(long, value_name = "FILE")]
    pub(crate) heartbeat: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) check_options: CheckOptions,
}
