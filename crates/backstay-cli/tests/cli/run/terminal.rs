//! `backstay run` on a terminal: the foreground process, job control, and a terminal that is closed.

use std::fs::File;
use std::io::{Read, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use rustix::termios::{Winsize, tcsetwinsize};

use super::is_gone;
use crate::until;

/// A session on a new terminal: `python3 -c pty.fork` makes one, as a terminal emulator does.
struct Session {
    home: tempfile::TempDir,
    child: std::process::Child,
    ours: File,
    seen: String,
}

/// Opens a terminal as standard input, output and error of a new session, and runs the arguments in it.
const SESSION: &str = "
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])";

impl Session {
    /// Returns `None`, with a message, without python3.
    fn start(arguments: &[&str]) -> Option<Self> {
        let home = tempfile::tempdir().unwrap();
        let (ours, theirs) = crate::terminal();
        let copy = || std::process::Stdio::from(theirs.try_clone().unwrap());
        let mut command = std::process::Command::new("python3");
        command.args(["-c", SESSION]).args(arguments);
        command.current_dir(home.path()).env("HOME", home.path()).env("BACKSTAY_DIR", home.path().join("run"));
        command.env("TERM", "dumb").env("TMPDIR", home.path()).env("PS1", "$ ").env_remove("NOTIFY_SOCKET");
        command.stdin(copy()).stdout(copy()).stderr(copy());
        let Ok(child) = command.spawn() else {
            eprintln!("passed over: no python3");
            return None;
        };
        Some(Self { home, child, ours, seen: String::new() })
    }

    /// Runs `backstay run` as the leader of the session.
    fn run(options: &[&str], program: &[&str]) -> Option<Self> {
        let backstay = env!("CARGO_BIN_EXE_backstay");
        Self::start(&[&[backstay, "run", "--name", "it"], options, &["--"], program].concat())
    }

    /// Waits for a text; returns the output up to its end.
    fn sees(&mut self, what: &str) -> String {
        until(what, || {
            // The text may be in the output that was read already.
            if self.seen.contains(what) {
                return true;
            }
            // The poll is limited, so that a missing text fails the test.
            let mut ready = [PollFd::new(&self.ours, PollFlags::IN)];
            if poll(&mut ready, Some(&Timespec { tv_sec: 1, tv_nsec: 0 })).unwrap() == 0 {
                return false;
            }
            let mut bytes = [0; 4096];
            let read = self.ours.read(&mut bytes).unwrap();
            self.seen += &String::from_utf8_lossy(&bytes[..read]);
            eprint!("{}", String::from_utf8_lossy(&bytes[..read]));
            self.seen.contains(what)
        });
        let at = self.seen.find(what).unwrap() + what.len();
        self.seen.drain(..at).collect()
    }

    fn press(&mut self, keys: &[u8]) {
        self.ours.write_all(keys).unwrap();
    }

