//! What Backstay reads from others, fed with anything: a function for each kind of input.
//!
//! Each takes arbitrary bytes and panics where Backstay breaks a promise. `scripts/fuzz` lets libFuzzer search for such
//! bytes; the test `short` calls the same functions with the corpus and with changed copies of it.

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

// The command line is a binary; this part needs nothing from the rest of it.
#[path = "../../backstay-cli/src/run/message.rs"]
mod message;

use message::{Said, parse};

/// A target's name, which is that of its corpus, and the function.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 4] =
    [("heartbeat", heartbeat), ("config", config), ("environment", environment), ("notify", notify)];

/// A heartbeat's state file (HB-6, HB-7).
///
/// # Panics
/// Reading it breaks a promise.
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
        // What was read can be written, and says the same.
        let json = serde_json::to_vec(&state).expect("a state is JSON");
        let again: HeartbeatState = serde_json::from_slice(&json).expect("what was written is read");
        assert_eq!((again.pid, &again.hostname, again.status), (state.pid, &state.hostname, state.status));
        assert_eq!((again.sequence, &again.boot_id), (state.sequence, &state.boot_id));
    });
}

/// A configuration file (CF-4).
///
/// # Panics
/// Reading it breaks a promise.
pub fn config(data: &[u8]) {
    with_file(data, |path| check_config(&Sources::none().file(path)));
}

/// Environment variables, one `NAME=VALUE` on each line; names get our prefix where they lack it (CF-1).
///
/// # Panics
/// Reading them breaks a promise.
pub fn environment(data: &[u8]) {
    let mut sources = Sources::none();
    for line in data.split(|byte| *byte == b'\n') {
        let mut halves = line.splitn(2, |byte| *byte == b'=');
        let (name, value) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
        let prefix: &[u8] = if name.starts_with(b"BACKSTAY_") { b"" } else { b"BACKSTAY_" };
        let name = [prefix, name].concat();
        // It names a file: the fuzzer is to open none but its own.
        if name != b"BACKSTAY_CONFIG" {
            sources = sources.variable(OsStr::from_bytes(&name), OsStr::from_bytes(value));
        }
    }
    check_config(&sources);
}

/// A message of sd_notify(3), as a program sends it to `backstay run`.
///
/// # Panics
/// It is understood as what it cannot mean.
pub fn notify(data: &[u8]) {
    let said = parse(data);
    for (index, one) in said.iter().enumerate() {
        assert!(said[..index].iter().all(|other| discriminant(other) != discriminant(one)), "said twice: {one:?}");
        match one {
            Said::Status(text) => assert!(text.chars().count() <= 200, "a long status"),
            Said::WatchdogTime(time) => assert!(!time.is_zero(), "a watchdog that fires at once"),
            _ => {}
        }
    }
    assert_eq!(parse(&[data, b"\n", data].concat()), said, "what is said twice is said once");
}

/// Loads and checks, and holds the results against each other.
fn check_config(sources: &Sources) {
    let loaded = Config::from_sources(sources);
    match Config::check(sources) {
        Ok(config) => {
            let loaded = loaded.expect("what is right can be loaded");
            assert!(loaded.settings().eq(config.settings()));
            assert!(config.warnings().iter().all(|warning| !warning.to_string().is_empty()));
            same_in_the_environment(&config);
        }
        Err(broken) => {
            assert!(loaded.is_err(), "what is wrong was loaded");
            assert!(!broken.errors.is_empty() && broken.errors.iter().all(|error| !error.to_string().is_empty()));
        }
    }
}

/// What holds for a section can be said by a variable as well, in the words in which it is shown, and fits.
fn same_in_the_environment(config: &Config) {
    let mut sources = Sources::none();
    let mut said = BTreeMap::new();
    for setting in config.settings() {
        let Some(value) = setting.value else { continue };
        let name = match setting.key.split('.').collect::<Vec<_>>()[..] {
            [component, key] => format!("BACKSTAY_{}__{}", component.to_uppercase(), key.to_uppercase()),
            _ => continue, // an instance's
        };
        sources = sources.variable(name, value.to_string());
        said.insert(setting.key, value);
    }
    let again = Config::from_sources(&sources).expect("what is shown can be said");
    assert!(again.warnings().is_empty(), "what is shown is within bounds: {:?}", again.warnings());
    for setting in again.settings() {
        let (before, after) = (said.get(&setting.key).copied(), setting.value);
        let same = match (before, after) {
            // Shown as a number of seconds, of which 53 bits are kept.
            (Some(Value::Seconds(before)), Some(Value::Seconds(after))) => {
                before.abs_diff(after).as_secs_f64() <= before.as_secs_f64() * 1e-15 + 2e-9
            }
            _ => before == after,
        };
        assert!(same, "{}: {before:?} became {after:?}", setting.key);
    }
}

/// Calls `f` with a file of these bytes; each thread has one, made once.
fn with_file(data: &[u8], f: impl FnOnce(&Path)) {
    thread_local! {
        static FILE: RefCell<NamedTempFile> =
            RefCell::new(NamedTempFile::new().expect("there is a folder for temporary files"));
    }
    FILE.with_borrow_mut(|file| {
        file.rewind().expect("it is a file");
        file.as_file().set_len(0).expect("it can be emptied");
        file.write_all(data).expect("there is space");
        f(file.path());
    });
}
