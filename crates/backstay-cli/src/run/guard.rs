//! What happens to the program when the supervisor itself is killed: a small process of its own holds the other end of
//! a pipe, and ends the program as the supervisor would have done, politely and then not.

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
    /// Whom to end.
    program: Option<Pid>,
    started: Moment,
    /// How many in a row ended at once.
    early: u32,
}

/// Between two looks whether everybody is gone.
const LOOK: Duration = Duration::from_millis(50);

/// A guard that lived for so long ended by something else than its own start.
const PROVEN: Duration = Duration::from_secs(10);
/// So many that ended sooner, one after another, are not started again.
const MOST_EARLY: u32 = 5;

/// Said before the end of a supervisor that leaves nothing to do.
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

    /// Whom to end from now on.
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
    // This very program, also where its file was replaced meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("backstay").arg("guard").arg("--grace").arg(grace.as_secs_f64().to_string()).env(FOLDER, folder);
    let mut child = family::spawn(command.stdin(Stdio::piped()).stdout(Stdio::null()))?;
    let pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    Ok((Pid::from_child(&child), pipe))
}

/// The process of its own.
pub(crate) fn guard(arguments: &Arguments) -> ExitCode {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        output::error("error: `backstay run` starts this command, nobody else does");
        return ExitCode::from(2);
    };
    // Otherwise the name is that of the link by which it was started.
    let _ = rustix::thread::set_name(c"backstay-guard");
    // Nobody sweeps the folder up while the program lives.
    let here = folder.clone();
    let _in_use = Task::start(move || private::in_use(&here));
    // Whoever tells all of us to end (systemd, for one) means the supervisor, and it will dismiss us.
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

/// Ends everybody: the group that we were told of, and whoever has the supervisor's socket in its environment. The last
/// start may have come to nobody's ears, and grandchildren may have left the group.
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
    // One that was being started is seen from its second look on.
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

/// What the environment of the program and of the command for freezes has, and nobody else's.
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
