//! `backstay serve`: the heartbeats of a folder in the browser, and for Prometheus.
//!
//! A thread looks at the folder (`board`) and remembers the last minutes (`history`); `site` answers from the last
//! look; `connections` bounds who asks. It ends by our own graceful shutdown.

mod arguments;
mod board;
mod connections;
mod history;
mod hosts;
mod metrics;
mod site;

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

pub(crate) use arguments::Serve;
use board::{Latest, Lookout};
use connections::Places;
use hosts::Hosts;
use site::{Shared, Site};

use crate::{output, places};

/// More than any connection has left when the end begins.
const DRAIN: Duration = Duration::from_secs(5);

pub(crate) fn serve(arguments: &Serve) -> ExitCode {
    match start(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            output::error(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether everybody had the answer when it ended.
fn start(arguments: &Serve) -> Result<bool, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let folder = arguments.folder.clone().unwrap_or_else(places::folder);
    let config = Config::from_sources(&Sources::of_process()).map_err(|error| text(&error))?;
    for warning in config.warnings() {
        output::error(&format!("warning: {warning}"));
    }
    let shutdown = GracefulShutdown::builder().timeout(DRAIN).config(&config).build().map_err(|error| text(&error))?;
    let site = Arc::new(Site {
        latest: Latest::default(),
        hosts: Hosts::new(arguments.listen, &arguments.allow_host),
        clock: Clock::system(),
        patience: arguments.every.saturating_mul(5).max(Duration::from_secs(30)),
        requests: AtomicU64::new(0),
    });
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().map_err(|e| text(&e))?;
    runtime.block_on(async {
        let listener = TcpListener::bind(arguments.listen)
            .await
            .map_err(|error| format!("cannot listen at {}: {error}", arguments.listen))?;
        let address = listener.local_addr().map_err(|error| text(&error))?;
        let heartbeat = beat(arguments, &config, &folder, address, &site)?;
        let places = Places::new();
        let everybody = places.clone();
        shutdown.register_async("connections", move || everybody.empty()).map_err(|error| text(&error))?;
        shutdown.install().map_err(|error| text(&error))?;
        look(Lookout::new(&folder, arguments.judging, arguments.every), &site, &shutdown, arguments.every)?;
        output::line(&format!("serving {} at http://{address}/", output::printable(&folder.display().to_string())));

        let ended = || {
            let token = shutdown.token();
            async move { token.cancelled().await }
        };
        tokio::select! {
            () = connections::accept(listener, places, Arc::clone(&site), ended) => {}
            () = shutdown.begun() => {}
        }
        let report = shutdown.wait_async().await;
        if let Some(heartbeat) = heartbeat {
            heartbeat.stop();
        }
        Ok(report.is_clean())
    })
}

/// Looks for as long as the process lives, on a thread of its own: a folder may be on a network that hangs.
fn look(mut lookout: Lookout, site: &Shared, shutdown: &GracefulShutdown, every: Duration) -> Result<(), String> {
    let (site, shutdown) = (Arc::clone(site), shutdown.clone());
    let looking = move || {
        let began = site.clock.now();
        loop {
            let now = site.clock.now();
            site.latest.set(lookout.look(now, now.since(began)));
            if shutdown.begun_within(every) {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("backstay-look".to_owned()).spawn(looking);
    thread.map(drop).map_err(|error| format!("no thread: {error}"))
}

/// Says that we live, where somebody wants to know; degraded while nothing is to be seen.
fn beat(
    arguments: &Serve,
    config: &Config,
    folder: &Path,
    address: SocketAddr,
    site: &Shared,
) -> Result<Option<Heartbeat>, String> {
    let variable = || std::env::var_os("BACKSTAY_HEARTBEAT_FILE").filter(|file| !file.is_empty()).map(PathBuf::from);
    let Some(file) = arguments.heartbeat.clone().or_else(variable) else { return Ok(None) };
    let metadata = [("folder", folder.display().to_string()), ("address", address.to_string())];
    let site = Arc::clone(site);
    let blind = move || site.trouble().is_some();
    let heartbeat = Heartbeat::builder().state_file(file).metadata(metadata).target(blind).config(config).build();
    let heartbeat = heartbeat.map_err(|error| error.to_string())?;
    heartbeat.start().map_err(|error| error.to_string())?;
    Ok(Some(heartbeat))
}
