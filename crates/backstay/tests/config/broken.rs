//! Errors of broken sources, with their whole text.

use backstay::config::{Config, Origin, Place, Sources};

use crate::{Folder, error, load};

// CF-4: file, line, column, key and what is allowed.
#[test]
fn a_wrong_type_is_shown_at_its_position() {
    let text = "resilience:\n  circuit_breaker:\n    max_failures: lots   # of them\n";
    assert_eq!(
        error(text),
        "\
conf.yml:3:19: `resilience.circuit_breaker.max_failures` is the text \"lots\", but must be a whole number from 1 to 100
   |
 3 |     max_failures: lots   # of them
   |                   ^^^^"
    );
    let error = load(text).unwrap_err();
    assert_eq!(error.key(), Some("resilience.circuit_breaker.max_failures"));
    assert_eq!(error.allowed(), Some("a whole number from 1 to 100"));
    assert_eq!(error.place(), Some(Place { line: 3, column: 19 }));
    assert!(error.file().unwrap().ends_with("conf.yml"));
    assert!(matches!(error.origin(), Origin::File { .. }));
}

// CF-4
#[test]
fn each_kind_of_value_names_what_it_allows() {
    let seconds = |from, to| format!("seconds from {from} to {to}, or a text such as \"1m 30s\"");
    let count = |from, to| format!("a whole number from {from} to {to}");
    let up_to = |max: u64| format!("seconds above 0 and up to {max}, or a text such as \"1m 30s\"");
    for (place, text, key, is, allowed) in [
        ("circuit_breaker: {max_failures: ", "2.5", "circuit_breaker.max_failures", "2.5", count(1, 100)),
        ("circuit_breaker: {max_failures: ", "-1", "circuit_breaker.max_failures", "-1", count(1, 100)),
        ("circuit_breaker: {max_failures: ", ".inf", "circuit_breaker.max_failures", "inf", count(1, 100)),
        (
            "circuit_breaker: {max_failures: ",
            "three",
            "circuit_breaker.max_failures",
            "the text \"three\"",
            count(1, 100),
        ),
        ("circuit_breaker: {reset_timeout: ", "-0.5", "circuit_breaker.reset_timeout", "-0.5", seconds(1, 3600)),
        ("circuit_breaker: {reset_timeout: ", ".inf", "circuit_breaker.reset_timeout", "inf", seconds(1, 3600)),
        ("circuit_breaker: {reset_timeout: ", "true", "circuit_breaker.reset_timeout", "true", seconds(1, 3600)),
        (
            "circuit_breaker: {reset_timeout: ",
            "-5s",
            "circuit_breaker.reset_timeout",
            "the text \"-5s\"",
            seconds(1, 3600),
        ),
        (
            "circuit_breaker: {half_open_max_calls: ",
            "[1]",
            "circuit_breaker.half_open_max_calls",
            "a list",
            count(1, 10),
        ),
        (
            "circuit_breaker: {cancellation_is_failure: ",
            "2",
            "circuit_breaker.cancellation_is_failure",
            "2",
            "true or false".to_owned(),
        ),
        ("rate_limiter: {default_rate: ", "0", "rate_limiter.default_rate", "0", "a number above 0".to_owned()),
        ("rate_limiter: {default_rate: ", ".nan", "rate_limiter.default_rate", "NaN", "a number above 0".to_owned()),
        ("rate_limiter: {default_rate: ", ".inf", "rate_limiter.default_rate", "inf", "a number above 0".to_owned()),
        ("rate_limiter: {default_per: ", "0", "rate_limiter.default_per", "0", up_to(500 * 365 * 86_400)),
        ("rate_limiter: {default_per: ", "-1", "rate_limiter.default_per", "-1", up_to(500 * 365 * 86_400)),
        ("run: {timeout: ", "90000d", "run.timeout", "the text \"90000d\"", up_to(86_400)),
        (
            "rate_limiter: {instances: {l: {burst: ",
            "-1",
            "rate_limiter.instances.l.burst",
            "-1",
            "a number, at least 0".to_owned(),
        ),
        ("shutdown: {timeout: ", "never", "shutdown.timeout", "the text \"never\"", seconds(5, 300)),
        ("shutdown: {force_exit_code: ", "{a: 1}", "shutdown.force_exit_code", "a mapping", count(0, 255)),
        ("heartbeat: {interval: ", "-.inf", "heartbeat.interval", "-inf", seconds(1, 300)),
        (
            "watchdog: {instances: {w: {timeout: ",
            "x",
            "watchdog.instances.w.timeout",
            "the text \"x\"",
            seconds(1, 3600),
        ),
    ] {
        let close = "}".repeat(place.matches('{').count() + 1);
        let shown = error(format!("resilience: {{{place}{text}{close}"));
        let column = 14 + place.len();
        let expected = format!("conf.yml:1:{column}: `resilience.{key}` is {is}, but must be {allowed}\n");
        assert!(shown.starts_with(&expected), "{shown}\n{expected}");
    }
}

