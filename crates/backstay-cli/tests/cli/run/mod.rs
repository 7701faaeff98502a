//! `backstay run` with real children: ones that exit, crash, freeze, do not listen, fork, flood, and speak.

mod families;
mod freezing;
mod hanging;
mod killed;
mod output;
mod restarts;
mod security;
mod speaking;
mod stopping;
mod terminal;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::{PATIENCE, backstay, by_shell, until};

/// A supervisor at work, and what it logs.
struct Supervised {
    home: TempDir,
    child: Child,
    log: Receiver<Value>,
}

/// Restarts come at once, so that no test waits.
const AT_ONCE: [&str; 2] = ["--backoff", "1ms"];

impl Supervised {
    /// Supervises a line of `sh`, in a home folder of its own.
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
                // What the program writes is in between.
                if let Ok(news @ Value::Object(_)) = serde_json::from_str(&line) {
                    let _ = sender.send(news);
                } else {
                    eprintln!("{line}");
                }
            }
        });
        Self { home, child, log }
    }

    /// The next piece of news of this kind.
    fn news(&self, event: &str) -> Value {
        loop {
            let news = self.log.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("nothing was said of {event:?}"));
            eprintln!("{news}");
            if news["event"] == event {
                return news;
            }
        }
    }

    /// All that is still said.
    fn rest(self) -> Vec<Value> {
        self.log.iter().collect()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Where the program finds what we put there, and leaves something for us.
    fn path(&self) -> &Path {
        self.home.path()
    }

    /// The process id that the program left in a file.
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
            // Its guard ends the program.
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

/// Whether a process is gone, or only waits to be fetched by somebody.
fn is_gone(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    test_kill_process(pid).is_err() || stat.contains(") Z ")
}
