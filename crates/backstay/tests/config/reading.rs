//! Values and their origins.

use backstay::config::{Config, ConfigError, Origin, Place, Sources, Value};
use std::time::Duration;

use crate::{Folder, given, load, setting, value, warnings};

/// The block of the kstlib.resilience documentation.
const PAGE: &str = "\
resilience:
  circuit_breaker:
    max_failures: 5
    reset_timeout: 60
    half_open_max_calls: 3
  rate_limiter:
    default_rate: 10
    default_per: 1.0
  shutdown:
    default_timeout: 30
  heartbeat:
    interval: 10
  watchdog:
    timeout: 30
";

fn pairs(given: &[(String, String)]) -> Vec<(&str, &str)> {
    given.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

// CF-1, CF-2: every key of the kstlib.resilience documentation.
#[test]
fn the_block_of_the_documentation_is_read() {
    let config = load(PAGE).unwrap();
    assert_eq!(
        pairs(&given(&config)),
        [
            ("circuit_breaker.max_failures", "5"),
            ("circuit_breaker.reset_timeout", "60"),
            ("circuit_breaker.half_open_max_calls", "3"),
            ("rate_limiter.default_rate", "10"),
            ("rate_limiter.default_per", "1"),
            ("shutdown.default_timeout", "30"),
            ("heartbeat.interval", "10"),
            ("watchdog.timeout", "30"),
        ]
    );
    assert_eq!(config.warnings(), []);
    assert_eq!(setting(&config, "rate_limiter.default_per").value, Some(Value::Seconds(Duration::from_secs(1))));
}

// CF-2: also keys that only this library has, with values that differ from every default.
#[test]
fn every_key_is_read() {
    let config = load(
        "\
resilience:
  circuit_breaker:
    max_failures: 7
    reset_timeout: 61.5
    half_open_max_calls: 2
    half_open_timeout: 1h
    cancellation_is_failure: true
    failure_rate: 0.25
    window: 1m 30s
    minimum_calls: 30
    slow_call: 2.5
    slow_call_rate: 0.75
    instances: {rare: {window_calls: 50}}
  rate_limiter:
    default_rate: 0.5
    default_per: 2
  shutdown:
    timeout: 31
    drain_delay: 2.5
    force_exit_code: 3
  heartbeat:
    interval: 11
  watchdog:
    timeout: 90 s
",
    )
    .unwrap();
    assert_eq!(
        pairs(&given(&config)),
        [
            ("circuit_breaker.max_failures", "7"),
            ("circuit_breaker.reset_timeout", "61.5"),
            ("circuit_breaker.half_open_max_calls", "2"),
            ("circuit_breaker.half_open_timeout", "3600"),
            ("circuit_breaker.cancellation_is_failure", "true"),
            ("circuit_breaker.failure_rate", "0.25"),
            ("circuit_breaker.window", "90"),
            ("circuit_breaker.instances.rare.window_calls", "50"),
            ("circuit_breaker.minimum_calls", "30"),
            ("circuit_breaker.slow_call", "2.5"),
            ("circuit_breaker.slow_call_rate", "0.75"),
            ("rate_limiter.default_rate", "0.5"),
            ("rate_limiter.default_per", "2"),
            ("shutdown.default_timeout", "31"),
            ("shutdown.drain_delay", "2.5"),
            ("shutdown.force_exit_code", "3"),
            ("heartbeat.interval", "11"),
            ("watchdog.timeout", "90"),
        ]
    );
    assert_eq!(config.warnings(), []);
}

// CF-1: their origin is `default`.
#[test]
fn without_sources_the_defaults_apply() {
    let config = Config::from_sources(&Sources::none()).unwrap();
    let all: Vec<_> = config.settings().collect();
    assert!(all.iter().all(|setting| setting.origin == Origin::Default), "{all:?}");
    assert_eq!(value(&config, "circuit_breaker.max_failures"), "5");
    assert_eq!(value(&config, "circuit_breaker.reset_timeout"), "60");
    assert_eq!(value(&config, "circuit_breaker.half_open_max_calls"), "1");
    assert_eq!(value(&config, "circuit_breaker.half_open_timeout"), "none");
    assert_eq!(value(&config, "rate_limiter.default_rate"), "10");
    assert_eq!(value(&config, "rate_limiter.default_per"), "1");
    assert_eq!(value(&config, "shutdown.default_timeout"), "30");
    assert_eq!(value(&config, "shutdown.force_exit_code"), "1");
    assert_eq!(value(&config, "heartbeat.interval"), "10");
    assert_eq!(value(&config, "watchdog.timeout"), "30");
}

// CF-1: the environment takes precedence, then the first file; each value has its origin.
#[test]
fn sources_merge_key_by_key_in_order_of_precedence() {
    let folder = Folder::new()
        .with("near.yml", "resilience:\n  circuit_breaker:\n    max_failures: 11\n    reset_timeout: 12\n")
        .with("middle.yml", "resilience:\n  circuit_breaker: {reset_timeout: 22, half_open_max_calls: 3}\n")
        .with("far.yml", "resilience: {circuit_breaker: {half_open_max_calls: 4}, watchdog: {timeout: 33}}\n");
    let sources = Sources::none()
        .variable("BACKSTAY_CIRCUIT_BREAKER__MAX_FAILURES", "3")
        .file(folder.path("near.yml"))
        .file(folder.path("missing.yml"))
        .file(folder.path("middle.yml"))
        .file(folder.path("far.yml"));
    let config = Config::from_sources(&sources).unwrap();
    let shown: Vec<_> = config
        .settings()
        .filter(|setting| setting.origin != Origin::Default)
        .map(|setting| folder.relative(format!("{} {} {}", setting.key, setting.value.unwrap(), setting.origin)))
        .collect();
    assert_eq!(
        shown,
        [
            "circuit_breaker.max_failures 3 environment variable BACKSTAY_CIRCUIT_BREAKER__MAX_FAILURES",
            "circuit_breaker.reset_timeout 12 near.yml:4:20",
            "circuit_breaker.half_open_max_calls 3 middle.yml:2:61",
            "watchdog.timeout 33 far.yml:1:77",
        ]
    );
}

// CF-1: every key has a variable, the shutdown's timeout one for each spelling.
#[test]
fn the_environment_sets_every_key() {
    for (name, text, key, expected) in [
        ("CIRCUIT_BREAKER__MAX_FAILURES", "3", "circuit_breaker.max_failures", "3"),
        ("CIRCUIT_BREAKER__RESET_TIMEOUT", "1m 30s", "circuit_breaker.reset_timeout", "90"),
        ("CIRCUIT_BREAKER__HALF_OPEN_MAX_CALLS", " 2 ", "circuit_breaker.half_open_max_calls", "2"),
        ("CIRCUIT_BREAKER__HALF_OPEN_TIMEOUT", "2.5", "circuit_breaker.half_open_timeout", "2.5"),
        ("CIRCUIT_BREAKER__CANCELLATION_IS_FAILURE", "yes", "circuit_breaker.cancellation_is_failure", "true"),
        ("CIRCUIT_BREAKER__CANCELLATION_IS_FAILURE", "1", "circuit_breaker.cancellation_is_failure", "true"),
        ("CIRCUIT_BREAKER__FAILURE_RATE", "0.5", "circuit_breaker.failure_rate", "0.5"),
        ("CIRCUIT_BREAKER__WINDOW", "500ms", "circuit_breaker.window", "0.5"),
        ("CIRCUIT_BREAKER__WINDOW_CALLS", "100", "circuit_breaker.window_calls", "100"),
        ("CIRCUIT_BREAKER__MINIMUM_CALLS", "5", "circuit_breaker.minimum_calls", "5"),
        ("CIRCUIT_BREAKER__SLOW_CALL", "2s", "circuit_breaker.slow_call", "2"),
        ("CIRCUIT_BREAKER__SLOW_CALL_RATE", "1", "circuit_breaker.slow_call_rate", "1"),
        ("RATE_LIMITER__DEFAULT_RATE", "99", "rate_limiter.default_rate", "99"),
        ("RATE_LIMITER__DEFAULT_PER", "500ms", "rate_limiter.default_per", "0.5"),
        ("SHUTDOWN__DEFAULT_TIMEOUT", "40", "shutdown.default_timeout", "40"),
        ("SHUTDOWN__TIMEOUT", "41", "shutdown.default_timeout", "41"),
        ("SHUTDOWN__DRAIN_DELAY", "5", "shutdown.drain_delay", "5"),
        ("SHUTDOWN__FORCE_EXIT_CODE", "9", "shutdown.force_exit_code", "9"),
        ("HEARTBEAT__INTERVAL", "20", "heartbeat.interval", "20"),
        ("WATCHDOG__TIMEOUT", "21", "watchdog.timeout", "21"),
    ] {
        let name = format!("BACKSTAY_{name}");
        let config = Config::from_sources(&Sources::none().variable(&name, text)).unwrap();
        assert_eq!(value(&config, key), expected, "{name}");
        assert_eq!(setting(&config, key).origin, Origin::Environment(name.as_str().into()));
        assert_eq!(config.warnings(), []);
    }
    // An empty variable is ignored.
    let config = Config::from_sources(&Sources::none().variable("BACKSTAY_WATCHDOG__TIMEOUT", "")).unwrap();
    assert_eq!(given(&config), []);
}

// CF-1: the file that `BACKSTAY_CONFIG` names must exist; variables still take precedence.
#[test]
fn a_named_file_replaces_the_search() {
    let folder = Folder::new()
        .with("named.yml", "resilience: {watchdog: {timeout: 40}}")
        .with("found.yml", "resilience: {watchdog: {timeout: 50}, heartbeat: {interval: 60}}");
    let found = Sources::none().file(folder.path("found.yml"));
    let config = Config::from_sources(&found.clone().variable("BACKSTAY_CONFIG", folder.path("named.yml"))).unwrap();
    assert_eq!(pairs(&given(&config)), [("watchdog.timeout", "40")]);

    let config = Config::from_sources(
        &found
            .clone()
            .variable("BACKSTAY_CONFIG", folder.path("named.yml"))
            .variable("BACKSTAY_WATCHDOG__TIMEOUT", "30"),
    );
    assert_eq!(value(&config.unwrap(), "watchdog.timeout"), "30");

    let error =
        Config::from_sources(&found.clone().variable("BACKSTAY_CONFIG", folder.path("missing.yml"))).unwrap_err();
    assert_eq!(folder.relative(&error), "missing.yml: no such file, but BACKSTAY_CONFIG names it");
    assert_eq!(error.file(), Some(folder.path("missing.yml").as_path()));

    let only = found.clone().variable("BACKSTAY_CONFIG", "missing.yml").only_file(folder.path("named.yml"));
    assert_eq!(value(&Config::from_sources(&only).unwrap(), "watchdog.timeout"), "40");
    let error = Config::from_sources(&only.only_file(folder.path("missing.yml"))).unwrap_err();
    assert_eq!(folder.relative(&error), "missing.yml: no such file");

    let config = Config::from_sources(&found.variable("BACKSTAY_CONFIG", "")).unwrap();
    assert_eq!(value(&config, "watchdog.timeout"), "50");
}

// CF-4: a named file is meant for this library; a file that the search finds may belong to another program.
#[test]
fn a_named_file_without_our_section_is_warned_about() {
    let many: String = (0..1000).map(|i| format!("key{i}: 1\n")).collect();
    for (text, expected) in [
        ("", "conf.yml: has no section `resilience`: nothing in it is used"),
        ("other: 1\n? [a]\n: b\n404: c\n", "conf.yml: has no section `resilience`: nothing in it is used"),
        (&many, "conf.yml: has no section `resilience`: nothing in it is used"),
        (
            "watchdog: {timeout: 5}\nResillience: {}\n",
            "conf.yml:2:1: `Resillience` is not known and is ignored; did you mean `resilience`?",
        ),
        ("a: 1\nwatchdog: {}\n", "conf.yml:2:1: `watchdog` is outside the section `resilience` and is ignored"),
    ] {
        let folder = Folder::new().with("conf.yml", text);
        let named = Sources::none().variable("BACKSTAY_CONFIG", folder.path("conf.yml"));
        let config = Config::from_sources(&named).unwrap();
        let warnings: Vec<_> = config.warnings().iter().map(|warning| folder.relative(warning)).collect();
        assert_eq!(warnings, [expected], "{text}");
        assert_eq!(load(text).unwrap().warnings(), [], "{text}");
    }
    for text in ["resilience:\n", "resillience: 1\nresilience: {}\n"] {
        let folder = Folder::new().with("conf.yml", text);
        let named = Sources::none().variable("BACKSTAY_CONFIG", folder.path("conf.yml"));
        assert_eq!(Config::from_sources(&named).unwrap().warnings(), [], "{text}");
    }
}

// CF-4: a file called `backstay.yml` is meant for this library, also if the search has found it.
#[test]
fn our_own_file_without_our_section_is_warned_about() {
    let folder = Folder::new().with("backstay.yml", "watchdog: {timeout: 5}").with("kstlib.conf.yml", "a: 1");
    let sources = Sources::none().file(folder.path("backstay.yml")).file(folder.path("kstlib.conf.yml"));
    let config = Config::from_sources(&sources).unwrap();
    let warnings: Vec<_> = config.warnings().iter().map(|warning| folder.relative(warning)).collect();
    assert_eq!(warnings, ["backstay.yml:1:1: `watchdog` is outside the section `resilience` and is ignored"]);
}

// CF-3
#[test]
fn instances_are_read() {
    let config = load(
        "\
resilience:
  circuit_breaker:
    max_failures: 5
    instances:
      payment-api: {max_failures: 3, cancellation_is_failure: true}
      0404: {reset_timeout: 9}
      idle:
  rate_limiter:
    instances: {search: {rate: 100, per: 60, burst: 5}}
  watchdog:
    instances:
      worker:
        timeout: 5
",
    )
    .unwrap();
    assert_eq!(
        pairs(&given(&config)),
        [
            ("circuit_breaker.max_failures", "5"),
            ("circuit_breaker.instances.payment-api.max_failures", "3"),
            ("circuit_breaker.instances.0404.reset_timeout", "9"),
            ("circuit_breaker.instances.payment-api.cancellation_is_failure", "true"),
            ("rate_limiter.instances.search.rate", "100"),
            ("rate_limiter.instances.search.per", "60"),
            ("rate_limiter.instances.search.burst", "5"),
            ("watchdog.instances.worker.timeout", "5"),
        ]
    );
    assert_eq!(config.warnings(), []);
}

// CF-4
#[test]
fn empty_files_sections_and_values_are_ignored() {
    for yaml in [
        "",
        "\u{feff}",
        "# nothing\n",
        "---\n",
        "resilience:\n",
        "resilience: {}\n",
        "resilience: ~\n",
        "resilience:\n  circuit_breaker:\n",
        "resilience:\n  circuit_breaker:\n    max_failures:\n    instances:\n",
        "resilience: {watchdog: {instances: {worker: {timeout: null}}}}\n",
    ] {
        let config = load(yaml).unwrap();
        assert_eq!(given(&config), [], "{yaml:?}");
        assert_eq!(config.warnings(), [], "{yaml:?}");
    }
}

// CF-4: even if their content would be invalid in ours.
#[test]
fn other_sections_are_not_read() {
    let config = load(
        "\
%YAML 1.2
---
other: !custom {a: !x b, a: .nan}
python: !!python/object:module.Class [1]
resiliense: 3
max_failures: lots
? [a, b]
: c
1: 2
~: [[[[1]]]]
resilience: {watchdog: {timeout: 5}}
last: |
  text
",
    )
    .unwrap();
    assert_eq!(pairs(&given(&config)), [("watchdog.timeout", "5")]);
    assert_eq!(config.warnings(), []);
}

// CF-4: the position of an alias's value is that of the anchor.
#[test]
fn anchors_and_merges_work() {
    let config = load(
        "\
base: &base {max_failures: 8, reset_timeout: 9}
resilience:
  circuit_breaker:
    <<: *base
    reset_timeout: 10
",
    )
    .unwrap();
    assert_eq!(
        pairs(&given(&config)),
        [("circuit_breaker.max_failures", "8"), ("circuit_breaker.reset_timeout", "10")]
    );
    let Origin::File { place, .. } = setting(&config, "circuit_breaker.max_failures").origin else { panic!() };
    assert_eq!(place, Some(Place { line: 1, column: 28 }));
}

// CF-4, CF-5: with one warning.
#[test]
fn out_of_range_numbers_are_clamped() {
    for (key, below, above, low, high) in [
        ("circuit_breaker: {max_failures: ", "0", "101", "1", "100"),
        ("circuit_breaker: {reset_timeout: ", "0.999", "3601", "1", "3600"),
        ("circuit_breaker: {half_open_max_calls: ", "0", "11", "1", "10"),
        ("circuit_breaker: {half_open_timeout: ", "0", "1e300", "1", "3600"),
        ("circuit_breaker: {failure_rate: ", "1.5", "1e9", "1", "1"),
        ("circuit_breaker: {window: ", "0", "1e9", "0.1", "86400"),
        ("circuit_breaker: {window_calls: ", "0", "1000001", "1", "1000000"),
        ("circuit_breaker: {minimum_calls: ", "0", "1e9", "1", "1000000"),
        ("circuit_breaker: {slow_call: ", "0", "2e5", "0.001", "86400"),
        ("circuit_breaker: {instances: {a: {slow_call_rate: ", "2", "1.01", "1", "1"),
        ("shutdown: {default_timeout: ", "4.9", "301", "5", "300"),
        ("shutdown: {timeout: ", "0", "1e19", "5", "300"),
        ("heartbeat: {interval: ", "500ms", "301", "1", "300"),
        ("watchdog: {timeout: ", "0", "99999999999999999999999999", "1", "3600"),
        ("watchdog: {instances: {a: {timeout: ", "0", "2h", "1", "3600"),
    ] {
        let close = "}".repeat(key.matches('{').count() + 1);
        for (text, expected) in [(below, low), (above, high), (low, low), (high, high)] {
            let config = load(format!("resilience: {{{key}{text}{close}")).unwrap();
            assert_eq!(given(&config)[0].1, expected, "{key}{text}");
            assert_eq!(config.warnings().len(), usize::from(text != expected), "{key}{text}");
        }
    }
    assert_eq!(
        warnings("resilience:\n  circuit_breaker:\n    max_failures: 1000\n"),
        ["conf.yml:3:19: `resilience.circuit_breaker.max_failures` is 1000, outside 1 to 100; 100 is used"]
    );
    assert_eq!(
        warnings("resilience:\n  heartbeat:\n    interval: 5m 1s\n"),
        ["conf.yml:3:15: `resilience.heartbeat.interval` is the text \"5m 1s\", outside 1 to 300; 300 is used"]
    );
}

// CF-4: only a value that applies causes a warning.
#[test]
fn an_overridden_out_of_range_number_causes_no_warning() {
    let folder = Folder::new().with("conf.yml", "resilience: {watchdog: {timeout: 0}}");
    let sources = Sources::none().file(folder.path("conf.yml")).variable("BACKSTAY_WATCHDOG__TIMEOUT", "9000");
    let config = Config::from_sources(&sources).unwrap();
    let shown: Vec<_> = config.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        ["environment variable BACKSTAY_WATCHDOG__TIMEOUT: `resilience.watchdog.timeout` is 9000, outside 1 to 3600; \
          3600 is used"]
    );
}

