//! `backstay probe`: one line and an exit code for any kind of file.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use backstay::Heartbeat;
use backstay::heartbeat::Status;

use crate::{backstay, stderr, stdout};

const LISTED: [i32; 11] = [0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

/// A heartbeat of another machine: only its timestamp counts.
fn foreign(timestamp: &str, more: &str) -> String {
    format!(r#"{{"timestamp": "{timestamp}", "pid": 7, "hostname": "elsewhere", "metadata": {{}}{more}}}"#)
}

fn probe(home: &Path, arguments: &[&str]) -> (i32, String) {
    let output = backstay(home).arg("probe").args(arguments).output().unwrap();
    assert_eq!(stdout(&output).lines().count(), 1, "{}", stderr(&output));
    (output.status.code().unwrap(), stdout(&output))
}

fn beating(path: &Path, status: Status) -> Heartbeat {
    let heartbeat = Heartbeat::builder().state_file(path).interval(Duration::from_secs(10)).build().unwrap();
    heartbeat.start().unwrap();
    heartbeat.set_status(status);
    crate::until("the status is written", || {
        Heartbeat::read_state(path).is_ok_and(|state| state.status == Some(status))
    });
    heartbeat
}

// HB-7: each reason has its own exit code.
#[test]
fn each_result_has_its_exit_code() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("bot.heartbeat");
    let text = |text: &str| fs::write(&file, text).unwrap();

    assert_eq!(probe(home.path(), &["bot.heartbeat"]).0, 7);
    text("{");
    assert_eq!(probe(home.path(), &["bot.heartbeat"]).0, 8);
    assert_eq!(probe(home.path(), &["."]).0, 8, "a folder");
    assert_eq!(probe(home.path(), &["/dev/zero"]).0, 8, "a device");
    text(&foreign("2001-01-01T00:00:00Z", ""));
    let (code, line) = probe(home.path(), &["bot.heartbeat"]);
    assert_eq!(code, 3, "{line}");
    assert!(line.starts_with("DEAD bot.heartbeat: process 7: stale"), "{line}");
    text(&foreign("9000-01-01T00:00:00Z", ""));
    assert_eq!(probe(home.path(), &["bot.heartbeat"]).0, 10);
    text(&foreign("2001-01-01T00:00:00Z", r#", "status": "stopped""#));
    assert_eq!(probe(home.path(), &["bot.heartbeat"]).0, 6);
    fs::remove_file(&file).unwrap();
    symlink(&file, &file).unwrap();
    assert_eq!(probe(home.path(), &["bot.heartbeat"]).0, 9, "a link to itself");
    fs::remove_file(&file).unwrap();

    let heartbeat = beating(&file, Status::Ready);
    let (code, line) = probe(home.path(), &["bot.heartbeat", "--strict"]);
    assert_eq!(code, 0, "{line}");
    assert!(line.starts_with("ALIVE bot.heartbeat: ready, process "), "{line}");
    assert_eq!(probe(home.path(), &["bot.heartbeat", "--max-age", "0"]).0, 3);
    heartbeat.stop();
    assert_eq!(probe(home.path(), &["bot.heartbeat"]).0, 6);
}

// HB-8: a degraded service is alive, but fails with --strict.
#[test]
fn strict_requires_status_ready() {
    let home = tempfile::tempdir().unwrap();
    for (status, code) in [(Status::Degraded, 5), (Status::Starting, 11), (Status::Stopping, 11)] {
        let _heartbeat = beating(&home.path().join("bot.heartbeat"), status);
        assert_eq!(probe(home.path(), &["bot.heartbeat"]).0, 0, "{status}");
        assert_eq!(probe(home.path(), &["bot.heartbeat", "--strict"]).0, code, "{status}");
    }
}

// HB-7: a process that is gone is detected at once, however recent its last heartbeat.
#[test]
fn a_killed_process_is_gone() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("bot.heartbeat");
    let heartbeat = beating(&file, Status::Ready);
    let state = Heartbeat::read_state(&file).unwrap();
    heartbeat.stop();
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let mut state = serde_json::to_value(&state).unwrap();
    state["pid"] = child.id().into();
    fs::write(&file, state.to_string()).unwrap();
    assert_eq!(probe(home.path(), &["bot.heartbeat"]).0, 4);
}

#[test]
fn json_contains_everything() {
    let home = tempfile::tempdir().unwrap();
    let _heartbeat = beating(&home.path().join("bot.heartbeat"), Status::Degraded);
    let (code, line) = probe(home.path(), &["--json", "--strict", "bot.heartbeat"]);
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(json["exit_code"], code);
    assert_eq!(json["verdict"], "degraded");
    assert_eq!(json["state"], "ALIVE");
    assert_eq!(json["heartbeat"]["pid"], std::process::id());
    assert!(json["age"].as_f64().unwrap() >= 0.0);
}

#[test]
fn an_invalid_command_line_exits_with_2() {
    let home = tempfile::tempdir().unwrap();
    for arguments in [&["probe"][..], &["probe", "x", "--max-age", "soon"], &["prob", "x"]] {
        let output = backstay(home.path()).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stdout(&output).is_empty());
    }
}

// ALL-1, HB-6: a thousand damaged files cause no crash. Each is probed by a process of its own.
#[test]
fn a_thousand_damaged_files_end_with_a_listed_code() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("whole.heartbeat");
    let _heartbeat = beating(&file, Status::Ready);
    let whole = fs::read(&file).unwrap();

    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % below as u64).unwrap()
    };
    let number = 1000;
    let folder = home.path().join("damaged");
    fs::create_dir(&folder).unwrap();
    for index in 0..number {
        let mut bytes = whole.clone();
        match index % 4 {
            0 => bytes.truncate(next(bytes.len())),
            1 => (0..=next(8)).for_each(|_| {
                let at = next(whole.len());
                bytes[at] = u8::try_from(next(256)).unwrap();
            }),
            2 => {
                let (at, length) = (next(bytes.len()), next(20));
                bytes.splice(at..(at + length).min(whole.len()), b"\"1e999[{-}\x00\xff".iter().copied());
            }
            _ => bytes = (0..next(300)).map(|_| u8::try_from(next(256)).unwrap()).collect(),
        }
        fs::write(folder.join(format!("{index}")), bytes).unwrap();
    }
    let half = |first: usize| {
        let (home, folder) = (home.path(), &folder);
        move || -> Vec<i32> {
            let files = (first..number).step_by(2).map(|index| folder.join(index.to_string()));
            let probe = |file| backstay(home).arg("probe").arg(file).stdout(Stdio::null()).status().unwrap();
            files.map(|file| probe(file).code().expect("no signal ended it")).collect()
        }
    };
    let codes = std::thread::scope(|scope| {
        let other = scope.spawn(half(1));
        [half(0)(), other.join().unwrap()].concat()
    });
    assert_eq!(codes.len(), number);
    let surprising: Vec<&i32> = codes.iter().filter(|code| !LISTED.contains(code)).collect();
    assert!(surprising.is_empty(), "{surprising:?}");
    assert!(codes.iter().filter(|code| **code == 8).count() > number / 2);
}
