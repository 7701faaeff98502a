//! Help, completions and man pages are complete.

use std::process::Command;

use crate::{backstay, stdout};

#[test]
fn every_command_shows_an_example_or_its_codes() {
    let home = tempfile::tempdir().unwrap();
    let help = |command: &[&str]| stdout(&backstay(home.path()).args(command).arg("--help").output().unwrap());
    assert!(help(&[]).contains("Examples:"));
    assert!(!help(&[]).contains("guard"), "an internal command");
    for command in [&["run"][..], &["probe"], &["status"], &["completions"], &["man"], &["config", "check"]] {
        let help = help(command);
        assert!(help.contains("Example") || help.contains("Exit codes:"), "{command:?}: {help}");
        // The help fits a terminal of the usual width.
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{command:?}: {help}");
    }
}

#[test]
fn completions_are_valid_in_their_shells() {
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
    let folder = home.path().join("share/man1");
    for page in ["backstay", "backstay-run", "backstay-probe", "backstay-status", "backstay-config-show"] {
        let text = std::fs::read_to_string(folder.join(format!("{page}.1"))).unwrap();
        assert!(text.contains(".SH NAME") && !text.contains(".SH EXTRA"), "{page}: {text}");
        assert!(text.starts_with(".ie") && text.contains(&format!(".TH {page} 1")), "{page}: {text}");
    }
    assert!(!folder.join("backstay-guard.1").exists(), "internal");
    let run = std::fs::read_to_string(folder.join("backstay-run.1")).unwrap();
    // Examples and exit codes keep their lines at any width.
    for heading in [".SH EXAMPLES\n.nf\n", ".SH \"EXIT STATUS\"\n.nf\n"] {
        assert!(run.contains(heading), "{heading:?}: {run}");
    }
    let Some(shown) = shown(&folder.join("backstay-run.1")) else { return };
    for text in [
        "backstay run [OPTIONS] [--] COMMAND [ARG]...",
        "--grace <TIME>",
        "--restart <RESTART>",
        "\n         backstay run -- python bot.py\n",
        "\n         126  the program cannot be executed\n",
    ] {
        assert!(shown.contains(text), "{text:?}: {shown}");
    }
    assert!(shown.contains("Restart policy: on-failure") && !shown.contains("EXTRA"), "{shown}");
    assert!(!shown.contains("BACK-\n") && !shown.contains("BACK\u{2010}\n"), "a hyphenated name: {shown}");
}

/// The man page as `man` shows it on a terminal; `None` without `groff`.
fn shown(page: &std::path::Path) -> Option<String> {
    let groff = Command::new("groff").args(["-man", "-Tascii", "-P-c", "-ww"]).arg(page).output();
    let Ok(groff) = groff else {
        eprintln!("passed over: no groff");
        return None;
    };
    assert!(groff.status.success() && groff.stderr.is_empty(), "{groff:?}");
    let overstruck = String::from_utf8(groff.stdout).unwrap();
    let mut plain = String::new();
    // Bold is a character, a backspace and the same character again.
    for c in overstruck.chars() {
        if c == '\u{8}' {
            plain.pop();
        } else {
            plain.push(c);
        }
    }
    Some(plain)
}
