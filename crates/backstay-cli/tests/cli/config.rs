//! `backstay config`: errors with their position, and settings with their origin.

use std::fs;
use std::path::Path;

use crate::{backstay, stderr, stdout};

fn config(home: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = backstay(home).arg("config").args(arguments).env("BACKSTAY_WATCHDOG__TIMEOUT", "45").output().unwrap();
    (output.status.code().unwrap(), stdout(&output), stderr(&output))
}

// CF-4: an error names file, line, column, key and allowed values.
#[test]
fn an_error_names_its_position() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("kstlib.conf.yml"), "resilience:\n  heartbeat:\n    interval: soon\n").unwrap();
    for command in ["check", "show"] {
        let (code, out, error) = config(home.path(), &[command]);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(
            error.contains("kstlib.conf.yml:3:15: `resilience.heartbeat.interval` is the text \"soon\""),
            "{error}"
        );
        assert!(error.contains("must be seconds from 1 to 300"), "{error}");
    }
    let (code, _, error) = config(home.path(), &["check", "nowhere.yml"]);
    assert_eq!(code, 1);
    assert!(error.contains("nowhere.yml: no such file"), "{error}");
}

// CF-1: `backstay.yml` precedes `kstlib.conf.yml`, key by key.
#[test]
fn both_files_of_a_folder_are_shown() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("backstay.yml"), "resilience: {run: {grace: 5}}").unwrap();
    fs::write(home.path().join("kstlib.conf.yml"), "resilience: {run: {grace: 6, timeout: 7}}").unwrap();
    let (code, out, error) = config(home.path(), &["show"]);
    assert_eq!((code, error.as_str()), (0, ""));
    let origin = |key: &str| out.lines().find(|line| line.starts_with(key)).unwrap().split_whitespace().next_back();
    assert!(origin("run.grace").unwrap().contains("backstay.yml:1:27"), "{out}");
    assert!(origin("run.timeout").unwrap().contains("kstlib.conf.yml:1:39"), "{out}");
}

// CF-4
#[test]
fn all_errors_are_reported_at_once() {
    let home = tempfile::tempdir().unwrap();
    let text = "resilience:
  circuit_breaker:
    max_failures: many
    half_open_max_calls: []
    instances:
      a: 7
      b: {reset_timeout: later}
  rate_limiter: {default_rate: fast}
  shutdown:
    timeout: 30
    default_timeout: 31
    drain_delay: {}
";
    fs::write(home.path().join("kstlib.conf.yml"), text).unwrap();
    let (code, _, errors) = config(home.path(), &["check"]);
    assert_eq!(code, 1);
    let places: Vec<_> = errors.lines().filter_map(|line| line.split("kstlib.conf.yml:").nth(1)).collect();
    let places: Vec<_> = places.iter().map(|place| place.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["3:19", "4:26", "6:10", "7:26", "8:32", "11:5", "12:18"], "{errors}");

    // The number of errors is limited, separately for each component.
    let text = (0..1000).map(|n| format!("      i{n}: {{reset_timeout: x}}\n")).collect::<String>();
    let text = format!("resilience:\n  circuit_breaker:\n    instances:\n{text}  watchdog: 5\n");
    fs::write(home.path().join("kstlib.conf.yml"), text).unwrap();
    let (_, _, errors) = config(home.path(), &["check"]);
    assert_eq!(errors.matches("error: ").count(), 51);
    assert!(errors.contains("`resilience.watchdog` is 5"), "{errors}");
}