// CF-4: the warning names the nearest known key, unless it differs too much.
#[test]
fn unknown_keys_cause_a_warning_with_the_nearest_known_key() {
    let text = "\
resilience:
  circut_breaker: {max_failures: oops}
  circuit_breaker:
    max_failure: oops
    maxFailures: 1
    reset-timeout: 1
    instance: {}
    instances:
      a: {reset_timeot: 1}
  rate_limiter:
    rate: 5
    instances:
      b: {default_rate: 1}
  shutdown: {time_out: 5, instances: {}, dfeault_timeout: 5, timeuot: 5}
  watchdog: {404: 5}
  run: {wait: 1, stable: 5}
";
    assert_eq!(
        warnings(text),
        [
            "conf.yml:2:3: `resilience.circut_breaker` is not known and is ignored; did you mean `circuit_breaker`?",
            "conf.yml:4:5: `resilience.circuit_breaker.max_failure` is not known and is ignored; did you mean \
             `max_failures`?",
            "conf.yml:5:5: `resilience.circuit_breaker.maxFailures` is not known and is ignored; did you mean \
             `max_failures`?",
            "conf.yml:6:5: `resilience.circuit_breaker.reset-timeout` is not known and is ignored; did you mean \
             `reset_timeout`?",
            "conf.yml:7:5: `resilience.circuit_breaker.instance` is not known and is ignored; did you mean \
             `instances`?",
            "conf.yml:9:11: `resilience.circuit_breaker.instances.a.reset_timeot` is not known and is ignored; did \
             you mean `reset_timeout`?",
            "conf.yml:11:5: `resilience.rate_limiter.rate` is not known and is ignored; did you mean `default_rate`?",
            "conf.yml:13:11: `resilience.rate_limiter.instances.b.default_rate` is not known and is ignored; did you \
             mean `rate`?",
            "conf.yml:14:14: `resilience.shutdown.time_out` is not known and is ignored; did you mean `timeout`?",
            "conf.yml:14:27: `resilience.shutdown.instances` is not known and is ignored",
            "conf.yml:14:42: `resilience.shutdown.dfeault_timeout` is not known and is ignored; did you mean \
             `default_timeout`?",
            "conf.yml:14:62: `resilience.shutdown.timeuot` is not known and is ignored; did you mean `timeout`?",
            "conf.yml:15:14: `resilience.watchdog.404` is not known and is ignored",
            "conf.yml:16:9: `resilience.run.wait` is not known and is ignored",
            "conf.yml:16:18: `resilience.run.stable` is not known and is ignored",
        ]
    );

    let sources = Sources::none().variable("BACKSTAY_CIRCUIT_BRAKER__MAX_FAILURES", "3").variable("BACKSTAY_LOG", "x");
    let shown: Vec<_> = Config::from_sources(&sources).unwrap().warnings().iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        ["environment variable BACKSTAY_CIRCUIT_BRAKER__MAX_FAILURES: `BACKSTAY_CIRCUIT_BRAKER__MAX_FAILURES` is not \
          known and is ignored; did you mean `BACKSTAY_CIRCUIT_BREAKER__MAX_FAILURES`?"]
    );
    // The part of the section is correct, so that of the key decides.
    let sources = Sources::none().variable("BACKSTAY_RUN__WAIT", "3");
    let shown: Vec<_> =
        Config::from_sources(&sources).unwrap().warnings().iter().map(|warning| warning.text.clone()).collect();
    assert_eq!(shown, ["`BACKSTAY_RUN__WAIT` is not known and is ignored"]);
}

