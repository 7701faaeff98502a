//! Files that are missing, damaged, hostile or doctored, and what they prove.

use std::fs;
use std::path::Path;
use std::time::Duration;

use backstay::Heartbeat;
use backstay::heartbeat::{HeartbeatError, Liveness, MAX_FILE_SIZE};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{AGE, Folder};

fn refused(path: &Path) -> HeartbeatError {
    assert!(!Heartbeat::is_alive(path, Duration::MAX), "{}", path.display());
    assert!(Heartbeat::liveness(path, Duration::MAX).is_err());
    Heartbeat::read_state(path).unwrap_err()
}

// HB-6: whatever stands in its place, reading does not wait and says what is wrong.
#[test]
fn what_is_no_heartbeat_is_refused_and_named() {
    let folder = Folder::new();
    let path = folder.file();
    assert!(matches!(refused(&path), HeartbeatError::Missing { .. }));
    assert!(matches!(refused(Path::new("")), HeartbeatError::Missing { .. }));
    assert!(matches!(refused(Path::new("a\0b")), HeartbeatError::Io { .. }));
    assert!(matches!(refused(folder.path()), HeartbeatError::NotAFile { .. }));

    let valid = r#"{"timestamp": "2026-11-23T12:00:00Z", "pid": 7, "hostname": "web-1", "metadata": {}}"#;
    fs::write(&path, valid).unwrap();
    assert_eq!(folder.state().pid, 7);
    fs::write(&path, format!("{valid}{}", " ".repeat(MAX_FILE_SIZE - valid.len()))).unwrap();
    assert_eq!(folder.state().pid, 7);
    fs::write(&path, format!("{valid}{}", " ".repeat(MAX_FILE_SIZE - valid.len() + 1))).unwrap();
    assert!(matches!(refused(&path), HeartbeatError::TooLarge { .. }));
    // A sparse file of a terabyte: nothing is read that need not be.
    fs::File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
    assert!(matches!(refused(&path), HeartbeatError::TooLarge { .. }));
}

// HB-6: pipes, devices and links.
#[cfg(unix)]
#[test]
fn reading_never_waits() {
    use std::os::unix::fs::symlink;

    let folder = Folder::new();
    let pipe = folder.path().join("pipe");
    super::places::make_pipe(&pipe);
    let socket = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for irregular in [&*pipe, &*socket, Path::new("/dev/zero"), Path::new("/dev/tty")] {
        let error = refused(irregular);
        assert!(matches!(error, HeartbeatError::NotAFile { .. }), "{error:?}");
    }

    let link = folder.path().join("link");
    symlink(&link, &link).unwrap();
    assert!(matches!(refused(&link), HeartbeatError::Io { .. }));
    fs::remove_file(&link).unwrap();
    symlink(folder.file(), &link).unwrap();
    assert!(matches!(refused(&link), HeartbeatError::Missing { .. }));
    Heartbeat::builder().state_file(folder.file()).interval(AGE).build().unwrap().beat().unwrap();
    assert!(Heartbeat::is_alive(&link, AGE), "a link to a heartbeat is one");
}

// HB-6: each of these was thought of by someone who meant no good.
#[test]
fn damaged_files_are_refused_and_named() {
    let folder = Folder::new();
    let valid = json!({"timestamp": "2026-11-23T12:00:00Z", "pid": 7, "hostname": "web-1", "metadata": {}});
    let with = |name: &str, value: Value| {
        let mut json = valid.clone();
        json[name] = value;
        json.to_string()
    };
    let mut damaged = vec![
        String::new(),
        "null".to_owned(),
        r#"["2026-11-23T12:00:00Z", 7, "web-1", {}]"#.to_owned(),
        valid.to_string()[..40].to_owned(),
        format!("{valid}{valid}"),
        "[".repeat(500_000),
        "{\"metadata\":".repeat(50_000),
        valid.to_string().replace("{}", "{\"x\": NaN}"),
        valid.to_string().replace(":7", ":1e999"),
    ];
    for (name, wrong) in [
        ("timestamp", json!("yesterday")),
        ("timestamp", json!("2026-11-23T12:00:00")),
        ("timestamp", json!("2026-13-23T12:00:00Z")),
        ("timestamp", json!(1_700_000_000)),
        ("pid", json!(-1)),
        ("pid", json!(u64::MAX)),
        ("pid", json!(7.5)),
        ("hostname", json!(null)),
        ("metadata", json!([])),
        ("sequence", json!(-1)),
        ("interval", json!(-1)),
        ("boottime", json!(-0.5)),
        ("boottime", json!(1e300)),
        ("started_at", json!("never")),
        ("status", json!(1)),
        ("degraded_by", json!(1)),
        ("boot_id", json!(7)),
    ] {
        damaged.push(with(name, wrong));
    }
    for name in ["timestamp", "pid", "hostname"] {
        let mut json = valid.clone();
        json.as_object_mut().unwrap().remove(name);
        damaged.push(json.to_string());
    }
    for text in damaged {
        fs::write(folder.file(), &text).unwrap();
        let error = refused(&folder.file());
        let shown = &text[..text.len().min(100)];
        assert!(matches!(&error, HeartbeatError::Damaged { reason, .. } if !reason.is_empty()), "{shown}: {error:?}");
    }
    fs::write(folder.file(), with("status", json!("a word of tomorrow"))).unwrap();
    assert_eq!(folder.state().status, None);
    fs::write(folder.file(), with("degraded_by", json!("a word of tomorrow"))).unwrap();
    assert_eq!(folder.state().degraded_by, None);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    // HB-6, ALL-1: no bytes make a reader panic.
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let folder = Folder::new();
        fs::write(folder.file(), bytes).unwrap();
        refused(&folder.file());
    }

    // HB-6, ALL-1: nor does a heartbeat in which some bytes were changed, or some values.
    #[test]
    fn no_damage_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
                        field in 0..12_usize, value in any_json(), max_age: Duration) {
        let folder = Folder::new();
        Heartbeat::builder().state_file(folder.file()).interval(AGE).build().unwrap().beat().unwrap();
        let mut json = folder.json();
        let name = json.as_object().unwrap().keys().nth(field).cloned();
        json[name.unwrap_or_default()] = value;
        let mut bytes = json.to_string().into_bytes();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        fs::write(folder.file(), bytes).unwrap();
        let verdict = Heartbeat::liveness(folder.file(), max_age);
        prop_assert_eq!(verdict.is_ok(), Heartbeat::read_state(folder.file()).is_ok());
        prop_assert_eq!(verdict.is_ok_and(Liveness::is_alive), Heartbeat::is_alive(folder.file(), max_age));
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        Just(json!({})),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "-?[0-9]{1,5}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})"
            .prop_map(Value::from),
    ]
}