// CF-4, RL-12: NaN is not a valid number of seconds.
#[test]
fn nan_is_shown_at_its_position() {
    assert_eq!(
        error("resilience:\n  watchdog:\n    instances:\n      worker:\n        timeout: .nan\n"),
        "\
conf.yml:5:18: `resilience.watchdog.instances.worker.timeout` is NaN, but must be seconds from 1 to 3600, or a text such \
as \"1m 30s\"
   |
 5 |         timeout: .nan
   |                  ^^^^"
    );
}

// CF-4
#[test]
fn invalid_yaml_is_shown_at_its_position() {
    assert_eq!(
        error("resilience:\n  watchdog:\n    timeout: 5\n   interval: 6\n"),
        "\
conf.yml:4:4: while parsing a block mapping, did not find expected key
   |
 4 |    interval: 6
   |    ^"
    );
    assert_eq!(
        error("a: 1\nresilience: {watchdog: {timeout: 5}\n"),
        "\
conf.yml:2:13: unclosed bracket '{'
   |
 2 | resilience: {watchdog: {timeout: 5}
   |             ^"
    );
    assert_eq!(
        error("resilience:\n\twatchdog:\n"),
        "\
conf.yml:2:2: tabs disallowed within this context (block indentation)
   |
 2 |  watchdog:
   |  ^"
    );
    assert_eq!(
        error("resilience:\n  watchdog: *nobody\n"),
        "\
conf.yml:2:13: alias references unknown anchor
   |
 2 |   watchdog: *nobody
   |             ^"
    );
    assert_eq!(
        error("resilience: {}\n---\nresilience: {}\n"),
        "\
conf.yml:3:1: a second document begins here, but there must be only one
   |
 3 | resilience: {}
   | ^"
    );
    assert_eq!(
        error("resilience:\n  watchdog: \u{0}\n"),
        "\
conf.yml:2:13: unexpected character: `\\u{0}'
   |
 2 |   watchdog:
   |             ^"
    );
}

// CF-4: a duplicate key shows the position of the first one; two spellings of one key are duplicates.
#[test]
fn duplicate_keys_show_both_places() {
    assert_eq!(
        error("resilience:\n  watchdog:\n    timeout: 5\n    timeout: 6\n"),
        "\
conf.yml:4:5: `resilience.watchdog.timeout` is given twice, first on line 3
   |
 4 |     timeout: 6
   |     ^^^^^^^"
    );
    assert_eq!(
        error("resilience:\n  shutdown:\n    timeout: 5\n    default_timeout: 6\n"),
        "\
conf.yml:4:5: `resilience.shutdown.default_timeout` is given twice, first on line 3
   |
 4 |     default_timeout: 6
   |     ^^^^^^^^^^^^^^^"
    );
    assert_eq!(
        error("resilience: {}\nother: {}\nresilience: {}\n"),
        "\
conf.yml:3:1: `resilience` is given twice, first on line 1
   |
 3 | resilience: {}
   | ^^^^^^^^^^"
    );
    assert!(
        error("resilience: {watchdog: {instances: {a: {timeout: 1}, a: {timeout: 2}}}}")
            .contains("`resilience.watchdog.instances.a` is given twice")
    );
    // CB-13: the two keys of one window.
    let window = error("resilience:\n  circuit_breaker:\n    window: 10\n    window_calls: 100\n");
    assert!(
        window.contains("conf.yml:4:5: `resilience.circuit_breaker.window_calls` is given twice, first on line 3"),
        "{window}"
    );
    let window = error("resilience: {circuit_breaker: {instances: {a: {window_calls: 9, window: 10}}}}");
    assert!(window.contains("instances.a.window` is given twice"), "{window}");
    assert!(error("resilience: {watchdog: {}, watchdog: {}}").contains("`resilience.watchdog` is given twice"));
}

// CF-4: a section that is not a mapping.
#[test]
fn sections_must_be_mappings() {
    assert_eq!(error("- a\n"), "conf.yml: the file is a list, but must be a mapping, `resilience:` one of its keys");
    assert_eq!(
        error("resilience: [circuit_breaker]\n"),
        "\
conf.yml:1:13: `resilience` is a list, but must be a mapping
   |
 1 | resilience: [circuit_breaker]
   |             ^"
    );
    assert!(error("resilience: {watchdog: 30}").contains("`resilience.watchdog` is 30, but must be a mapping"));
    assert!(error("resilience: {watchdog: {instances: [a]}}").contains("`resilience.watchdog.instances` is a list"));
    assert!(error("resilience: {watchdog: {instances: {a: 5}}}").contains("`resilience.watchdog.instances.a` is 5"));
    assert!(error("resilience: {[a]: 1}").contains("`resilience` has a key that is a list, but must be a name"));
}

// CF-4: an invalid environment variable.
#[test]
fn an_invalid_variable_is_named() {
    let error =
        Config::from_sources(&Sources::none().variable("BACKSTAY_CIRCUIT_BREAKER__MAX_FAILURES", "three")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "environment variable BACKSTAY_CIRCUIT_BREAKER__MAX_FAILURES: `resilience.circuit_breaker.max_failures` is the \
         text \"three\", but must be a whole number from 1 to 100"
    );
    for text in ["nan", "inf", "-1", "1.5"] {
        let sources = Sources::none().variable("BACKSTAY_CIRCUIT_BREAKER__MAX_FAILURES", text);
        assert!(Config::from_sources(&sources).is_err(), "{text}");
    }
}

// CF-4: a variable that is not UTF-8.
#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf8_is_an_error() {
    use std::os::unix::ffi::OsStringExt;
    let bytes = std::ffi::OsString::from_vec(vec![b'3', 0xff]);
    let error = Config::from_sources(&Sources::none().variable("BACKSTAY_WATCHDOG__TIMEOUT", bytes)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "environment variable BACKSTAY_WATCHDOG__TIMEOUT: `resilience.watchdog.timeout` is not UTF-8: \"3\\xFF\", but \
         must be seconds from 1 to 3600, or a text such as \"1m 30s\""
    );
}