// CF-4: other variables with the prefix, and those of other programs, cause no warning.
#[test]
fn a_variable_with_one_underscore_instead_of_two_causes_a_warning() {
    let warned = |name: &str| {
        let config = Config::from_sources(&Sources::none().variable(name, "3")).unwrap();
        config.warnings().iter().map(|warning| warning.text.clone()).collect::<Vec<_>>()
    };
    for (name, meant) in [
        ("BACKSTAY_WATCHDOG_TIMEOUT", "BACKSTAY_WATCHDOG__TIMEOUT"),
        ("BACKSTAY_WATCHDOG_TIMOUT", "BACKSTAY_WATCHDOG__TIMEOUT"),
        ("BACKSTAY_CIRCUIT_BREAKER_MAX_FAILURES", "BACKSTAY_CIRCUIT_BREAKER__MAX_FAILURES"),
    ] {
        assert_eq!(warned(name), [format!("`{name}` is not known and is ignored; did you mean `{meant}`?")]);
    }
    for other in ["BACKSTAY_HEARTBEAT_FILE", "BACKSTAY_DIR", "BACKSTAY_RUN", "BACKSTAY_NAME", "BACKSTAY_LOG"] {
        assert_eq!(warned(other), [""; 0], "{other}");
    }
}

// CF-4
#[test]
fn a_quoted_value_in_a_file_means_the_same_as_in_a_variable() {
    for text in ["7", " 7 ", "7s", "1m 30s", "true", "no", "0.5", "1e2", "soon", "-1", "nan", "inf"] {
        for (component, key) in [
            ("watchdog", "timeout"),
            ("circuit_breaker", "max_failures"),
            ("circuit_breaker", "cancellation_is_failure"),
            ("rate_limiter", "default_rate"),
            ("rate_limiter", "default_per"),
        ] {
            let variable = format!("BACKSTAY_{}__{}", component.to_uppercase(), key.to_uppercase());
            let in_variable = Config::from_sources(&Sources::none().variable(variable, text));
            let in_file = load(format!("resilience: {{{component}: {{{key}: '{text}'}}}}"));
            let shown = |config: Result<Config, ConfigError>| {
                config.map(|config| value(&config, &format!("{component}.{key}"))).ok()
            };
            assert_eq!(shown(in_file), shown(in_variable), "{component}.{key}: '{text}'");
        }
    }
    let quoted = load("resilience: {watchdog: {timeout: '7'}}").unwrap();
    assert_eq!(value(&quoted, "watchdog.timeout"), "7");
}
