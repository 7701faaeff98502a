//! `backstay status`: the table, its order and its exit code, on a terminal and in a pipe.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::{backstay, stderr, stdout, terminal, until};
use backstay::Heartbeat;

fn beating(path: &Path) -> Heartbeat {
    let heartbeat = Heartbeat::builder()
        .state_file(path)
        .interval(Duration::from_secs(10))
        .metadata([("version", "1.0.0")])
        .build()
        .unwrap();
    heartbeat.start().unwrap();
    heartbeat
}

fn stale(path: &Path, hostname: &str) {
    let json = serde_json::json!({"timestamp": "2001-01-01T00:00:00Z", "pid": 7, "hostname": hostname, "metadata": {}});
    fs::write(path, json.to_string()).unwrap();
}

fn stopped(path: &Path) {
    let heartbeat = beating(path);
    heartbeat.stop();
}

// Columns are aligned in every script: a Chinese character takes two cells, a combining mark none.
#[test]
fn columns_are_aligned_by_width_in_cells() {
    let home = tempfile::tempdir().unwrap();
    for name in ["東京", "cafe\u{301}", "🚀", "plain"] {
        stale(&home.path().join(format!("{name}.heartbeat")), "host");
    }
    let output = backstay(home.path()).args(["status", "--sort", "name", "."]).output().unwrap();
    let table = stdout(&output);
    let rows: Vec<&str> = table.lines().skip(1).map(|line| line.split(" d ").next().unwrap()).collect();
    let expected = [("cafe\u{301}", 3), ("plain", 2), ("東京", 3), ("🚀", 5)];
    for (row, (name, spaces)) in rows.iter().zip(expected) {
        let behind = row.strip_prefix("DEAD   ").unwrap().strip_prefix(name).unwrap();
        assert_eq!(behind.len() - behind.trim_start().len(), spaces, "{table}");
    }
}

#[test]
fn the_table_shows_the_worst_first() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("run");
    fs::create_dir(&folder).unwrap();
    let _alive = beating(&folder.join("api.heartbeat"));
    fs::write(folder.join("other.txt"), "not a heartbeat").unwrap();
    let status = |arguments: &[&str]| {
        let output = backstay(home.path()).arg("status").args(arguments).output().unwrap();
        (output.status.code().unwrap(), stdout(&output), stderr(&output))
    };

    let (code, table, _) = status(&[]);
    assert_eq!(code, 0, "{table}");
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(table.starts_with("STATE  NAME ") && table.lines().next().unwrap().ends_with("  STATUS"), "{table}");
    let line = table.lines().nth(1).unwrap();
    assert!(line.starts_with("ALIVE  api "), "{line}");
    assert!(line.contains(&std::process::id().to_string()) && line.ends_with(" ready"), "{line}");

    // CL-2: an orderly end is not a failure.
    stopped(&folder.join("old.heartbeat"));
    let (code, table, _) = status(&[]);
    assert_eq!(code, 0, "{table}");
    let line = table.lines().nth(1).unwrap();
    assert!(line.starts_with("STOPPED  old ") && line.ends_with(" stopped"), "{table}");
    assert_eq!(status(&["run/old.heartbeat"]).0, 0);
    fs::remove_file(folder.join("old.heartbeat")).unwrap();

    // The worst comes first and determines the exit code: DEAD, UNKNOWN, ALIVE.
    fs::write(folder.join("broken.heartbeat"), "{").unwrap();
    assert_eq!(status(&[]).0, 8);
    stale(&folder.join("worker.heartbeat"), "elsewhere");
    let (code, table, _) = status(&["run", "run/api.heartbeat", "gone.heartbeat"]);
    assert_eq!(code, 3);
    let words: Vec<&str> = table.lines().skip(1).map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(words, ["DEAD", "UNKNOWN", "UNKNOWN", "ALIVE"], "{table}");
    let (_, table, _) = status(&["--sort", "name", "--reverse"]);
    let names: Vec<&str> = table.lines().skip(1).map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(names, ["worker", "broken", "api"], "{table}");

    let (_, json, _) = status(&["--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["state"], "DEAD");
    assert_eq!(json.as_array().unwrap().len(), 3);

    let empty = home.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let (code, table, error) = status(&["empty"]);
    assert_eq!((code, table.as_str()), (7, ""));
    assert!(error.contains("no *.heartbeat in empty"), "{error}");
}

// Runs without capabilities, because root could read everything.
#[test]
fn a_folder_that_cannot_be_read_is_reported() {
    let setpriv = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    let works = std::process::Command::new(setpriv[0]).args(&setpriv[1..]).arg("true").output();
    if !works.is_ok_and(|output| output.status.success()) {
        eprintln!("passed over: no setpriv");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("run");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o0)).unwrap();
    for arguments in [&[][..], &["run"]] {
        let output = std::process::Command::new(setpriv[0])
            .args(&setpriv[1..])
            .args([env!("CARGO_BIN_EXE_backstay"), "status"])
            .args(arguments)
            .env("BACKSTAY_DIR", &folder)
            .current_dir(home.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(9), "{output:?}");
    }
}

