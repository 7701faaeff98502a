//! Files and folders of other users, which may be malicious.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::{backstay, by_shell, stdout};

const HEARTBEAT: &str = r#"{"timestamp":"2030-01-01T00:00:00Z","pid":1,"hostname":"\u009b31mH\u202e",
    "metadata":{"a\u009b":"\u009b2J\u001b[2J\u202e"}}"#;

// CL-11: control characters beyond ASCII, and those that change the direction of writing, also control a terminal.
#[test]
fn no_output_controls_the_terminal() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("x.heartbeat"), HEARTBEAT).unwrap();
    fs::write(home.path().join("bad\u{9b}31m.heartbeat"), "").unwrap();
    fs::create_dir(home.path().join("empty\u{1b}[2J\u{9b}\u{202e}")).unwrap();
    let lines: [&[&str]; 9] = [
        &["status", "--json", "x.heartbeat"],
        &["probe", "--json", "x.heartbeat"],
        &["status", "x.heartbeat", "bad\u{9b}31m.heartbeat"],
        &["probe", "bad\u{9b}31m.heartbeat"],
        &["probe", "--json", "bad\u{9b}31m.heartbeat"],
        &["status", "empty\u{1b}[2J\u{9b}\u{202e}"],
        &["run", "--timeout", "\u{9b}2J\u{1b}[2J\u{202e}", "--", "true"],
        &["run", "--restart", "never", "--", "/nonexistent\u{1b}[2J\u{9b}\u{202e}"],
        &["run", "--log-format", "json", "--restart", "never", "--", "/nonexistent\u{1b}[2J\u{9b}\u{202e}"],
    ];
    for line in lines {
        let output = backstay(home.path()).args(line).output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        let steers = |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(!text.is_empty() && !text.contains(steers), "{line:?}: {text:?}");
    }
}

// CL-10: the default folder in a folder that all users can write to, made earlier by another user.
#[test]
fn a_folder_of_another_user_is_not_read() {
    let places = tempfile::tempdir().unwrap();
    fs::set_permissions(places.path(), Permissions::from_mode(0o755)).unwrap();
    let squatted = places.path().join("backstay-65533");
    let folder = places.path().join("elsewhere");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("bank.heartbeat"), HEARTBEAT.replace("\"a", "\"forged")).unwrap();
    let is_forged = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65533", "--clear-groups", env!("CARGO_BIN_EXE_backstay"), "status"]);
        command.env("TMPDIR", places.path()).env_remove("BACKSTAY_DIR").env_remove("XDG_RUNTIME_DIR");
        let output = command.current_dir("/").output().ok().filter(|output| output.status.code() != Some(127))?;
        Some((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
    };
    for planted in ["link", "link to a file", "folder"] {
        match planted {
            "link" => std::os::unix::fs::symlink(&folder, &squatted).unwrap(),
            "link to a file" => std::os::unix::fs::symlink(folder.join("bank.heartbeat"), &squatted).unwrap(),
            _ => fs::rename(&folder, &squatted).unwrap(),
        }
        match is_forged() {
            Some((Some(code), said)) if code != 1 => {
                assert_eq!(code, 9, "{planted}: {said}");
                assert!(!said.contains("bank") && !said.contains("forged"), "{planted}: {said}");
            }
            other => return eprintln!("passed over: not root, or no setpriv ({other:?})"),
        }
        let _ = fs::remove_file(&squatted);
    }
}

// CL-12: a write beyond the limit is an error and does not end the process.
#[test]
fn a_limit_on_file_sizes_does_not_end_the_supervisor() {
    let home = tempfile::tempdir().unwrap();
    let limited = |line: &str| {
        let script = format!("ulimit -c 0; ulimit -f 0; exec {line}");
        by_shell(home.path(), &script).output().unwrap()
    };
    let output = limited("\"$0\" run --restart never -- sh -c 'exit 8'");
    assert_eq!(output.status.code(), Some(8), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no heartbeat"), "{output:?}");
    // The program has the default action.
    let output = limited("\"$0\" run --restart never -- sh -c 'ulimit -c 0; echo > file'");
    assert_eq!(output.status.code(), Some(128 + 25), "{output:?}");
    let output = limited("\"$0\" config show > file");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(stdout(&output), "");
}
