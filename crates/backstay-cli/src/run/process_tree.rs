//! The program's process tree: its process group, and orphans that the supervisor adopted.

use std::fs;
use std::io;
use std::process::{Child, Command, Stdio};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, getppid, kill_process, kill_process_group, test_kill_process_group,
    wait,
};

use super::log_event::Exit;
use super::proc_fs;

/// The process tree of one start of the program.
#[derive(Debug)]
pub(crate) struct ProcessTree {
    program: Pid,
    /// The program was reaped: the kernel may reuse its id.
    reaped: bool,
    /// The last signal to end that was sent to the tree.
    ending: Option<Signal>,
    /// The processes outside the group that it was sent to.
    signalled: Vec<Pid>,
}

/// A change of state of a child.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Ended(Exit),
    /// Stopped by this signal, until SIGCONT.
    Stopped(i32),
    Continued,
}

impl ProcessTree {
    pub(crate) fn of(program: Pid) -> Self {
        Self { program, reaped: false, ending: None, signalled: Vec::new() }
    }

    /// The user id of the program, while it runs.
    pub(crate) fn user(&self) -> Option<u32> {
        (!self.reaped).then(|| proc_fs::user(self.program)).flatten()
    }

    /// The process group that the program leads.
    pub(crate) fn group(&self) -> Pid {
        self.program
    }

    /// Whether this is the program itself.
    pub(crate) fn is_led_by(&self, pid: Pid) -> bool {
        !self.reaped && self.program == pid
    }

    pub(crate) fn reaped(&mut self) {
        self.reaped = true;
    }

    /// Signals the whole tree.
    pub(crate) fn signal(&mut self, signal: i32, known: &[Pid]) {
        let Some(signal) = Signal::from_named_raw(signal) else { return };
        let _ = kill_process_group(self.program, signal);
        let outside = self.outside(known);
        for process in &outside {
            let _ = kill_process(*process, signal);
        }
        if !matches!(signal, Signal::STOP | Signal::CONT) {
            (self.ending, self.signalled) = (Some(signal), outside);
        }
    }

    /// Sends the last signal to end to orphans that were adopted since. A descendant that left the group cannot be listed
    /// until its parent ends. SIGKILL is repeated until no process is left.
    pub(crate) fn signal_orphans(&mut self, known: &[Pid]) {
        let Some(signal) = self.ending else { return };
        if signal == Signal::KILL {
            return self.signal(signal.as_raw(), known);
        }
        let outside = self.outside(known);
        for process in outside.iter().filter(|process| !self.signalled.contains(process)) {
            let _ = kill_process(*process, signal);
            let _ = kill_process(*process, Signal::CONT);
        }
        self.signalled = outside;
    }

    pub(crate) fn signal_program(&self, signal: i32) {
        if let Some(signal) = Signal::from_named_raw(signal)
            && !self.reaped
        {
            let _ = kill_process(self.program, signal);
        }
    }

    /// Whether no process is left.
    pub(crate) fn is_gone(&self, known: &[Pid]) -> bool {
        self.reaped
            && test_kill_process_group(self.program) == Err(Errno::SRCH)
            && orphans(self.program, known).is_empty()
    }

    /// Returns the processes that a signal to the group does not reach: orphans that left the group, and the program itself
    /// if it left the group.
    fn outside(&self, known: &[Pid]) -> Vec<Pid> {
        let program = (!self.reaped).then_some(self.program);
        let all = orphans(self.program, known).into_iter().chain(program);
        all.filter(|process| !is_in(self.program, *process)).collect()
    }
}

/// Returns the adopted orphans: children of this process other than the program and `known`.
fn orphans(program: Pid, known: &[Pid]) -> Vec<Pid> {
    children().into_iter().filter(|pid| *pid != program && !known.contains(pid)).collect()
}

/// Returns all children of this process, of all its threads.
pub(crate) fn children() -> Vec<Pid> {
    let mut all = Vec::new();
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        all.extend(children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
    }
    all
}

/// Whether the parent could continue this process after a stop, as a shell with job control does: it is in the same
/// session.
pub(crate) fn can_pause() -> bool {
    let session = |process| Some(proc_fs::stat(process)?.session);
    getppid().and_then(session).is_some_and(|theirs| session(getpid()) == Some(theirs))
}

/// Whether a process is in the group that `leader` leads.
pub(crate) fn is_in(leader: Pid, process: Pid) -> bool {
    // True if /proc is missing, because a process must not get a signal twice.
    proc_fs::stat(process).is_none_or(|stat| stat.group == leader.as_raw_nonzero().get())
}

/// Returns the signals that this process ignores as a bit mask; the lowest bit is signal 1.
pub(crate) fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Starts a program as the leader of its own process group.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    use std::os::unix::process::CommandExt;

    command.process_group(0).spawn()
}

/// Returns the standard input of the program. A terminal is replaced by /dev/null, because a process in the background that
/// reads from a terminal is stopped; everything else is inherited.
pub(crate) fn stdin(is_foreground: bool) -> Stdio {
    use std::io::IsTerminal;
    if !is_foreground && io::stdin().is_terminal() { Stdio::null() } else { Stdio::inherit() }
}

/// Returns one change of a child, which may be an adopted orphan; reaps a child that has ended.
pub(crate) fn next_change() -> Option<(Pid, Change)> {
    loop {
        match wait(WaitOptions::NOHANG | WaitOptions::UNTRACED | WaitOptions::CONTINUED) {
            Ok(Some((pid, status))) => {
                if let Some(change) = change(status) {
                    return Some((pid, change));
                }
            }
            Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

fn change(status: WaitStatus) -> Option<Change> {
    let exit = status.exit_status().map(Exit::Code).or_else(|| status.terminating_signal().map(Exit::Signal));
    let stopped = status.stopping_signal().map(Change::Stopped);
    exit.map(Change::Ended).or(stopped).or(status.continued().then_some(Change::Continued))
}

/// Makes this process adopt orphans of the program, as process 1 does.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(getpid()))?)
}
