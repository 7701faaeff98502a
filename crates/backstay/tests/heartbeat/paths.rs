//! Paths of state files, and files of other kinds at those paths.

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

// HB-3: a symbolic link is replaced, not followed.
#[test]
fn a_link_is_replaced() {
    let folder = Folder::new();
    let precious = folder.path().join("precious");
    fs::write(&precious, "do not touch").unwrap();
    symlink(&precious, folder.file()).unwrap();
    beat(&folder.file()).unwrap();
    assert_eq!(fs::read_to_string(&precious).unwrap(), "do not touch");
    assert!(fs::symlink_metadata(folder.file()).unwrap().is_file());
    assert_eq!(folder.names(), ["bot.heartbeat", "precious"]);
}

// HB-3, HB-4: a pipe is replaced. It does not block the beat and is not written to.
#[test]
fn a_pipe_is_replaced() {
    let folder = Folder::new();
    make_pipe(&folder.file());
    beat(&folder.file()).unwrap();
    assert!(folder.state().status.is_some());
    assert!(!fs::symlink_metadata(folder.file()).unwrap().file_type().is_fifo());
}

// HB-3: files with names that other programs use for temporary files are not touched.
#[test]
fn files_of_other_programs_are_not_touched() {
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

// HB-3, HB-4: a folder at the path is an error, and no temporary file is left.
#[test]
fn a_folder_is_an_error_and_leaves_no_temporary_file() {
    let folder = Folder::new();
    fs::create_dir(folder.file()).unwrap();
    assert!(matches!(beat(&folder.file()), Err(HeartbeatError::Write { .. })));
    assert_eq!(folder.names(), ["bot.heartbeat"]);
    assert!(fs::read_dir(folder.file()).unwrap().next().is_none());
}

// HB-3: devices such as `/dev/null`, and sockets, are not replaced.
#[test]
fn devices_and_sockets_are_not_replaced() {
    let folder = Folder::new();
    let _listener = std::os::unix::net::UnixListener::bind(folder.file()).unwrap();
    let null = folder.path().join("null");
    let is_there = Command::new("mknod").arg(&null).args(["c", "1", "3"]).status().unwrap().success();
    let devices = if is_there { vec![folder.file(), null] } else { vec![folder.file()] };
    for path in devices {
        let before = fs::symlink_metadata(&path).unwrap();
        let error = beat(&path).unwrap_err();
        assert!(error.to_string().contains("not replaced"), "{error}");
        assert_eq!(fs::symlink_metadata(&path).unwrap().ino(), before.ino());
    }
}

// HB-3: missing folders are created, unusual names work, and other users can read the file.
#[test]
fn any_file_name_works() {
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

// HB-3: a process that changes its folder, as a daemon does, still writes the same file.
#[test]
fn a_relative_path_is_made_absolute() {
    let heartbeat = Heartbeat::builder().state_file("x/bot.heartbeat").interval(AGE).build().unwrap();
    assert_eq!(heartbeat.state_file().unwrap(), std::env::current_dir().unwrap().join("x/bot.heartbeat"));
}

/// Runs the ignored test `name` with `$FOLDER` as a small file system that it may fill and make read-only.
///
/// Root needs a mount namespace for that, other users also a user namespace.
fn on_a_small_disk(name: &str) {
    let folder = Folder::new();
    let this = this_program(name);
    let script = r#"mount -t tmpfs -o size=64k none "$FOLDER" && exec "$0" "$@""#;
    let flags = if rustix::process::geteuid().is_root() { "-m" } else { "-Urm" };
    let run = |program: &[&std::ffi::OsStr]| {
        let mut command = Command::new("unshare");
        command.args([flags, "sh", "-c", script]).args(program).env("FOLDER", folder.path());
        command.output()
    };
    if !run(&["true".as_ref()]).is_ok_and(|output| output.status.success()) {
        eprintln!("NOT TESTED: {name} has to mount a tmpfs in a new namespace, which is not allowed here");
        return;
    }
    let program: Vec<_> = std::iter::once(this.get_program()).chain(this.get_args()).collect();
    let output = run(&program).unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{stdout}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Returns `$FOLDER`, a heartbeat in it, and the number of beats that it has missed.
fn in_folder() -> (PathBuf, Heartbeat, Arc<AtomicUsize>) {
    let folder = PathBuf::from(std::env::var_os("FOLDER").unwrap());
    let missed = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&missed);
    let heartbeat = Heartbeat::builder()
        .state_file(folder.join("bot.heartbeat"))
        .interval(Duration::from_millis(5))
        .on_missed_beat(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        })
        .build()
        .unwrap();
    (folder, heartbeat, missed)
}

// HB-3, HB-4: on a full disk beats are missed and the last written one stays complete.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_only_misses_beats() {
    on_a_small_disk("paths::full_disk");
}

#[test]
#[ignore = "run by a_full_disk_only_misses_beats, on a small disk"]
fn full_disk() {
    let (folder, heartbeat, missed) = in_folder();
    let path = folder.join("bot.heartbeat");
    heartbeat.start().unwrap();
    let filler = folder.join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    let fill = |file: &mut fs::File| while file.write_all(&[0; 512]).is_ok() {};
    fill(&mut file);
    // A beat in progress may have allocated a page and freed it.
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
    assert_eq!(names(&folder), ["bot.heartbeat"]);
}

// HB-4: in a read-only folder beats are missed until it becomes writable.
#[cfg(target_os = "linux")]
#[test]
fn a_read_only_folder_only_misses_beats() {
    if rustix::process::geteuid().is_root() {
        // Root ignores permissions.
        on_a_small_disk("paths::read_only");
        return;
    }
    let folder = Folder::new();
    let output = this_program("paths::read_only").env("FOLDER", folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
#[ignore = "run by a_read_only_folder_only_misses_beats, in a folder that it may make read-only"]
fn read_only() {
    let (folder, heartbeat, missed) = in_folder();
    let path = folder.join("bot.heartbeat");
    let set_read_only = |read_only: bool| {
        if rustix::process::geteuid().is_root() {
            let options = if read_only { "remount,ro" } else { "remount,rw" };
            assert!(Command::new("mount").args(["-o", options]).arg(&folder).status().unwrap().success());
        } else {
            fs::set_permissions(&folder, fs::Permissions::from_mode(if read_only { 0o555 } else { 0o755 })).unwrap();
        }
    };
    set_read_only(true);
    heartbeat.start().unwrap();
    assert!(heartbeat.is_running());
    eventually(|| missed.load(Ordering::SeqCst) >= 3);
    assert!(names(&folder).is_empty());
    set_read_only(false);
    eventually(|| Heartbeat::is_alive(&path, AGE));
    heartbeat.stop();
    assert_eq!(names(&folder), ["bot.heartbeat"]);
}
