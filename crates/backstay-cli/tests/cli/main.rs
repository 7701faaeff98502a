//! Tests of the binary, with real files, real children and a real terminal.

#![allow(clippy::unwrap_used, reason = "these are tests")]
#![allow(clippy::disallowed_methods, reason = "they look at real processes, in real time")]

mod config;
mod hostile;
mod manual;
mod probe;
mod run;
mod serve;
mod standard_output;
mod status;

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Longer than any step takes on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The binary, with a home folder of its own and none of the user's settings.
fn backstay(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BACKSTAY_") {
            command.env_remove(name);
        }
    }
    command.current_dir(home).env("HOME", home).env("BACKSTAY_DIR", home.join("run")).env_remove("NOTIFY_SOCKET");
    command
}

/// Runs a script with `sh`; "$0" is the binary.
fn by_shell(home: &Path, script: &str) -> Command {
    let backstay = backstay(home);
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(backstay.get_program()).current_dir(home);
    for (name, value) in backstay.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Opens a pseudo-terminal: the test's end and the program's end.
fn terminal() -> (File, File) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let mut options = File::options();
    options.read(true).write(true).custom_flags(i32::try_from(OpenptFlags::NOCTTY.bits()).unwrap());
    (File::from(ours), options.open(name.to_str().unwrap()).unwrap())
}

/// Waits until a condition holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < TIMEOUT, "not within {TIMEOUT:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
