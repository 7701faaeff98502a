//! The heartbeat's public API, with real files and processes.
#![cfg(feature = "watchdog")]
#![cfg(not(backstay_loom))]
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod beats;
mod callbacks;
mod reading;
mod targets;

#[cfg(target_os = "linux")]
mod conflicts;
#[cfg(unix)]
mod forked;
#[cfg(target_os = "linux")]
mod killed;
#[cfg(unix)]
mod paths;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backstay::Heartbeat;
use backstay::clock::ManualClock;
use backstay::heartbeat::{HeartbeatBuilder, HeartbeatState};
use serde_json::Value;
use tempfile::TempDir;

const AGE: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_secs(10);

/// A folder for one state file.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self) -> PathBuf {
        self.path().join("bot.heartbeat")
    }

    fn names(&self) -> Vec<String> {
        names(self.path())
    }

    fn state(&self) -> HeartbeatState {
        Heartbeat::read_state(self.file()).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&fs::read(self.file()).unwrap()).unwrap()
    }

    /// A heartbeat every 10 s on a manual clock.
    fn heartbeat(&self, clock: &ManualClock) -> HeartbeatBuilder {
        Heartbeat::builder().state_file(self.file()).interval(INTERVAL).clock(clock)
    }

    /// Starts it and waits for its first beat. On a very slow machine `start` returns earlier.
    fn start(&self, heartbeat: &Heartbeat) {
        heartbeat.start().unwrap();
        self.wait_for(1);
    }

    /// Waits until this many beats have been written.
    fn wait_for(&self, sequence: u64) {
        eventually(|| Heartbeat::read_state(self.file()).is_ok_and(|state| state.sequence >= Some(sequence)));
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Waits until another thread or process makes `condition` true. Panics after about a minute.
#[track_caller]
fn eventually(mut condition: impl FnMut() -> bool) {
    for _ in 0..60_000 {
        if condition() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    panic!("the condition did not become true in time");
}

/// Returns a command that runs the ignored test `name` of this program in another process.
#[cfg(unix)]
fn this_program(name: &str) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture"]);
    command
}
