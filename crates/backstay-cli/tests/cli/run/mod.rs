//! `backstay run` with real children that exit, crash, freeze, ignore signals, fork, flood and send notifications.

mod freezing;
mod hanging;
mod killed;
mod notifications;
mod output;
mod process_trees;
mod restarts;
mod security;
mod stopping;
mod terminal;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::{TIMEOUT, backstay, by_shell, until};

/// A running supervisor and its log.
struct Supervised {
    home: TempDir,
    child: Child,
    log: Receiver<Value>,
}

/// Restarts without a backoff, so that no test waits.
const AT_ONCE: [&str; 2] = ["--backoff", "1ms"];

impl Supervised {
    /// Supervises a script of `sh`, in a home folder of its own.
    fn sh(options: &[&str], script: &str) -> Self {
        Self::start(options, &["sh", "-c", script], |_| {})
    }

    fn start(options: &[&str], command: &[&str], prepare: impl FnOnce(&mut std::process::Command)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut backstay = backstay(home.path());
        backstay
            .args(["run", "--log-format", "json"])
            .args(if options.contains(&"--name") { &[][..] } else { &["--name", "it"] })
            .args(options)
            .arg("--")
            .args(command)
            .env("TMPDIR", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        prepare(&mut backstay);
        let mut child = backstay.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, log) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // Output of the program comes between the log lines.
                if let Ok(news @ Value::Object(_)) = serde_json::from_str(&line) {
                    let _ = sender.send(news);
                } else {
                    eprintln!("{line}");
                }
            }
        });
        Self { home, child, log }
    }

    /// Waits for the next log event of this kind.
    fn log_event(&self, kind: &str) -> Value {
        loop {
            let event = self.log.recv_timeout(TIMEOUT).unwrap_or_else(|_| panic!("no log event {kind:?}"));
            eprintln!("{event}");
            if event["event"] == kind {
                return event;
            }
        }
    }

    /// The rest of the log, after the end of the supervisor.
    fn rest(self) -> Vec<Value> {
        self.log.iter().collect()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The folder in which the test and the program exchange files.
    fn path(&self) -> &Path {
        self.home.path()
    }

    /// Reads the process id that the program wrote into a file.
    fn pid(&self, file: &str) -> Pid {
        let path = self.path().join(file);
        let mut pid = None;
        until(file, || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            pid = text.strip_suffix('\n').and_then(|text| Pid::from_raw(text.parse().ok()?));
            pid.is_some()
        });
        pid.unwrap()
    }

    fn wait(&mut self) -> ExitStatus {
        end_of(&mut self.child)
    }

    fn code(&mut self) -> i32 {
        self.wait().code().unwrap()
    }
}

fn end_of(supervisor: &mut Child) -> ExitStatus {
    let mut status = None;
    until("the supervisor ends", || {
        status = supervisor.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            // The guard ends the program.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// sd_notify(3) in the shell's reach.
const NOTIFY: &str = r#"
import os, signal, socket, sys, time
address = os.environ["NOTIFY_SOCKET"]
def say(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(text.encode(), address)
"#;

fn python(options: &[&str], script: &str) -> Option<Supervised> {
    if !std::process::Command::new("python3").arg("-V").output().is_ok_and(|output| output.status.success()) {
        eprintln!("passed over: no python3");
        return None;
    }
    Some(Supervised::start(options, &["python3", "-c", &format!("{NOTIFY}{script}")], |_| {}))
}

/// Whether a process is gone, or is a zombie.
fn is_gone(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    test_kill_process(pid).is_err() || stat.contains(") Z ")
}
