//! Reading files that are missing, damaged, hostile or modified.

use std::fs;
use std::path::Path;
use std::time::Duration;

use backstay::Heartbeat;
use backstay::heartbeat::{HeartbeatError, Liveness, MAX_FILE_SIZE};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{AGE, Folder};

/// Reads an invalid heartbeat and returns the error.
fn read_error(path: &Path) -> HeartbeatError {
    assert!(!Heartbeat::is_alive(path, Duration::MAX), "{}", path.display());
    assert!(Heartbeat::liveness(path, Duration::MAX).is_err());
    Heartbeat::read_state(path).unwrap_err()
}

// HB-6: whatever is at the path, reading does not block and returns a specific error.
#[test]
fn each_invalid_file_has_its_error() {
    let folder = Folder::new();
    let path = folder.file();
    assert!(matches!(read_error(&path), HeartbeatError::Missing { .. }));
    assert!(matches!(read_error(Path::new("")), HeartbeatError::Missing { .. }));
    assert!(matches!(read_error(Path::new("a\0b")), HeartbeatError::Read { .. }));
    assert!(matches!(read_error(folder.path()), HeartbeatError::NotAFile { .. }));

    let valid = r#"{"timestamp": "2026-11-23T12:00:00Z", "pid": 7, "hostname": "web-1", "metadata": {}}"#;
    fs::write(&path, valid).unwrap();
    assert_eq!(folder.state().pid, 7);
    fs::write(&path, format!("{valid}{}", " ".repeat(MAX_FILE_SIZE - valid.len()))).unwrap();
    assert_eq!(folder.state().pid, 7);
    fs::write(&path, format!("{valid}{}", " ".repeat(MAX_FILE_SIZE - valid.len() + 1))).unwrap();
    assert!(matches!(read_error(&path), HeartbeatError::TooLarge { .. }));
    // A sparse file of a terabyte: it is not read as a whole.
    fs::File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
    assert!(matches!(read_error(&path), HeartbeatError::TooLarge { .. }));
}

// HB-6: pipes, devices and links do not block a reader.
#[cfg(unix)]
#[test]
fn reading_never_blocks() {
    use std::os::unix::fs::symlink;

    let folder = Folder::new();
    let pipe = folder.path().join("pipe");
    super::paths::make_pipe(&pipe);
    let socket = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for irregular in [&*pipe, &*socket, Path::new("/dev/zero"), Path::new("/dev/tty")] {
        let error = read_error(irregular);
        assert!(matches!(error, HeartbeatError::NotAFile { .. }), "{error:?}");
    }

    let link = folder.path().join("link");
    symlink(&link, &link).unwrap();
    assert!(matches!(read_error(&link), HeartbeatError::Read { .. }));
    fs::remove_file(&link).unwrap();
    symlink(folder.file(), &link).unwrap();
    assert!(matches!(read_error(&link), HeartbeatError::Missing { .. }));
    Heartbeat::builder().state_file(folder.file()).interval(AGE).build().unwrap().beat().unwrap();
    assert!(Heartbeat::is_alive(&link, AGE), "a link to a heartbeat is a heartbeat");
}

