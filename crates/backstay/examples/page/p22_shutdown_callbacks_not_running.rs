//! Troubleshooting: shutdown callbacks not running. Call `install` before the main loop.

use std::error::Error;
use std::time::Duration;

use backstay::GracefulShutdown;
use rustix::process::{Signal, getpid, kill_process};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let shutdown = GracefulShutdown::new();
    shutdown.register("cleanup", || println!("cleaned up"))?;
    shutdown.install()?; // without this, SIGTERM ends the process at once

    kill_process(getpid(), Signal::TERM)?;

    // The main loop: an interruptible sleep, and no polling
    while !shutdown.begun_within(Duration::from_secs(1)) {
        println!("still serving");
    }
    shutdown.wait(); // for the callbacks, before `main` returns
    Ok(())
}