// CF-4: a file that is not UTF-8.
#[test]
fn a_file_that_is_not_utf8_is_an_error_with_a_position() {
    assert_eq!(error(b"a: b\nc: \xc3\xa4\xff\n"), "conf.yml:2:5: is not UTF-8 from here on");
    assert_eq!(error(b"\xff\xfea\0:\0"), "conf.yml:1:1: is not UTF-8 from here on");
}

// CF-4: an invalid value is an error even if another file takes precedence.
#[test]
fn an_overridden_invalid_value_is_an_error() {
    let folder = Folder::new()
        .with("near.yml", "resilience: {watchdog: {timeout: 5}}")
        .with("far.yml", "resilience: {watchdog: {timeout: soon}}");
    let sources = Sources::none().file(folder.path("near.yml")).file(folder.path("far.yml"));
    assert!(folder.relative(Config::from_sources(&sources).unwrap_err()).starts_with("far.yml:1:34: "));
}

// CF-4: a snippet shows a part of a long line, without control characters.
#[test]
fn snippets_are_short_and_have_no_control_characters() {
    for text in ["soon # \u{1b}[31m", "\"\\e[31m\"", "\"soon\u{9b}31m\"", "so\u{7f}on"] {
        let shown = error(format!("resilience: {{watchdog: {{timeout: {text}\n}}}}"));
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    }
    let padding = |letter| (0..1000).map(|i| format!("{letter}{i}: 1, ")).collect::<String>();
    let shown = error(format!("resilience: {{watchdog: {{{}timeout: soon, {}}}}}", padding('a'), padding('b')));
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[1..].iter().all(|line| line.len() < 120), "{shown}");
    let caret = lines[3].find("^^^^").unwrap();
    assert_eq!(&lines[2][caret..caret + 4], "soon");
}

