//! What happens to the program when the supervisor itself is killed: a small process of its own holds the other end of
//! a pipe, and ends the program as the supervisor would have done, politely and then not.

use std::io::{self, BufRead, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use backstay::clock::Clock;
use clap::Args;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use super::{family, private};
use crate::values::duration;

/// Ends the program of a supervisor that was killed
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[arg(long, value_parser = duration)]
    grace: Duration,
    #[arg(long)]
    folder: PathBuf,
}

/// Our end of the pipe.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) pid: Pid,
    pipe: ChildStdin,
}

/// Between two looks whether everybody is gone.
const LOOK: Duration = Duration::from_millis(50);

/// Said before the end of a supervisor that leaves nothing to do.
const FAREWELL: &str = "bye";

impl Guard {
    pub(crate) fn start(grace: Duration, folder: &Path) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("guard").arg("--grace").arg(grace.as_secs_f64().to_string()).arg("--folder").arg(folder);
        let mut child = family::spawn(command.stdin(Stdio::piped()).stdout(Stdio::null()))?;
        let pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self { pid: Pid::from_child(&child), pipe })
    }

    /// Whom to end from now on.
    pub(crate) fn watch(&mut self, program: Option<Pid>) {
        self.say(&program.map_or(0, |program| program.as_raw_nonzero().get()).to_string());
    }

    pub(crate) fn dismiss(&mut self) {
        self.say(FAREWELL);
    }

    fn say(&mut self, line: &str) {
        let _ = writeln!(self.pipe, "{line}");
    }
}

/// The process of its own.
pub(crate) fn guard(arguments: &Arguments) -> ExitCode {
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
    end(program, arguments);
    private::remove(&arguments.folder);
    ExitCode::SUCCESS
}

/// Ends everybody: the group that we were told of, and whoever has the supervisor's socket in its environment. The last
/// start may have come to nobody's ears, and grandchildren may have left the group.
fn end(group: Option<Pid>, arguments: &Arguments) {
    let signal = |everybody: &[Pid], signal| {
        if let Some(group) = group {
            let _ = kill_process_group(group, signal);
        }
        for process in everybody {
            let _ = kill_process(*process, signal);
        }
    };
    let mark = mark(&arguments.folder);
    let clock = Clock::system();
    let until = clock.now() + arguments.grace;
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
