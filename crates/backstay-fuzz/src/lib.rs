//! Fuzz targets for everything that Backstay reads from untrusted sources: a function for each kind of input.
//!
//! Each function takes arbitrary bytes, and panics if Backstay breaks a rule. `scripts/fuzz` runs libFuzzer; the test
//! `short` calls the same functions with the corpus and with mutated copies of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{Seek, Write};
use std::mem::discriminant;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use backstay::config::{Config, Sources, Value};
use backstay::heartbeat::{Heartbeat, HeartbeatState, Liveness};
use tempfile::NamedTempFile;

// The command line is a binary, so this file is included. It uses no other module.
#[path = "../../backstay-cli/src/run/notification.rs"]
mod notification;

use notification::{Notification, parse};

/// The name of a target, which is also that of its corpus folder, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 4] =
    [("heartbeat", heartbeat), ("config", config), ("environment", environment), ("notify", notify)];

/// Reads a heartbeat's state file (HB-6, HB-7).
///
/// # Panics
/// The file breaks a rule of the reader.
pub fn heartbeat(data: &[u8]) {
    const MAX_AGE: Duration = Duration::from_secs(30);
    with_file(data, |path| {
        let read = Heartbeat::read_state(path);
        let alive = Heartbeat::is_alive(path, MAX_AGE);
        let Ok(state) = read else {
            assert!(!alive, "alive without a state");
            return;
        };
        assert!(!state.liveness(Duration::ZERO).to_string().is_empty());
        if let Liveness::Alive { age } = state.liveness(MAX_AGE) {
            assert!(age <= MAX_AGE, "alive at the age of {age:?}");
        }
        // A state that was read can be written and read again.
        let json = serde_json::to_vec(&state).expect("a state is JSON");
        let again: HeartbeatState = serde_json::from_slice(&json).expect("what was written is read");
        assert_eq!((again.pid, &again.hostname, again.status), (state.pid, &state.hostname, state.status));
        assert_eq!((again.sequence, &again.boot_id), (state.sequence, &state.boot_id));
    });
}

/// Reads a configuration file (CF-4).
///
/// # Panics
/// The file breaks a rule of the reader.
pub fn config(data: &[u8]) {
    with_file(data, |path| check_config(&Sources::none().file(path)));
}

/// Reads environment variables, one `NAME=VALUE` on each line. Names without the prefix `BACKSTAY_` get it (CF-1).
///
/// # Panics
/// The variables break a rule of the reader.
pub fn environment(data: &[u8]) {
    let mut sources = Sources::none();
    for line in data.split(|byte| *byte == b'\n') {
        let mut halves = line.splitn(2, |byte| *byte == b'=');
        let (name, value) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
        let prefix: &[u8] = if name.starts_with(b"BACKSTAY_") { b"" } else { b"BACKSTAY_" };
        let name = [prefix, name].concat();
        // This variable names a file, and the fuzzer must open no file but its own.
        if name != b"BACKSTAY_CONFIG" {
            sources = sources.variable(OsStr::from_bytes(&name), OsStr::from_bytes(value));
        }
    }
    check_config(&sources);
}

/// Parses a message of sd_notify(3), as a program sends it to `backstay run`.
///
/// # Panics
/// The parser returns an invalid notification.
pub fn notify(data: &[u8]) {
    let notifications = parse(data);
    for (index, one) in notifications.iter().enumerate() {
        assert!(
            notifications[..index].iter().all(|other| discriminant(other) != discriminant(one)),
            "parsed twice: {one:?}"
        );
        match one {
            Notification::Status(text) => assert!(text.chars().count() <= 200, "a long status"),
            Notification::WatchdogTime(time) => assert!(!time.is_zero(), "a watchdog that fires at once"),
            _ => {}
        }
    }
    assert_eq!(parse(&[data, b"\n", data].concat()), notifications, "a repeated message has the same notifications");
}

/// Loads and checks a configuration; both must agree.
fn check_config(sources: &Sources) {
    let loaded = Config::from_sources(sources);
    match Config::check(sources) {
        Ok(config) => {
            let loaded = loaded.expect("a valid configuration can be loaded");
            assert!(loaded.settings().eq(config.settings()));
            assert!(config.warnings().iter().all(|warning| !warning.to_string().is_empty()));
            same_in_the_environment(&config);
        }
        Err(broken) => {
            assert!(loaded.is_err(), "an invalid configuration was loaded");
            assert!(!broken.errors.is_empty() && broken.errors.iter().all(|error| !error.to_string().is_empty()));
        }
    }
}

/// Every setting of a section can also be set by a variable, with the text that `config show` prints.
fn same_in_the_environment(config: &Config) {
    let mut sources = Sources::none();
    let mut shown = BTreeMap::new();
    for setting in config.settings() {
        let Some(value) = setting.value else { continue };
        let name = match setting.key.split('.').collect::<Vec<_>>()[..] {
            [component, key] => format!("BACKSTAY_{}__{}", component.to_uppercase(), key.to_uppercase()),
            _ => continue, // a setting of an instance
        };
        sources = sources.variable(name, value.to_string());
        shown.insert(setting.key, value);
    }
    let again = Config::from_sources(&sources).expect("a shown value is valid");
    assert!(again.warnings().is_empty(), "a shown value is within bounds: {:?}", again.warnings());
    for setting in again.settings() {
        let (before, after) = (shown.get(&setting.key).copied(), setting.value);
        let same = match (before, after) {
            // Seconds are shown as a floating point number with 53 bits.
            (Some(Value::Seconds(before)), Some(Value::Seconds(after))) => {
                before.abs_diff(after).as_secs_f64() <= before.as_secs_f64() * 1e-15 + 2e-9
            }
            _ => before == after,
        };
        assert!(same, "{}: {before:?} became {after:?}", setting.key);
    }
}

/// Calls `f` with a file of these bytes. Each thread reuses one file.
fn with_file(data: &[u8], f: impl FnOnce(&Path)) {
    thread_local! {
        static FILE: RefCell<NamedTempFile> =
            RefCell::new(NamedTempFile::new().expect("there is a folder for temporary files"));
    }
    FILE.with_borrow_mut(|file| {
        file.rewind().expect("rewind");
        file.as_file().set_len(0).expect("truncate");
        file.write_all(data).expect("write");
        f(file.path());
    });
}