// CF-4: a file without read permission is an error; a home folder without search permission has no file.
#[cfg(unix)]
#[test]
fn files_without_read_permission() {
    use std::os::unix::fs::{PermissionsExt, chown};
    let folder = Folder::new().with("work/kstlib.conf.yml", "resilience: {}").with("home/kstlib.conf.yml", "");
    let nobody = 65_534;
    let is_root = chown(folder.path("home"), Some(nobody), Some(nobody)).is_ok();
    for (path, mode) in [("", 0o755), ("work", 0o755), ("home", 0)] {
        std::fs::set_permissions(folder.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let user = is_root.then_some(nobody);
    assert_eq!(crate::process::child_of("says_the_timeout", &folder, &[], user), ["30 from default"]);
    std::fs::set_permissions(folder.path("work/kstlib.conf.yml"), std::fs::Permissions::from_mode(0o0)).unwrap();
    assert_eq!(
        crate::process::child_of("says_the_timeout", &folder, &[], user),
        ["./kstlib.conf.yml: cannot be opened: Permission denied (os error 13)"]
    );
    std::fs::set_permissions(folder.path("home"), std::fs::Permissions::from_mode(0o755)).unwrap();
}

// CF-1: a found file that others can write is rejected by root and warned about by other users; a named one is used.
#[cfg(unix)]
#[test]
fn a_file_that_others_can_write_is_not_trusted() {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use crate::process::{child_of, section};
    let (someone, nobody) = (1001, 65_534);
    let folder = Folder::new().with("work/kstlib.conf.yml", section("12"));
    let file = folder.path("work/kstlib.conf.yml");
    let named = [("BACKSTAY_CONFIG", file.to_str().unwrap())];
    let mode = |name: &str, mode| {
        std::fs::set_permissions(folder.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let said = |variables: &[_], user| child_of("says_warnings_and_the_timeout", &folder, variables, user);
    mode("", 0o755);
    mode("work", 0o755);
    let is_root = rustix::process::geteuid().is_root();
    let value = |path: &str| format!("12 from {path}:1:34");
    let used = [value("./kstlib.conf.yml")];
    let warned = |path: &str, why: &str| {
        let text = "others can change this program's settings; correct its owner and mode";
        [format!("{path}: {why}: {text}"), value(path)]
    };
    let refused = |why: &str| {
        let remedy = "root does not use it: correct its owner and mode, or name it in BACKSTAY_CONFIG";
        [format!("./kstlib.conf.yml: {why}; {remedy}")]
    };

    let by_all = "can be written by every user";
    mode("work/kstlib.conf.yml", 0o664);
    assert_eq!(said(&[], None), used);
    mode("work/kstlib.conf.yml", 0o666);
    assert_eq!(said(&named, None), warned("work/kstlib.conf.yml", by_all));
    if !is_root {
        assert_eq!(said(&[], None), warned("./kstlib.conf.yml", by_all));
        return;
    }
    assert_eq!(said(&[], None), refused(by_all));
    assert_eq!(said(&[], Some(nobody)), warned("./kstlib.conf.yml", by_all));

    mode("work/kstlib.conf.yml", 0o644);
    assert_eq!(said(&[], Some(nobody)), used, "root's");
    let owned = "is owned by user 1001, neither this user nor root";
    chown(&file, Some(someone), None).unwrap();
    assert_eq!(said(&[], None), refused(owned));
    assert_eq!(said(&named, None), warned("work/kstlib.conf.yml", owned));
    assert_eq!(said(&[], Some(nobody)), warned("./kstlib.conf.yml", owned));
    assert_eq!(said(&[], Some(someone)), used, "this user's");

    // A working folder such as `/tmp`: root's file is used, unless another user's link leads to it.
    chown(&file, Some(0), None).unwrap();
    mode("work", 0o1777);
    assert_eq!(said(&[], None), used);
    std::fs::rename(&file, folder.path("elsewhere.yml")).unwrap();
    symlink(folder.path("elsewhere.yml"), &file).unwrap();
    mode("work", 0o777);
    assert_eq!(said(&[], None), refused("is in a folder in which every user can replace it"));
    mode("work", 0o755);
    assert_eq!(said(&[], None), used, "a link of root's");
    std::os::unix::fs::lchown(&file, Some(someone), None).unwrap();
    assert_eq!(said(&[], None), refused("is a link owned by user 1001, neither this user nor root"));
}

// CF-4: an error names the section that it affects, if it affects no other; the settings of the others are valid.
#[test]
fn an_error_affects_its_section_alone() {
    let sources = |text: &str| {
        let folder = Folder::new().with("conf.yml", text);
        Config::check(&Sources::none().file(folder.path("conf.yml")).variable("BACKSTAY_SHUTDOWN__TIMEOUT", "x"))
    };
    let affected = |text: &str| {
        let invalid = sources(text).unwrap_err();
        invalid.errors.iter().map(|error| error.component().map(str::to_owned)).collect::<Vec<_>>()
    };
    let of = |component: &str| Some(component.to_owned());
    let one = "resilience: {heartbeat: {interval: soon}, watchdog: {timeout: 0, instances: {worker: 7}}, run: 5}";
    assert_eq!(affected(one), [of("shutdown"), of("heartbeat"), of("watchdog"), of("run")]);
    let valid = sources(one).unwrap_err().valid;
    assert_eq!((crate::value(&valid, "watchdog.timeout"), valid.warnings().len()), ("1".to_owned(), 1));
    for whole in ["resilience: [", "resilience: 7", "resilience: {watchdog: {}, watchdog: {}}", "- a"] {
        assert_eq!(affected(whole), [of("shutdown"), None], "{whole}");
    }
}
