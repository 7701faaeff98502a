//! `backstay serve`: shows the heartbeats of a folder in the browser, and as metrics for Prometheus.
//!
//! A thread reads the folder (`snapshot`) and keeps the last minutes (`history`). `site` answers requests from the last
//! snapshot; `connections` limits the number and duration of connections. The library's graceful shutdown ends it.

mod arguments;
mod connections;
mod history;
mod hosts;
mod metrics;
mod site;
mod snapshot;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use backstay::clock::Clock;
use backstay::config::{Config, Sources};
use backstay::{GracefulShutdown, Heartbeat};
use tokio::net::TcpListener;

pub(crate) use arguments::ServeArguments;
use connections::ConnectionSlots;
use hosts::Hosts;
use site::{Shared, Site};
use snapshot::{FolderWatcher, Latest};

use crate::heartbeats::files;
use crate::output;

/// Timeout of the shutdown: longer than any connection lives after it has begun.
const DRAIN: Duration = Duration::from_secs(5);

pub(crate) fn serve(arguments: &ServeArguments) -> ExitCode {
    match start(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            output::error(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Serves until the shutdown; returns whether all requests were answered.
fn start(arguments: &ServeArguments) -> Result<bool, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let folder = arguments.folder.clone().unwrap_or_else(files::folder);
    let config = Config::from_sources(&Sources::of_process()).map_err(|error| text(&error))?;
    for warning in config.warnings() {
        output::error(&format!("warning: {warning}"));
    }
    let shutdown = GracefulShutdown::builder().timeout(DRAIN).config(&config).build().map_err(|error| text(&error))?;
    let site = Arc::new(Site {
        latest: Latest::default(),
        hosts: Hosts::new(arguments.listen, &arguments.allow_host),
        clock: Clock::system(),
        hang_after: arguments.every.saturating_mul(5).max(Duration::from_secs(30)),
        requests: AtomicU64::new(0),
    });
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().map_err(|e| text(&e))?;
    runtime.block_on(async {
        let listener = TcpListener::bind(arguments.listen)
            .await
            .map_err(|error| format!("cannot listen at {}: {error}", arguments.listen))?;
        let address = listener.local_addr().map_err(|error| text(&error))?;
        let heartbeat = start_heartbeat(arguments, &config, &folder, address, &site)?;
        let slots = ConnectionSlots::new();
        let all_slots = slots.clone();
        shutdown.register_async("connections", move || all_slots.all_free()).map_err(|error| text(&error))?;
        shutdown.install().map_err(|error| text(&error))?;
        start_watching(
            FolderWatcher::new(&folder, arguments.check_options, arguments.every),
            &site,
            &shutdown,
            arguments.every,
        )?;
        output::line(&format!("serving {} at http://{address}/", output::printable(&folder.display().to_string())));

        let ended = || {
            let token = shutdown.token();
            async move { token.cancelled().await }
        };
        tokio::select! {
            () = connections::accept(listener, slots, Arc::clone(&site), ended) => {}
            () = shutdown.begun() => {}
        }
        let report = shutdown.wait_async().await;
        if let Some(heartbeat) = heartbeat {
            heartbeat.stop();
        }
        Ok(report.is_clean())
    })
}

/// Reads the folder until the shutdown, on a thread of its own: the folder may be on a file system that hangs.
fn start_watching(
    mut watcher: FolderWatcher,
    site: &Shared,
    shutdown: &GracefulShutdown,
    every: Duration,
) -> Result<(), String> {
    let (site, shutdown) = (Arc::clone(site), shutdown.clone());
    let watching = move || {
        let began = site.clock.now();
        loop {
            let now = site.clock.now();
            site.latest.set(watcher.read(now, now.since(began)));
            if shutdown.begun_within(every) {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("backstay-folder".to_owned()).spawn(watching);
    thread.map(drop).map_err(|error| format!("no thread: {error}"))
}

/// Starts the heartbeat of `serve`, if a file is configured. Its status is degraded while the folder cannot be read.
fn start_heartbeat(
    arguments: &ServeArguments,
    config: &Config,
    folder: &Path,
    address: SocketAddr,
    site: &Shared,
) -> Result<Option<Heartbeat>, String> {
    let variable = || std::env::var_os("BACKSTAY_HEARTBEAT_FILE").filter(|file| !file.is_empty()).map(PathBuf::from);
    let Some(file) = arguments.heartbeat.clone().or_else(variable) else { return Ok(None) };
    let metadata = [("folder", folder.display().to_string()), ("address", address.to_string())];
    let site = Arc::clone(site);
    let has_trouble = move || site.trouble().is_some();
    let heartbeat = Heartbeat::builder().state_file(file).metadata(metadata).target(has_trouble).config(config).build();
    let heartbeat = heartbeat.map_err(|error| error.to_string())?;
    heartbeat.start().map_err(|error| error.to_string())?;
    Ok(Some(heartbeat))
}
