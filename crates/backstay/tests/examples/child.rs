//! An example that runs, and what it has said.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// No example says nothing for so long, on a machine however busy.
const SILENCE: Duration = Duration::from_secs(60);

pub(crate) struct Child {
    process: std::process::Child,
    lines: Receiver<String>,
    pub(crate) said: Vec<String>,
}

/// The example, not yet started. Examples are built with the tests, into a folder beside theirs.
pub(crate) fn example(name: &str) -> Command {
    let folder: PathBuf = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples");
    let binary = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(binary.exists(), "{} is missing: cargo build --examples", binary.display());
    let mut command = Command::new(binary);
    for variable in ["BACKSTAY_CONFIG", "NO_COLOR"] {
        command.env_remove(variable);
    }
    command
}

impl Child {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (say, lines) = channel();
        let out = process.stdout.take().unwrap();
        let err = process.stderr.take().unwrap();
        let readers: [Box<dyn Read + Send>; 2] = [Box::new(out), Box::new(err)];
        for reader in readers {
            let say = say.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(reader).lines().map_while(Result::ok) {
                    if say.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Self { process, lines, said: Vec::new() }
    }

    /// Waits for a line with `text` in it.
    pub(crate) fn says(&mut self, text: &str) {
        loop {
            match self.lines.recv_timeout(SILENCE) {
                Ok(line) => {
                    let found = line.contains(text);
                    self.said.push(line);
                    if found {
                        return;
                    }
                }
                Err(why) => panic!("never said {text:?} ({why}), but:\n{}", self.said.join("\n")),
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        loop {
            match self.lines.recv_timeout(SILENCE) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Disconnected) => return self.process.wait().unwrap(),
                Err(RecvTimeoutError::Timeout) => panic!("does not end, and said:\n{}", self.said.join("\n")),
            }
        }
    }

    /// Whether it said all of these, in this order, others between them.
    pub(crate) fn said_in_order(&self, texts: &[&str]) {
        let mut lines = self.said.iter();
        for text in texts {
            assert!(lines.any(|line| line.contains(text)), "no {text:?} in its place in:\n{}", self.said.join("\n"));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
