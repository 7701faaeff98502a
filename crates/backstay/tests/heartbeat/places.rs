//! Where a state file is written, and what may be there already.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backstay::Heartbeat;
use backstay::heartbeat::{HeartbeatError, Status};

use super::{AGE, Folder, eventually, names, this_program};

pub(crate) fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn beat(path: &Path) -> Result<(), HeartbeatError> {
    Heartbeat::builder().state_file(path).interval(AGE).build().unwrap().beat()
}

// HB-3: a link planted in its place is replaced, not followed.
#[test]
fn a_link_in_its_place_is_replaced() {
    let folder = Folder::new();
    let precious = folder.path().join("precious");
    fs::write(&precious, "do not touch").unwrap();
    symlink(&precious, folder.file()).unwrap();
    beat(&folder.file()).unwrap();
    assert_eq!(fs::read_to_string(&precious).unwrap(), "do not touch");
    assert!(fs::symlink_metadata(folder.file()).unwrap().is_file());
    assert_eq!(folder.names(), ["bot.heartbeat", "precious"]);
}

// HB-3, HB-4: a pipe planted in its place neither holds us up nor is written to.
#[test]
fn a_pipe_in_its_place_is_replaced() {
    let folder = Folder::new();
    make_pipe(&folder.file());
    beat(&folder.file()).unwrap();
    assert!(folder.state().status.is_some());
    assert!(!fs::symlink_metadata(folder.file()).unwrap().file_type().is_fifo());
}

// HB-3: names that other programs might use for a temporary file are left alone, whatever is there.
#[test]
fn what_others_have_put_there_is_left_alone() {
    let folder = Folder::new();
    let others = ["bot.heartbeat.tmp", "bot.tmp", ".bot.heartbeat.tmp", ".bot.heartbeat.swp", "bot.heartbeat~"];
    for (name, link) in others.iter().zip([true, false, true, false, false]) {
        let path = folder.path().join(name);
        if link { symlink(folder.path().join("nowhere"), path).unwrap() } else { make_pipe(&path) }
    }
    let heartbeat = Heartbeat::builder().state_file(folder.file()).interval(AGE).build().unwrap();
    heartbeat.start().unwrap();
    heartbeat.stop();
    let mut expected: Vec<_> = others.iter().copied().chain(["bot.heartbeat"]).collect();
    expected.sort_unstable();
    assert_eq!(folder.names(), expected);
}

// HB-3, HB-4: a folder in its place is an error, and nothing is left lying about.
#[test]
fn a_folder_in_its_place_is_an_error_without_litter() {
    let folder = Folder::new();
    fs::create_dir(folder.file()).unwrap();
    assert!(matches!(beat(&folder.file()), Err(HeartbeatError::Io { .. })));
    assert_eq!(folder.names(), ["bot.heartbeat"]);
    assert!(fs::read_dir(folder.file()).unwrap().next().is_none());
}

// HB-3: what is no file but the system's stays: `/dev/null` above all.
#[test]
fn devices_and_sockets_are_left_alone() {
    let folder = Folder::new();
    let _listener = std::os::unix::net::UnixListener::bind(folder.file()).unwrap();
    let null = folder.path().join("null");
    let is_there = Command::new("mknod").arg(&null).args(["c", "1", "3"]).status().unwrap().success();
    let devices = if is_there { vec![folder.file(), null] } else { vec![folder.file()] };
    for path in devices {
        let before = fs::symlink_metadata(&path).unwrap();
        let error = beat(&path).unwrap_err();
        assert!(error.to_string().contains("not to be replaced"), "{error}");
        assert_eq!(fs::symlink_metadata(&path).unwrap().ino(), before.ino());
    }
}

// HB-3: folders are made, odd names served, and other users may read what is written.
#[test]
fn any_name_will_do() {
    let folder = Folder::new();
    let long = "n".repeat(255);
    for name in ["a/b/c.heartbeat", "not\u{301} ascii \n 🫀", "-rf", ".hidden", "x.tmp", &long] {
        let path = folder.path().join(name);
        beat(&path).unwrap();
        assert!(Heartbeat::is_alive(&path, AGE), "{name:?}");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777 & !umask(), 0o644 & !umask());
    }
    let bytes: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff\xfe");
    beat(&folder.path().join(bytes)).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 7);
}

fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o022)
}

