//! The guard: a small process that holds the other end of a pipe to the supervisor. If the supervisor is killed, the guard
//! ends the program as the supervisor would have done: SIGTERM, then SIGKILL.

use std::io::{self, BufRead, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use backstay::clock::{Clock, Moment};
use clap::Args;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use super::background::Task;
use super::{private_folder, process_tree};
use crate::output;
use crate::values::duration;

/// Ends the program of a supervisor that was killed
#[derive(Debug, Args)]
pub(crate) struct GuardArguments {
    #[arg(long, value_parser = duration)]
    grace: Duration,
}

/// The supervisor's end of the pipe, and the guard's process id.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) pid: Pid,
    pipe: ChildStdin,
    grace: Duration,
    folder: PathBuf,
    /// The process group to end.
    program: Option<Pid>,
    started: Moment,
    /// Number of guards in a row that did not reach the minimum uptime.
    early: u32,
}

/// Polling interval until all processes are gone.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Minimum uptime for a guard's start to count as successful.
const MIN_UPTIME: Duration = Duration::from_secs(10);
/// Number of early ends in a row after which no new guard is started.
const MOST_EARLY: u32 = 5;

/// The line that tells the guard that the supervisor ends in order.
const DISMISS: &str = "bye";

/// The variable with the path of the private folder. Every user can read a command line; only this user can read an
/// environment.
const FOLDER: &str = "BACKSTAY_GUARD_FOLDER";

impl Guard {
    pub(crate) fn start(grace: Duration, folder: &Path, now: Moment) -> io::Result<Self> {
        let (pid, pipe) = spawn(grace, folder)?;
        Ok(Self { pid, pipe, grace, folder: folder.to_owned(), program: None, started: now, early: 0 })
    }

    /// Starts a new guard after the last one ended.
    pub(crate) fn start_again(&mut self, now: Moment) -> io::Result<()> {
        self.early = if now.since(self.started) < MIN_UPTIME { self.early + 1 } else { 0 };
        if self.early > MOST_EARLY {
            return Err(io::Error::other("it keeps ending early"));
        }
        (self.pid, self.pipe) = spawn(self.grace, &self.folder)?;
        self.started = now;
        self.watch(self.program);
        Ok(())
    }

    /// Sets the process group to end.
    pub(crate) fn watch(&mut self, program: Option<Pid>) {
        self.program = program;
        self.send(&program.map_or(0, |program| program.as_raw_nonzero().get()).to_string());
    }

    pub(crate) fn dismiss(&mut self) {
        self.send(DISMISS);
    }

    fn send(&mut self, line: &str) {
        let _ = writeln!(self.pipe, "{line}");
    }
}

fn spawn(grace: Duration, folder: &Path) -> io::Result<(Pid, ChildStdin)> {
    // The running binary, even if its file was replaced.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("backstay").arg("guard").arg("--grace").arg(grace.as_secs_f64().to_string()).env(FOLDER, folder);
    let mut child = process_tree::spawn(command.stdin(Stdio::piped()).stdout(Stdio::null()))?;
    let pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    Ok((Pid::from_child(&child), pipe))
}

/// Runs the guard process.
pub(crate) fn guard(arguments: &GuardArguments) -> ExitCode {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        output::error("error: this command is for `backstay run` alone");
        return ExitCode::from(2);
    };
    // Without this, the process would be listed as "exe", after the path that it was started by.
    let _ = rustix::thread::set_name(c"backstay-guard");
    // Another supervisor must not sweep the folder while the program lives.
    let here = folder.clone();
    let _in_use = Task::start(move || private_folder::in_use(&here));
    // A signal to all processes of a service (as from systemd) must not end the guard: the supervisor dismisses it.
    for signal in [SIGTERM, SIGINT, SIGHUP, SIGQUIT] {
        let _ = signal_hook::flag::register(signal, Arc::default());
    }
    let mut program = None;
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        if line == DISMISS {
            return ExitCode::SUCCESS;
        }
        program = line.parse().ok().and_then(Pid::from_raw);
    }
    end(program, arguments.grace, &folder);
    private_folder::remove(&folder);
    ExitCode::SUCCESS
}

/// Ends the process group, and all processes that have the supervisor's socket in their environment: the guard may not
/// know the last start yet, and descendants may have left the group.
fn end(group: Option<Pid>, grace: Duration, folder: &Path) {
    let signal = |processes: &[Pid], signal| {
        if let Some(group) = group {
            let _ = kill_process_group(group, signal);
        }
        for process in processes {
            let _ = kill_process(*process, signal);
        }
    };
    let mark = mark(folder);
    let clock = Clock::system();
    let until = clock.now() + grace;
    let mut signalled: Vec<Pid> = Vec::new();
    signal(&[], Signal::TERM);
    signal(&[], Signal::CONT);
    // A process that is just being started may be missing from the first list.
    let mut empty_polls = 0;
    while empty_polls < 3 {
        let processes = marked(&mark);
        let group_is_gone = group.is_none_or(|group| test_kill_process_group(group) == Err(Errno::SRCH));
        empty_polls = if processes.is_empty() && group_is_gone { empty_polls + 1 } else { 0 };
        if clock.now() >= until {
            return signal(&processes, Signal::KILL);
        }
        for process in processes.into_iter().filter(|process| !signalled.contains(process)).collect::<Vec<_>>() {
            let is_in_group = group.is_some_and(|group| process_tree::is_in(group, process));
            if !is_in_group {
                let _ = kill_process(process, Signal::TERM);
                let _ = kill_process(process, Signal::CONT);
            }
            signalled.push(process);
        }
        std::thread::park_timeout(POLL_INTERVAL);
    }
}

/// Returns a variable that is only in the environment of the program and of the --on-freeze command.
fn mark(folder: &Path) -> Vec<u8> {
    [b"NOTIFY_SOCKET=", private_folder::socket(folder).as_os_str().as_bytes()].concat()
}

fn marked(mark: &[u8]) -> Vec<Pid> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let environment = || std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if let Some(pid) = pid
            && environment().split(|byte| *byte == 0).any(|variable| variable == mark)
        {
            found.push(pid);
        }
    }
    found
}