    fn resize(&self, columns: u16) {
        tcsetwinsize(&self.ours, Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    }

    fn state(&self) -> serde_json::Value {
        let text = std::fs::read_to_string(self.home.path().join("run/it.heartbeat")).unwrap_or_default();
        serde_json::from_str::<serde_json::Value>(&text).unwrap_or_default()["metadata"]["state"].clone()
    }

    fn code(&mut self) -> Option<i32> {
        super::end_of(&mut self.child).code()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const ASKS: [&str; 3] = ["sh", "-c", "echo $$ > pid; read answer < /dev/tty; echo answer: $answer; exit 9"];

// CL-5: a program that reads from the terminal in the background is stopped. This is logged, and it ends with the terminal.
#[test]
fn a_program_stopped_by_the_terminal_is_logged_and_ends_with_it() {
    let Some(mut it) = Session::run(&[], &ASKS) else { return };
    it.sees("stopped by SIGTTIN: it asks for the terminal, see --foreground");
    until("status shows it", || it.state() == "suspended");
    let pid = std::fs::read_to_string(it.home.path().join("pid")).unwrap();
    let program = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    // Closes the terminal.
    let (ours, _) = crate::terminal();
    drop(std::mem::replace(&mut it.ours, ours));
    assert_eq!(it.code(), Some(129));
    assert!(is_gone(program));
}

#[test]
fn the_foreground_has_the_terminal() {
    let Some(mut it) = Session::run(&["--foreground", "--restart", "never"], &ASKS) else { return };
    it.sees("started, process");
    it.press(b"42\n");
    it.sees("answer: 42");
    it.sees("exit code 9");
    assert_eq!(it.code(), Some(9));
}

// CL-5: Ctrl-C reaches the program, and a program that it ends is not restarted.
#[test]
fn a_key_ends_a_program_in_the_foreground() {
    let program = ["sh", "-c", "echo ready; while :; do sleep 0.05; done"];
    let Some(mut it) = Session::run(&["--foreground", "--restart", "always"], &program) else { return };
    it.sees("ready");
    it.press(&[3]);
    it.sees("SIGINT");
    assert_eq!(it.code(), Some(130));
}

// Between two starts, the supervisor has the terminal.
#[test]
fn a_key_ends_the_supervisor_between_two_starts() {
    let options = ["--foreground", "--backoff", "1h", "--max-backoff", "1h"];
    let Some(mut it) = Session::run(&options, &["sh", "-c", "exit 5"]) else { return };
    it.sees("restarting in");
    it.press(&[3]);
    assert_eq!(it.code(), Some(5));
}

// A shell with job control: Ctrl-Z stops both, `fg` continues both, and the program has the terminal again.
#[test]
fn job_control_lends_the_terminal_again() {
    let Some(mut it) = Session::start(&["bash", "--norc", "--noprofile", "-i"]) else { return };
    let program = "read a < /dev/tty; echo first $a; read b < /dev/tty; echo second $b";
    let run = format!("{} run --name it --foreground -- sh -c '{program}'\n", env!("CARGO_BIN_EXE_backstay"));
    it.press(run.as_bytes());
    it.sees("started, process");
    it.press(b"1\n");
    it.sees("first 1");
    it.press(&[26]);
    it.sees("Stopped");
    it.press(b"echo shell $((40 + 2))\n");
    it.sees("shell 42");
    it.press(b"fg\n");
    it.press(b"2\n");
    it.sees("second 2");
    it.sees("exit code 0");
    it.press(b"exit 7\n");
    assert_eq!(it.code(), Some(7));
}

// CL-5: the modes of the terminal are restored before the end of the program is logged.
#[test]
fn the_modes_of_the_terminal_are_restored_before_the_end_is_logged() {
    // Without output processing, a newline does not return to the first column.
    let program = ["sh", "-c", "stty -opost -echo; exit 9"];
    let Some(mut it) = Session::run(&["--foreground", "--restart", "never"], &program) else { return };
    it.sees("exit code 9\r\n");
    assert_eq!(it.code(), Some(9));
}

/// Renders a text as a terminal of this width shows it.
fn screen(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![Vec::new()];
    let mut column = 0;
    for c in text.chars() {
        match c {
            '\r' => column = 0,
            '\n' => lines.push(Vec::new()),
            c => {
                // A full line wraps only at the next character.
                if column == columns {
                    lines.push(Vec::new());
                    column = 0;
                }
                let line = lines.last_mut().unwrap();
                line.resize(line.len().max(column + 1), ' ');
                line[column] = c;
                column += 1;
            }
        }
    }
    lines.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned()).collect()
}

// CL-7: the supervisor cannot see what the program writes to an inherited terminal.
#[test]
fn log_lines_begin_on_an_empty_line_of_the_terminal() {
    let run = "stty cols 200; exec \"$0\" run --name it --restart never -- sh -c 'printf \"no end\"; exit 9'";
    let backstay = env!("CARGO_BIN_EXE_backstay");
    let session = ["env", "TERM=xterm", "NO_COLOR=1", "sh", "-c", run, backstay];
    let Some(mut it) = Session::start(&session) else { return };
    let mut text = String::new();
    for what in ["started, process", "exit code 9\r\n"] {
        text += &it.sees(what);
    }
    let lines = screen(&text, 200);
    let [shown @ .., last] = &lines[..] else { panic!("{text:?}") };
    let (log, output): (Vec<&String>, Vec<&String>) = shown.iter().partition(|line| line.starts_with("backstay: it: "));
    assert_eq!((output, last.as_str()), (vec![&"no end".to_owned()], ""), "{lines:#?}");
    assert!(log.len() >= 3, "{lines:#?}");
}

#[test]
fn foreground_without_a_terminal_is_an_error() {
    let home = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new("setsid");
    command.args(["-w", env!("CARGO_BIN_EXE_backstay"), "run", "--foreground", "--", "true"]);
    let output = command.current_dir(home.path()).env("BACKSTAY_DIR", home.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    let said = crate::stderr(&output);
    assert!(said.contains("--foreground needs a terminal"), "{said}");
}

#[test]
fn a_stop_and_a_continuation_are_logged() {
    let it = super::Supervised::sh(&[], "echo $$ > pid; while :; do sleep 0.05; done");
    let pid = it.pid("pid");
    rustix::process::kill_process(pid, Signal::STOP).unwrap();
    assert_eq!(it.log_event("suspended")["signal"], "SIGSTOP");
    rustix::process::kill_process(pid, Signal::CONT).unwrap();
    it.log_event("continued");
    it.signal(Signal::TERM);
}

// CL-7: the pseudo-terminal of --tty follows the size of the supervisor's terminal.
#[test]
fn a_pseudo_terminal_follows_the_size_of_the_terminal() {
    let program = "import os, signal, time
def show(*_): print('columns', os.get_terminal_size(1).columns, 'of', os.get_terminal_size(2).columns)
signal.signal(signal.SIGWINCH, show)
show()
while True: time.sleep(0.05)";
    let Some(mut it) = Session::run(&["--tty"], &["python3", "-c", program]) else { return };
    it.sees("columns ");
    it.resize(123);
    it.sees("columns 123 of 123");
    it.press(&[3]);
    assert_eq!(it.code(), Some(130));
}
