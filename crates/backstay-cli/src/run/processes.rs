//! The child processes of the supervisor: the program's process tree, the guard, the --on-freeze command, and children
//! from before the start.

use backstay::clock::Moment;
use rustix::process::{Pid, Signal, kill_process_group};

use super::guard::Guard;
use super::log_event::{Exit, LogEvent};
use super::process_tree::ProcessTree;

pub(crate) struct Processes {
    /// The program's process tree.
    pub(crate) tree: Option<ProcessTree>,
    pub(crate) guard: Option<Guard>,
    /// The --on-freeze command, while it runs.
    pub(crate) hook: Option<Pid>,
    /// Children from before the start, for example of a shell that ran `sidecar & exec backstay run`.
    pub(crate) inherited: Vec<Pid>,
    /// Some process of the last start survived SIGKILL.
    pub(crate) abandoned: bool,
}

/// Which child has ended.
pub(crate) enum Ended {
    Program,
    Hook,
    Guard,
    /// An adopted orphan, or a child from before the start.
    Other,
}

impl Processes {
    pub(crate) fn new(guard: Option<Guard>, inherited: Vec<Pid>) -> Self {
        Self { tree: None, guard, hook: None, inherited, abandoned: false }
    }

    /// The supervisor's own children, without the program.
    pub(crate) fn known(&self) -> Vec<Pid> {
        self.guard.iter().map(|guard| guard.pid).chain(self.hook).chain(self.inherited.iter().copied()).collect()
    }

    /// Whether this is the program itself.
    pub(crate) fn is_program(&self, pid: Pid) -> bool {
        self.tree.as_ref().is_some_and(|tree| tree.is_led_by(pid))
    }

    /// Notes that the program was started.
    pub(crate) fn started(&mut self, program: Pid) {
        self.tree = Some(ProcessTree::of(program));
        if let Some(guard) = &mut self.guard {
            guard.watch(Some(program));
        }
    }

    /// Signals the program's process tree.
    pub(crate) fn signal(&mut self, signal: i32) {
        let known = self.known();
        if let Some(tree) = &mut self.tree {
            tree.signal(signal, &known);
        }
    }

    /// Signals the program alone.
    pub(crate) fn signal_program(&self, signal: i32) {
        if let Some(tree) = &self.tree {
            tree.signal_program(signal);
        }
    }

    pub(crate) fn kill_hook(&self) {
        if let Some(hook) = self.hook {
            let _ = kill_process_group(hook, Signal::KILL);
        }
    }

    /// Notes that a child was reaped.
    pub(crate) fn ended(&mut self, pid: Pid) -> Ended {
        self.inherited.retain(|child| *child != pid);
        if self.is_program(pid) {
            self.tree.iter_mut().for_each(ProcessTree::reaped);
            Ended::Program
        } else if self.hook == Some(pid) {
            self.hook = None;
            Ended::Hook
        } else if self.guard.as_ref().is_some_and(|guard| guard.pid == pid) {
            Ended::Guard
        } else {
            Ended::Other
        }
    }

    /// Signals orphans that were adopted since the tree was signalled to end.
    pub(crate) fn signal_orphans(&mut self) {
        let known = self.known();
        if let Some(tree) = &mut self.tree {
            tree.signal_orphans(&known);
        }
    }

    /// Whether no process of the program is left. Always false while the --on-freeze command runs: its orphans
    /// are adopted only when it ends.
    pub(crate) fn is_tree_gone(&self) -> bool {
        let known = self.known();
        self.hook.is_none() && self.tree.as_ref().is_some_and(|tree| tree.is_gone(&known))
    }

    /// Releases the process tree of a start that is over.
    pub(crate) fn release(&mut self) {
        let Some(tree) = self.tree.take() else { return };
        self.abandoned = !tree.is_gone(&self.known());
        if !self.abandoned {
            // The kernel may reuse the id from now on.
            self.guard.iter_mut().for_each(|guard| guard.watch(None));
        }
    }

    /// Starts a new guard after the last one ended.
    pub(crate) fn restart_guard(&mut self, exit: Exit, now: Moment) -> Option<LogEvent> {
        let what = match self.guard.as_mut()?.start_again(now) {
            Ok(()) => format!("the guard ended ({exit}): starting another one"),
            Err(error) => {
                self.guard = None;
                no_guard(&error)
            }
        };
        Some(LogEvent::Trouble { what })
    }

    pub(crate) fn dismiss_guard(&mut self) {
        if let Some(guard) = &mut self.guard
            && !self.abandoned
        {
            guard.dismiss();
        }
    }
}

/// The log message if there is no guard.
pub(crate) fn no_guard(error: &std::io::Error) -> String {
    format!("no guard: if this process is killed, the program will keep running: {error}")
}