// HB-3: a process that changes its folder, as a daemon does, goes on writing the same file.
#[test]
fn a_relative_path_is_made_absolute() {
    let heartbeat = Heartbeat::builder().state_file("x/bot.heartbeat").interval(AGE).build().unwrap();
    assert_eq!(heartbeat.state_file().unwrap(), std::env::current_dir().unwrap().join("x/bot.heartbeat"));
}

/// Runs the ignored test `name` where `$PLACE` is a small file system of its own, that may be filled and locked.
/// Root needs a mount namespace for that, others a user namespace as well.
fn on_a_small_disk(name: &str) {
    let folder = Folder::new();
    let this = this_program(name);
    let script = r#"mount -t tmpfs -o size=64k none "$PLACE" && exec "$0" "$@""#;
    let flags = if rustix::process::geteuid().is_root() { "-m" } else { "-Urm" };
    let run = |program: &[&std::ffi::OsStr]| {
        let mut command = Command::new("unshare");
        command.args([flags, "sh", "-c", script]).args(program).env("PLACE", folder.path());
        command.output()
    };
    if !run(&["true".as_ref()]).is_ok_and(|output| output.status.success()) {
        eprintln!("NOT TESTED: {name} needs to mount a tmpfs in a namespace of its own, which is not allowed here");
        return;
    }
    let program: Vec<_> = std::iter::once(this.get_program()).chain(this.get_args()).collect();
    let output = run(&program).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A heartbeat in `$PLACE` and the number of beats that it missed.
fn in_place() -> (PathBuf, Heartbeat, Arc<AtomicUsize>) {
    let place = PathBuf::from(std::env::var_os("PLACE").unwrap());
    let missed = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&missed);
    let heartbeat = Heartbeat::builder()
        .state_file(place.join("bot.heartbeat"))
        .interval(Duration::from_millis(5))
        .on_missed_beat(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        })
        .build()
        .unwrap();
    (place, heartbeat, missed)
}

// HB-3, HB-4: a full disk costs beats and nothing else: the last one that was written stays, whole.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_survived() {
    on_a_small_disk("places::full_disk");
}

#[test]
#[ignore = "run by a_full_disk_is_survived, on a small disk"]
fn full_disk() {
    let (place, heartbeat, missed) = in_place();
    let path = place.join("bot.heartbeat");
    heartbeat.start().unwrap();
    let filler = place.join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    let fill = |file: &mut fs::File| while file.write_all(&[0; 512]).is_ok() {};
    fill(&mut file);
    // A beat under way may have taken a page and given it back.
    eventually(|| {
        fill(&mut file);
        missed.load(Ordering::SeqCst) >= 3
    });
    let state = Heartbeat::read_state(&path).unwrap();
    assert_eq!(state.status, Some(Status::Ready));

    fs::remove_file(&filler).unwrap();
    drop(file);
    eventually(|| Heartbeat::read_state(&path).unwrap().sequence > state.sequence);
    heartbeat.stop();
    assert_eq!(names(&place), ["bot.heartbeat"]);
}

// HB-4: a folder that cannot be written to costs beats, until it can.
#[cfg(target_os = "linux")]
#[test]
fn a_read_only_folder_is_survived() {
    if rustix::process::geteuid().is_root() {
        // Permissions do not hold root back.
        on_a_small_disk("places::read_only");
        return;
    }
    let folder = Folder::new();
    let output = this_program("places::read_only").env("PLACE", folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
#[ignore = "run by a_read_only_folder_is_survived, in a folder that it may lock"]
fn read_only() {
    let (place, heartbeat, missed) = in_place();
    let path = place.join("bot.heartbeat");
    let lock = |lock: bool| {
        if rustix::process::geteuid().is_root() {
            let options = if lock { "remount,ro" } else { "remount,rw" };
            assert!(Command::new("mount").args(["-o", options]).arg(&place).status().unwrap().success());
        } else {
            fs::set_permissions(&place, fs::Permissions::from_mode(if lock { 0o555 } else { 0o755 })).unwrap();
        }
    };
    lock(true);
    heartbeat.start().unwrap();
    assert!(heartbeat.is_running());
    eventually(|| missed.load(Ordering::SeqCst) >= 3);
    assert!(names(&place).is_empty());
    lock(false);
    eventually(|| Heartbeat::is_alive(&path, AGE));
    heartbeat.stop();
    assert_eq!(names(&place), ["bot.heartbeat"]);
}