// CF-4: an error hides no warning, even if it ends the parsing of its file.
#[test]
fn warnings_are_reported_beside_errors() {
    let home = tempfile::tempdir().unwrap();
    let text = "resilience:\n  heartbeat: {intervall: 5}\n  shutdown: {timeout: 1000}\n  watchdog: 7\n";
    fs::write(home.path().join("my.yml"), text).unwrap();
    let (code, out, said) = config(home.path(), &["check", "my.yml"]);
    assert_eq!((code, out.as_str()), (1, ""));
    let expected = ["warning: my.yml:2:15: ", "warning: my.yml:3:23: ", "error: my.yml:4:13: "];
    assert!(expected.iter().all(|text| said.contains(text)), "{said}");

    fs::write(home.path().join("kstlib.conf.yml"), "resilience: [\n").unwrap();
    let mut command = backstay(home.path());
    command.args(["config", "check"]).env("BACKSTAY_RUN__GRACES", "1");
    command.env("BACKSTAY_WATCHDOG__TIMEOUT", "7200").env("BACKSTAY_HEARTBEAT__INTERVAL", "soon");
    let said = stderr(&command.output().unwrap());
    let expected = ["BACKSTAY_RUN__GRACES", "7200, outside", "HEARTBEAT__INTERVAL: ", "error: ./kstlib.conf.yml:"];
    assert!(expected.iter().all(|text| said.contains(text)), "{said}");
}

// CF-4: a probable mistake is a warning, and with --strict an error.
#[test]
fn warnings_are_errors_only_with_strict() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("my.yml"), "resilience:\n  heartbeat: {intervall: 5, interval: 1000}\n").unwrap();
    let (code, out, error) = config(home.path(), &["check", "my.yml"]);
    assert_eq!((code, out.as_str()), (0, "Config OK: 1 setting\n"));
    assert_eq!(error.matches("warning: my.yml:2:").count(), 2, "{error}");
    assert_eq!(config(home.path(), &["check", "--strict", "my.yml"]).0, 1);
}

// CF-4: a typo in the first line makes a named file a warning, not a valid configuration.
#[test]
fn a_named_file_without_our_section_fails_with_strict() {
    let home = tempfile::tempdir().unwrap();
    for (text, said) in [("resillience: {}\n", "did you mean `resilience`?"), ("", "has no section `resilience`")] {
        fs::write(home.path().join("my.yml"), text).unwrap();
        let (code, out, error) = config(home.path(), &["check", "--strict", "my.yml"]);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(error.contains(said), "{error}");
        let (code, _, error) = config(home.path(), &["check", "my.yml"]);
        assert_eq!(code, 0, "{error}");
        // A file that is merely found may belong to another program: no warning.
        fs::rename(home.path().join("my.yml"), home.path().join("kstlib.conf.yml")).unwrap();
        assert_eq!(config(home.path(), &["check", "--strict"]), (0, "Config OK: 1 setting\n".into(), String::new()));
    }
}

// CF-1: a found file that others can write is an error for root and a warning for other users.
#[cfg(unix)]
#[test]
fn check_shows_a_file_that_others_can_write() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("kstlib.conf.yml");
    fs::write(&file, "resilience: {heartbeat: {interval: 7}}\n").unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let (code, _, said) = config(home.path(), &["check"]);
    let (expected, severity) = if rustix::process::geteuid().is_root() { (1, "error") } else { (0, "warning") };
    assert_eq!(code, expected, "{said}");
    assert!(said.contains(&format!("{severity}: ./kstlib.conf.yml: can be written by every user")), "{said}");
}

// CF-1: a variable precedes a file, and a file precedes the default.
#[test]
fn show_names_the_origin() {
    let home = tempfile::tempdir().unwrap();
    let text = "resilience:\n  watchdog: {timeout: 5}\n  heartbeat: {interval: 7}\n";
    fs::write(home.path().join("kstlib.conf.yml"), text).unwrap();
    let (code, out, _) = config(home.path(), &["show"]);
    assert_eq!(code, 0);
    let line = |key: &str| {
        let line = out.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("watchdog.timeout"), "45 s environment variable BACKSTAY_WATCHDOG__TIMEOUT");
    assert_eq!(line("heartbeat.interval"), "7 s ./kstlib.conf.yml:3:25");
    assert_eq!(line("circuit_breaker.max_failures"), "5 default");

    let (_, out, _) = config(home.path(), &["show", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let setting = |key: &str| json.as_array().unwrap().iter().find(|setting| setting["key"] == key).unwrap().clone();
    assert_eq!(setting("watchdog.timeout")["from"]["variable"], "BACKSTAY_WATCHDOG__TIMEOUT");
    assert_eq!(setting("heartbeat.interval")["from"]["line"], 3);
    assert_eq!(setting("heartbeat.interval")["value"], 7.0);
}