/// A file as this process writes it, changed by `change`, and the verdict on it.
fn doctored(change: impl FnOnce(&mut Value)) -> Liveness {
    let folder = Folder::new();
    Heartbeat::builder().state_file(folder.file()).interval(AGE).build().unwrap().beat().unwrap();
    let mut json = folder.json();
    change(&mut json);
    fs::write(folder.file(), json.to_string()).unwrap();
    let verdict = Heartbeat::liveness(folder.file(), AGE).unwrap();
    assert_eq!(Heartbeat::is_alive(folder.file(), AGE), verdict.is_alive());
    verdict
}

const LONG_AGO: &str = "2001-01-01T00:00:00.000000+00:00";
const LONG_AHEAD: &str = "2201-01-01T00:00:00.000000+00:00";

// HB-7: a wall clock that was set, back or forth, changes nothing on the same boot.
#[cfg(target_os = "linux")]
#[test]
fn on_the_same_boot_the_wall_clock_does_not_matter() {
    for time in [LONG_AGO, LONG_AHEAD] {
        assert!(doctored(|json| json["timestamp"] = json!(time)).is_alive());
    }
    let back =
        |seconds: f64| move |json: &mut Value| json["boottime"] = json!(json["boottime"].as_f64().unwrap() + seconds);
    assert!(matches!(doctored(back(-31.0)), Liveness::ProcessGone | Liveness::Stale { .. }));
    assert!(matches!(doctored(back(3600.0)), Liveness::FromFuture { .. }));
}

// HB-7: on another boot, or where the file does not say, the time stamp counts and the process does not.
#[test]
fn elsewhere_the_time_stamp_counts() {
    let elsewhere = |json: &mut Value| {
        json["boot_id"] = json!("another");
        json["pid"] = json!(u32::MAX);
    };
    assert!(doctored(elsewhere).is_alive());
    let page = |time: &'static str| {
        move |json: &mut Value| {
            *json = json!({"timestamp": time, "pid": u32::MAX, "hostname": json["hostname"], "metadata": {}});
        }
    };
    assert!(matches!(doctored(page(LONG_AGO)), Liveness::Stale { .. }));
    assert!(matches!(doctored(page(LONG_AHEAD)), Liveness::FromFuture { .. }));
}

/// Whether the process is dead, be it fetched by its parent or not.
#[cfg(target_os = "linux")]
fn proc_says_ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().is_some_and(|fields| fields.trim_start().starts_with('Z'))
}

// HB-7: a process that is gone is dead at once, also where its id was given to another.
#[cfg(target_os = "linux")]
#[test]
fn a_process_that_is_gone_is_seen_at_once() {
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    // The file is older than the process of that id: it was another's.
    let reused = |json: &mut Value| {
        json["pid"] = json!(child.id());
        json["boottime"] = json!(0.0);
    };
    assert_eq!(doctored(reused), Liveness::ProcessGone);
    let as_written = |json: &mut Value| json["pid"] = json!(child.id());
    assert!(doctored(as_written).is_alive());

    child.kill().unwrap();
    let pid = child.id();
    let gone = |json: &mut Value| json["pid"] = json!(pid);
    // Killed, and not fetched by its parent: what is left does not live. It dies when the kernel gets to it.
    super::eventually(|| proc_says_ended(pid));
    assert_eq!(doctored(gone), Liveness::ProcessGone);
    child.wait().unwrap();
    assert_eq!(doctored(gone), Liveness::ProcessGone);

    // Where ids are counted elsewhere, it proves nothing.
    let container = |json: &mut Value| {
        gone(json);
        json["pid_namespace"] = json!("pid:[1]");
    };
    assert!(doctored(container).is_alive());
    let host = |json: &mut Value| {
        gone(json);
        json.as_object_mut().unwrap().remove("pid_namespace");
        json["hostname"] = json!("another");
    };
    assert!(doctored(host).is_alive());
}
