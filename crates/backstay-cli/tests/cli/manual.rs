//! Help, completions and man pages say what there is.

use std::process::Command;

use crate::{backstay, stdout};

#[test]
fn every_command_shows_an_example_or_its_codes() {
    let home = tempfile::tempdir().unwrap();
    let help = |command: &[&str]| stdout(&backstay(home.path()).args(command).arg("--help").output().unwrap());
    assert!(help(&[]).contains("Examples:"));
    assert!(!help(&[]).contains("guard"), "that one is ours alone");
    for command in [&["run"][..], &["probe"], &["status"], &["completions"], &["man"], &["config", "check"]] {
        let help = help(command);
        assert!(help.contains("Example") || help.contains("Exit codes:"), "{command:?}: {help}");
        // A terminal of the usual width shows it whole.
        assert!(help.lines().all(|line| line.chars().count() <= 130), "{command:?}: {help}");
    }
}

#[test]
fn completions_are_what_their_shells_understand() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&backstay(home.path()).args(["completions", shell]).output().unwrap());
        assert!(script.contains("max-age"), "{shell}");
        if Command::new(shell).arg("--version").output().is_ok() {
            let file = home.path().join(shell);
            std::fs::write(&file, script).unwrap();
            let checked = Command::new(shell).arg("-n").arg(&file).output().unwrap();
            assert!(checked.status.success(), "{shell}: {checked:?}");
        }
    }
}

#[test]
fn each_command_has_a_man_page() {
    let home = tempfile::tempdir().unwrap();
    assert!(backstay(home.path()).args(["man", "share/man1"]).status().unwrap().success());
    for page in ["backstay", "backstay-run", "backstay-probe", "backstay-status", "backstay-config-show"] {
        let text = std::fs::read_to_string(home.path().join("share/man1").join(format!("{page}.1"))).unwrap();
        assert!(text.contains(".SH NAME"), "{page}");
    }
    let run = std::fs::read_to_string(home.path().join("share/man1/backstay-run.1")).unwrap();
    assert!(run.contains("Exit codes"), "{run}");
}
