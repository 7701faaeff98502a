//! The program's process tree: one process group, and adopted orphans.

use std::fs;
use std::io;
use std::process::{Child, Command, Stdio};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, getppid, kill_process, kill_process_group, test_kill_process_group,
    wait,
};

use super::news::Exit;
use super::tree;

/// One start of the program.
#[derive(Debug)]
pub(crate) struct Family {
    program: Pid,
    /// Reaped: the kernel may reuse its id.
    fetched: bool,
    /// The last signal to end that the tree got,
    ending: Option<Signal>,
    /// and the processes outside the group that got it.
    told: Vec<Pid>,
}

/// A change of state of a child.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Ended(Exit),
    /// By this signal, until it is continued.
    Stopped(i32),
    Continued,
}

impl Family {
    pub(crate) fn of(program: Pid) -> Self {
        Self { program, fetched: false, ending: None, told: Vec::new() }
    }

    /// The user that the program runs as, while it does.
    pub(crate) fn user(&self) -> Option<u32> {
        (!self.fetched).then(|| tree::user(self.program)).flatten()
    }

    /// The process group that the program leads.
    pub(crate) fn group(&self) -> Pid {
        self.program
    }

    /// Whether this is the program itself.
    pub(crate) fn is_led_by(&self, pid: Pid) -> bool {
        !self.fetched && self.program == pid
    }

    pub(crate) fn fetched(&mut self) {
        self.fetched = true;
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
            (self.ending, self.told) = (Some(signal), outside);
        }
    }

    /// Signals orphans that were adopted since the last signal to end: a descendant that left the group cannot be listed
    /// until its parent ends. SIGKILL is repeated until no process is left.
    pub(crate) fn remind(&mut self, known: &[Pid]) {
        let Some(signal) = self.ending else { return };
        if signal == Signal::KILL {
            return self.signal(signal.as_raw(), known);
        }
        let outside = self.outside(known);
        for process in outside.iter().filter(|process| !self.told.contains(process)) {
            let _ = kill_process(*process, signal);
            let _ = kill_process(*process, Signal::CONT);
        }
        self.told = outside;
    }

    pub(crate) fn signal_program(&self, signal: i32) {
        if let Some(signal) = Signal::from_named_raw(signal)
            && !self.fetched
        {
            let _ = kill_process(self.program, signal);
        }
    }

    /// Whether no process is left.
    pub(crate) fn is_gone(&self, known: &[Pid]) -> bool {
        self.fetched
            && test_kill_process_group(self.program) == Err(Errno::SRCH)
            && strays(self.program, known).is_empty()
    }

    /// Processes that a signal to the group does not reach: orphans that left it, and perhaps the program itself.
    fn outside(&self, known: &[Pid]) -> Vec<Pid> {
        let program = (!self.fetched).then_some(self.program);
        let all = strays(self.program, known).into_iter().chain(program);
        all.filter(|process| !is_in(self.program, *process)).collect()
    }
}

/// Children of ours that are neither the program nor `known`: orphans of the family.
fn strays(program: Pid, known: &[Pid]) -> Vec<Pid> {
    children().into_iter().filter(|pid| *pid != program && !known.contains(pid)).collect()
}

/// All children of this process, whichever thread started them.
pub(crate) fn children() -> Vec<Pid> {
    let mut all = Vec::new();
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        all.extend(children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
    }
    all
}

/// Whether the parent could continue this process after a stop, as a shell with job control does.
pub(crate) fn can_stand_still() -> bool {
    let session = |process| Some(tree::place(process)?.session);
    getppid().and_then(session).is_some_and(|theirs| session(getpid()) == Some(theirs))
}

/// Whether a process is in the group that `leader` leads.
pub(crate) fn is_in(leader: Pid, process: Pid) -> bool {
    // Assumed where /proc is missing: a process must not get the group's signal twice.
    tree::place(process).is_none_or(|place| place.group == leader.as_raw_nonzero().get())
}

/// A bit for each signal that this process ignores, the lowest for signal 1.
pub(crate) fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Starts a program at the head of its own group.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    use std::os::unix::process::CommandExt;

    command.process_group(0).spawn()
}

/// Standard input of the program. A background group that reads from a terminal would be stopped; everything else is
/// passed through.
pub(crate) fn stdin(is_foreground: bool) -> Stdio {
    use std::io::IsTerminal;
    if !is_foreground && io::stdin().is_terminal() { Stdio::null() } else { Stdio::inherit() }
}

/// Takes one change of a child, which may be an adopted orphan. One that has ended is reaped.
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
