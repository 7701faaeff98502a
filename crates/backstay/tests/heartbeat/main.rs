//! The heartbeat as a service, its monitor and whoever gets in the way see it.
#![cfg(feature = "watchdog")]
#![cfg(not(backstay_loom))]
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod beating;
mod callbacks;
mod reading;
mod targets;

#[cfg(unix)]
mod forked;
#[cfg(target_os = "linux")]
mod killed;
#[cfg(unix)]
mod places;
#[cfg(target_os = "linux")]
mod rivals;

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

    /// Every 10 s by the clock in the test's hand.
    fn heartbeat(&self, clock: &ManualClock) -> HeartbeatBuilder {
        Heartbeat::builder().state_file(self.file()).interval(INTERVAL).clock(clock)
    }

    /// Starts it. On a machine that stalls `start` may be back before its first beat is written.
    fn start(&self, heartbeat: &Heartbeat) {
        heartbeat.start().unwrap();
        self.wait_for(1);
    }

    /// Waits until that many beats were written.
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

/// Waits for other threads or processes to bring it about; gives up after a minute or so.
#[track_caller]
fn eventually(mut condition: impl FnMut() -> bool) {
    for _ in 0..60_000 {
        if condition() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    panic!("it did not come about");
}

/// A command that runs the ignored test `name` of this very program, for what must happen in another process.
#[cfg(unix)]
fn this_program(name: &str) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture"]);
    command
}