// ALL-1: text from a file does not control the terminal or break the table.
#[test]
fn hostile_text_stays_in_its_cell() {
    let home = tempfile::tempdir().unwrap();
    stale(&home.path().join("bad.heartbeat"), &format!("\x1b]0;owned\x07\r\n{}", "x".repeat(100_000)));
    let output = backstay(home.path()).args(["status", "."]).output().unwrap();
    let table = stdout(&output);
    assert_eq!(table.lines().count(), 2);
    assert!(!table.contains(['\x1b', '\x07', '\r']), "{table}");
    assert!(table.lines().nth(1).unwrap().chars().count() < 200);
}

#[test]
fn watching_in_a_pipe_prints_changes() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("api.heartbeat");
    let heartbeat = beating(&file);
    let mut child = backstay(home.path())
        .args(["status", "--watch", "--every", "20ms", "."])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line = || lines.next().unwrap().unwrap();
    assert!(line().contains("  ALIVE "));
    heartbeat.stop();
    assert!(line().contains("  STOPPED "));
    fs::remove_file(&file).unwrap();
    assert!(line().contains("removed"));
    let _again = beating(&file);
    assert!(line().contains("  ALIVE "));
    terminate(&child);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_closed_pipe_ends_the_watch() {
    let home = tempfile::tempdir().unwrap();
    let heartbeat = beating(&home.path().join("api.heartbeat"));
    let mut child = backstay(home.path())
        .args(["status", "--watch", "--every", "20ms", "."])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    heartbeat.stop();
    assert!(child.wait().unwrap().code().is_some());
}

fn terminate(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

/// `status --watch` on a terminal of its own.
struct Watching {
    home: tempfile::TempDir,
    ours: File,
    theirs: File,
    child: Child,
    seen: String,
}

impl Watching {
    fn start() -> (Self, Heartbeat) {
        let home = tempfile::tempdir().unwrap();
        let heartbeat = beating(&home.path().join("api.heartbeat"));
        let (ours, theirs) = terminal();
        let copy = || Stdio::from(theirs.try_clone().unwrap());
        let child = backstay(home.path())
            .args(["status", "--watch", "--every", "20ms", "."])
            .env("TERM", "xterm")
            .env("NO_COLOR", "1")
            .stdin(copy())
            .stdout(copy())
            .stderr(copy())
            .spawn()
            .unwrap();
        (Self { home, ours, theirs, child, seen: String::new() }, heartbeat)
    }

    fn sees(&mut self, what: &str) -> String {
        until(what, || {
            let mut bytes = [0; 4096];
            let read = self.ours.read(&mut bytes).unwrap();
            self.seen += &String::from_utf8_lossy(&bytes[..read]);
            self.seen.contains(what)
        });
        std::mem::take(&mut self.seen)
    }

    fn press(&mut self, keys: &[u8]) {
        self.ours.write_all(keys).unwrap();
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    fn wait_until_stopped(&self) {
        let stat = || fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        until("it is stopped", || stat().contains(") T ") && self.has_shell_modes());
    }

    /// Whether the keyboard has the modes that a shell expects.
    fn has_shell_modes(&self) -> bool {
        let modes = rustix::termios::tcgetattr(&self.theirs).unwrap().local_modes;
        modes.contains(rustix::termios::LocalModes::ICANON | rustix::termios::LocalModes::ECHO)
    }
}

#[test]
fn watching_on_a_terminal_redraws_and_handles_keys() {
    let (mut it, heartbeat) = Watching::start();
    let screen = it.sees("ALIVE  api");
    assert!(screen.contains("\x1b[?1049h"), "alternate screen");
    assert!(!screen.contains("\x1b[1m") && !screen.contains("\x1b[32m"), "NO_COLOR");
    it.sees("by state");
    it.press(b"s");
    it.sees("by name");
    it.press(b"r");
    it.sees("by name, reversed");
    heartbeat.stop();
    it.sees("STOPPED  api");
    it.press(b"rq");
    it.sees("\x1b[?1049l");
    assert_eq!(it.child.wait().unwrap().code(), Some(0));
    assert!(it.has_shell_modes(), "the keyboard modes are restored");
}

#[test]
fn a_shell_with_jobs_gets_its_terminal_back() {
    let (mut it, _heartbeat) = Watching::start();
    it.sees("by state");
    it.press(&[26]);
    it.sees("\x1b[?1049l");
    it.wait_until_stopped();
    it.signal(rustix::process::Signal::CONT);
    it.sees("\x1b[?1049h");
    it.press(b"s");
    it.sees("by name");
    it.signal(rustix::process::Signal::TSTP);
    it.sees("\x1b[?1049l");
    it.wait_until_stopped();
    it.signal(rustix::process::Signal::CONT);
    it.sees("\x1b[?1049h");
    it.signal(rustix::process::Signal::QUIT);
    it.sees("\x1b[?1049l");
    assert!(it.child.wait().unwrap().code().is_some());
    assert!(it.has_shell_modes());
    drop(it.home);
}