// HB-6: damaged and hostile files are errors with a reason.
#[test]
fn damaged_files_are_errors_with_a_reason() {
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
    for (name, invalid) in [
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
        damaged.push(with(name, invalid));
    }
    for name in ["timestamp", "pid", "hostname"] {
        let mut json = valid.clone();
        json.as_object_mut().unwrap().remove(name);
        damaged.push(json.to_string());
    }
    for text in damaged {
        fs::write(folder.file(), &text).unwrap();
        let error = read_error(&folder.file());
        let shown = &text[..text.len().min(100)];
        assert!(matches!(&error, HeartbeatError::Damaged { reason, .. } if !reason.is_empty()), "{shown}: {error:?}");
    }
    fs::write(folder.file(), with("status", json!("a future word"))).unwrap();
    assert_eq!(folder.state().status, None);
    fs::write(folder.file(), with("degraded_by", json!("a future word"))).unwrap();
    assert_eq!(folder.state().degraded_by, None);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    // HB-6, ALL-1: no bytes make a reader panic.
    #[test]
    fn no_bytes_make_a_reader_panic(bytes: Vec<u8>) {
        let folder = Folder::new();
        fs::write(folder.file(), bytes).unwrap();
        read_error(&folder.file());
    }

    // HB-6, ALL-1: a heartbeat with some changed bytes or values does not make a reader panic.
    #[test]
    fn no_damage_makes_a_reader_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
                        field in 0..12_usize, value in any_json(), max_age: Duration) {
        let folder = Folder::new();
        Heartbeat::builder().state_file(folder.file()).interval(AGE).build().unwrap().beat().unwrap();
        let mut json = folder.json();
        let name = json.as_object().unwrap().keys().nth(field).cloned();
        json[name.unwrap_or_default()] = value;
        let mut bytes = json.to_string().into_bytes();
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        fs::write(folder.file(), bytes).unwrap();
        let liveness = Heartbeat::liveness(folder.file(), max_age);
        prop_assert_eq!(liveness.is_ok(), Heartbeat::read_state(folder.file()).is_ok());
        prop_assert_eq!(liveness.is_ok_and(Liveness::is_alive), Heartbeat::is_alive(folder.file(), max_age));
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

/// Returns the liveness of a beat of this process after `change`.
fn liveness_with(change: impl FnOnce(&mut Value)) -> Liveness {
    let folder = Folder::new();
    Heartbeat::builder().state_file(folder.file()).interval(AGE).build().unwrap().beat().unwrap();
    let mut json = folder.json();
    change(&mut json);
    fs::write(folder.file(), json.to_string()).unwrap();
    let liveness = Heartbeat::liveness(folder.file(), AGE).unwrap();
    assert_eq!(Heartbeat::is_alive(folder.file(), AGE), liveness.is_alive());
    liveness
}

const LONG_AGO: &str = "2001-01-01T00:00:00.000000+00:00";
const LONG_AHEAD: &str = "2201-01-01T00:00:00.000000+00:00";

// HB-7: on the same boot, changes of the wall clock change nothing.
#[cfg(target_os = "linux")]
#[test]
fn on_the_same_boot_the_wall_clock_does_not_matter() {
    for time in [LONG_AGO, LONG_AHEAD] {
        assert!(liveness_with(|json| json["timestamp"] = json!(time)).is_alive());
    }
    let back =
        |seconds: f64| move |json: &mut Value| json["boottime"] = json!(json["boottime"].as_f64().unwrap() + seconds);
    assert!(matches!(liveness_with(back(-31.0)), Liveness::ProcessGone | Liveness::Stale { .. }));
    assert!(matches!(liveness_with(back(3600.0)), Liveness::FromFuture { .. }));
}

// HB-7: on another or unknown boot, the timestamp decides, and the process does not count.
#[test]
fn elsewhere_the_timestamp_decides() {
    let elsewhere = |json: &mut Value| {
        json["boot_id"] = json!("another");
        json["pid"] = json!(u32::MAX);
    };
    assert!(liveness_with(elsewhere).is_alive());
    let without_host = |time: &'static str| {
        move |json: &mut Value| {
            *json = json!({"timestamp": time, "pid": u32::MAX, "hostname": json["hostname"], "metadata": {}});
        }
    };
    assert!(matches!(liveness_with(without_host(LONG_AGO)), Liveness::Stale { .. }));
    assert!(matches!(liveness_with(without_host(LONG_AHEAD)), Liveness::FromFuture { .. }));
}

/// Returns whether the process is a zombie.
#[cfg(target_os = "linux")]
fn is_zombie(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().is_some_and(|fields| fields.trim_start().starts_with('Z'))
}

// HB-7: a process that is gone is dead at once, also if its id was reused.
#[cfg(target_os = "linux")]
#[test]
fn a_process_that_is_gone_is_detected_at_once() {
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    // The file is older than the process with that id, so another process wrote it.
    let reused = |json: &mut Value| {
        json["pid"] = json!(child.id());
        json["boottime"] = json!(0.0);
    };
    assert_eq!(liveness_with(reused), Liveness::ProcessGone);
    let as_written = |json: &mut Value| json["pid"] = json!(child.id());
    assert!(liveness_with(as_written).is_alive());

    child.kill().unwrap();
    let pid = child.id();
    let gone = |json: &mut Value| json["pid"] = json!(pid);
    // Killed and not reaped: a zombie is gone. The kernel needs a moment to end the process.
    super::eventually(|| is_zombie(pid));
    assert_eq!(liveness_with(gone), Liveness::ProcessGone);
    child.wait().unwrap();
    assert_eq!(liveness_with(gone), Liveness::ProcessGone);

    // In another namespace of ids, a missing process proves nothing.
    let container = |json: &mut Value| {
        gone(json);
        json["pid_namespace"] = json!("pid:[1]");
    };
    assert!(liveness_with(container).is_alive());
    let host = |json: &mut Value| {
        gone(json);
        json.as_object_mut().unwrap().remove("pid_namespace");
        json["hostname"] = json!("another");
    };
    assert!(liveness_with(host).is_alive());
}
