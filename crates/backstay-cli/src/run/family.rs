//! The program and everything that it started: one process group, and orphans that came to us.

use std::fs;
use std::io;
use std::process::{Child, Command, Stdio};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, kill_process_group, test_kill_process_group, wait,
};

use super::news::Exit;

/// One start of the program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Family {
    pub(crate) program: Pid,
}

/// A process of ours that ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) pid: Pid,
    pub(crate) exit: Exit,
}

impl Family {
    /// Signals everybody.
    pub(crate) fn signal(self, signal: i32, known: &[Pid]) {
        let Some(signal) = Signal::from_named_raw(signal) else { return };
        let _ = kill_process_group(self.program, signal);
        for stray in strays(self.program, known) {
            let _ = kill_process(stray, signal);
        }
    }

    pub(crate) fn signal_program(self, signal: i32) {
        if let Some(signal) = Signal::from_named_raw(signal) {
            let _ = kill_process(self.program, signal);
        }
    }

    /// Whether nobody is left, once the program itself was fetched.
    pub(crate) fn is_gone(self, known: &[Pid]) -> bool {
        test_kill_process_group(self.program) == Err(Errno::SRCH) && strays(self.program, known).is_empty()
    }
}

/// Children of ours that are neither the program nor `known`: orphans of the family that left its group.
fn strays(program: Pid, known: &[Pid]) -> Vec<Pid> {
    let mut strays = Vec::new();
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        let pids = children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
        strays.extend(pids.filter(|pid| *pid != program && !known.contains(pid)));
    }
    strays
}

/// Starts a program at the head of its own group.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    use std::os::unix::process::CommandExt;

    command.process_group(0).spawn()
}

/// A background group that reads from a terminal would be stopped; everything else is passed through.
pub(crate) fn stdin() -> Stdio {
    use std::io::IsTerminal;
    if io::stdin().is_terminal() { Stdio::null() } else { Stdio::inherit() }
}

/// Fetches one process that ended, an orphan perhaps.
pub(crate) fn reap() -> Option<Ended> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                if let Some(exit) = exit(status) {
                    return Some(Ended { pid, exit });
                }
            }
            Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

fn exit(status: WaitStatus) -> Option<Exit> {
    let code = status.exit_status().map(Exit::Code);
    code.or_else(|| status.terminating_signal().map(Exit::Signal))
}

/// Orphans of the family come to us, as they do to process 1.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(getpid()))?)
}
