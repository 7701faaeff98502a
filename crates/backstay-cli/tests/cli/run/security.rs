//! What other users of the machine can see and do.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::Supervised;
use crate::until;

/// What a supervisor with these options writes, and the permissions of its heartbeat and its lock.
fn published(options: &[&str]) -> (String, [u32; 2]) {
    let it = Supervised::start(options, &["sh", "-c", "sleep 1000", "--password=hunter2"], |_| {});
    let folder = it.path().join("run");
    let file = folder.join("it.heartbeat");
    until("it runs", || fs::read_to_string(&file).is_ok_and(|text| text.contains("\"running\"")));
    let mode = |name| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
    (fs::read_to_string(&file).unwrap(), ["it.heartbeat", "it.lock"].map(mode))
}

#[test]
fn no_other_user_reads_the_command_line() {
    let (text, modes) = published(&[]);
    assert!(text.contains(r#""command":"sh""#) && !text.contains("hunter2"), "{text}");
    assert_eq!(modes, [0o600, 0o600]);
}

#[test]
fn options_show_more() {
    let (text, modes) = published(&["--show-command", "--file-mode", "644"]);
    assert!(text.contains("sh -c sleep 1000 --password=hunter2"), "{text}");
    assert_eq!(modes, [0o644, 0o600]);
}

#[test]
fn a_lock_that_was_planted_is_not_followed() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("run");
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink("created", folder.join("it.lock")).unwrap();
    let output = crate::backstay(home.path()).args(["run", "--name", "it", "--", "true"]).output().unwrap();
    assert!(!folder.join("created").exists());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("no heartbeat: ") && said.contains("it.lock"), "{said}");
    assert_eq!(output.status.code(), Some(0));
}
