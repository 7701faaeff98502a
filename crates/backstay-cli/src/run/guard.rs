//! What happens to the program when the supervisor itself is killed: a small process of its own holds the other end of
//! a pipe, and ends the program as the supervisor would have done: SIGTERM, then SIGKILL.

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
use super::{family, private};
use crate::output;
use crate::values::duration;

/// Ends the program of a supervisor that was killed
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[arg(long, value_parser = duration)]
    grace: Duration,
}

/// Our end of the pipe.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) pid: Pid,
    pipe: ChildStdin,
    grace: Duration,
    folder: PathBuf,
    /// The process group to end.
    program: Option<Pid>,
    started: Moment,
    /// Number of guards in a row that ended early.
    early: u32,
}

/// Polling interval until all processes are gone.
const LOOK: Duration = Duration::from_millis(50);

/// A guard that lived for this long did not fail at its start.
const PROVEN: Duration = Duration::from_secs(10);
/// Number of early ends in a row after which no other guard is started.
const MOST_EARLY: u32 = 5;

/// Tells the guard that the supervisor ends in order.
const FAREWELL: &str = "bye";

/// Where the guard learns of the private folder: a command line can be read by every user, an environment by this one.
const FOLDER: &str = "BACKSTAY_GUARD_FOLDER";

impl Guard {
    pub(crate) fn start(grace: Duration, folder: &Path, now: Moment) -> io::Result<Self> {
        let (pid, pipe) = spawn(grace, folder)?;
        Ok(Self { pid, pipe, grace, folder: folder.to_owned(), program: None, started: now, early: 0 })
    }

    /// Starts another in the place of one that ended.
    pub(crate) fn start_again(&mut self, now: Moment) -> io::Result<()> {
        self.early = if now.since(self.started) < PROVEN { self.early + 1 } else { 0 };
        if self.early > MOST_EARLY {
            return Err(io::Error::other("it ends again and again"));
        }
        (self.pid, self.pipe) = spawn(self.grace, &self.folder)?;
        self.started = now;
        self.watch(self.program);
        Ok(())
    }

    /// Sets the process group to end.
    pub(crate) fn watch(&mut self, program: Option<Pid>) {
        self.program = program;
        self.say(&program.map_or(0, |program| program.as_raw_nonzero().get()).to_string());
    }

    pub(crate) fn dismiss(&mut self) {
        self.say(FAREWELL);
    }

    fn say(&mut self, line: &str) {
        let _ = writeln!(self.pipe, "{line}");
    }
}

fn spawn(grace: Duration, folder: &Path) -> io::Result<(Pid, ChildStdin)> {
    // The running binary, also where its file was replaced meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("backstay").arg("guard").arg("--grace").arg(grace.as_secs_f64().to_string()).env(FOLDER, folder);
    let mut child = family::spawn(command.stdin(Stdio::piped()).stdout(Stdio::null()))?;
    let pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    Ok((Pid::from_child(&child), pipe))
}

/// The process of its own.
pub(crate) fn guard(arguments: &Arguments) -> ExitCode {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        output::error("error: this command is for `backstay run` alone");
        return ExitCode::from(2);
    };
    // Otherwise the name is that of the link by which it was started.
    let _ = rustix::thread::set_name(c"backstay-guard");
    // Another supervisor must not sweep the folder while the program lives.
    let here = folder.clone();
    let _in_use = Task::start(move || private::in_use(&here));
    // A signal to the whole group (systemd, for one) is for the supervisor, which dismisses the guard at its end.
    for signal in [SIGTERM, SIGINT, SIGHUP, SIGQUIT] {
        let _ = signal_hook::flag::register(signal, Arc::default());
    }
    let mut program = None;
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        if line == FAREWELL {
            return ExitCode::SUCCESS;
        }
        program = line.parse().ok().and_then(Pid::from_raw);
    }
    end(program, arguments.grace, &folder);
    private::remove(&folder);
    ExitCode::SUCCESS
}

/// Ends the process group, and all processes that have the supervisor's socket in their environment: the last start may
/// not have been reported yet, and descendants may have left the group.
fn end(group: Option<Pid>, grace: Duration, folder: &Path) {
    let signal = |everybody: &[Pid], signal| {
        if let Some(group) = group {
            let _ = kill_process_group(group, signal);
        }
        for process in everybody {
            let _ = kill_process(*process, signal);
        }
    };
    let mark = mark(folder);
    let clock = Clock::system();
    let until = clock.now() + grace;
    let mut told: Vec<Pid> = Vec::new();
    signal(&[], Signal::TERM);
    signal(&[], Signal::CONT);
    // A process that was being started is listed from the second look on.
    let mut alone = 0;
    while alone < 3 {
        let everybody = marked(&mark);
        let group_is_gone = group.is_none_or(|group| test_kill_process_group(group) == Err(Errno::SRCH));
        alone = if everybody.is_empty() && group_is_gone { alone + 1 } else { 0 };
        if clock.now() >= until {
            return signal(&everybody, Signal::KILL);
        }
        for process in everybody.into_iter().filter(|process| !told.contains(process)).collect::<Vec<_>>() {
            let is_in_group = group.is_some_and(|group| family::is_in(group, process));
            if !is_in_group {
                let _ = kill_process(process, Signal::TERM);
                let _ = kill_process(process, Signal::CONT);
            }
            told.push(process);
        }
        std::thread::park_timeout(LOOK);
    }
}

/// A variable that only the environment of the program and of the --on-freeze command has.
fn mark(folder: &Path) -> Vec<u8> {
    [b"NOTIFY_SOCKET=", private::socket(folder).as_os_str().as_bytes()].concat()
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
