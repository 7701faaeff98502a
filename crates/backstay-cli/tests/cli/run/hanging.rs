//! File systems that hang: a FUSE server that does not answer, like a lost network.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;

use super::Supervised;
use crate::until;

/// A folder in which every call hangs, until this is dropped.
struct Hanging {
    server: Child,
    input: Option<ChildStdin>,
    folder: TempDir,
}

impl Hanging {
    /// Returns `None` if this user cannot mount.
    fn mount() -> Option<Self> {
        let script = "
import ctypes, os, sys
kernel, folder, fuse = ctypes.CDLL(None), sys.argv[1].encode(), os.open('/dev/fuse', os.O_RDWR)
options = f'fd={fuse},rootmode=40000,user_id=0,group_id=0,allow_other'.encode()
if kernel.mount(b'silent', folder, b'fuse', 0, options) == 0:
    print('mounted', flush=True)
    sys.stdin.read()
    # Ends those that wait for an answer.
    os.close(fuse)
    kernel.umount2(folder, 2)";
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("python3");
        command.args(["-c", script]).arg(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = command.stderr(Stdio::null()).spawn().ok()?;
        let input = server.stdin.take();
        let mut line = String::new();
        BufReader::new(server.stdout.take()?).read_line(&mut line).ok()?;
        let hanging = Self { server, input, folder };
        if line.is_empty() {
            eprintln!("passed over: no FUSE for this user, or no python3");
            return None;
        }
        Some(hanging)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("x")
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.server.wait();
    }
}

// CL-12: the supervisor runs without the folders that hang.
#[test]
fn a_program_is_supervised_although_the_supervisors_folders_hang() {
    let Some(hanging) = Hanging::mount() else { return };
    for (variable, is_told) in [("BACKSTAY_DIR", true), ("TMPDIR", false)] {
        let mut it =
            Supervised::start(&["--restart", "never"], &["sh", "-c", "[ -S $NOTIFY_SOCKET ] && exit 3"], |it| {
                it.env(variable, hanging.path());
            });
        if is_told {
            let trouble = it.log_event("trouble")["message"].as_str().unwrap().to_owned();
            assert!(trouble.contains("no heartbeat: ") && trouble.contains("no answer within"), "{trouble}");
        }
        assert_eq!(it.code(), 3, "{variable}");
    }
}

// CL-12: the configuration may contain settings that matter.
#[test]
fn a_configuration_that_hangs_is_an_error() {
    let Some(hanging) = Hanging::mount() else { return };
    let mut it = Supervised::start(&[], &["true"], |it| {
        it.env("HOME", hanging.path());
    });
    assert_eq!(it.code(), 125);
}

// CL-12, HB-6: a heartbeat that cannot be read does not count.
#[test]
fn a_heartbeat_that_hangs_hides_no_freeze() {
    let Some(hanging) = Hanging::mount() else { return };
    let file = hanging.path();
    let options = ["--heartbeat", file.to_str().unwrap(), "--health", "heartbeat", "--timeout", "100ms"];
    let options = [&options[..], &["--restart", "on-failure", "--backoff", "1ms", "--grace", "1h"]].concat();
    let mut it = Supervised::start(&options, &["sleep", "1000"], |_| {});
    for _ in 0..2 {
        assert_eq!(it.log_event("froze")["source"], "heartbeat");
        it.log_event("exited");
    }
    it.log_event("started");
    it.signal(Signal::TERM);
    assert_eq!(it.code(), 143);
}

// CL-12: the supervisor's thread does not wait for a read.
#[test]
fn a_stop_request_works_while_a_heartbeat_hangs() {
    let Some(hanging) = Hanging::mount() else { return };
    let file = hanging.path();
    // The read has a limit of 10 s, which begins at once.
    let options = ["--heartbeat", file.to_str().unwrap(), "--health", "heartbeat", "--timeout", "1h"];
    let options = [&options[..], &["--start-timeout", "50ms"]].concat();
    let mut it = Supervised::start(&options, &["sleep", "1000"], |_| {});
    it.log_event("started");
    let tasks = format!("/proc/{}/task", it.child.id());
    let looks = || {
        let tasks = std::fs::read_dir(&tasks).unwrap().flatten().map(|task| task.path().join("comm"));
        tasks.filter(|comm| std::fs::read_to_string(comm).is_ok_and(|name| name == "backstay-files\n")).count()
    };
    until("a read is pending", || looks() == 1);
    it.signal(Signal::TERM);
    assert_eq!(it.code(), 143);
    assert!(it.rest().iter().all(|event| event["event"] != "froze"));
}
