//! The child processes of the supervisor: the program's process tree, the guard, the --on-freeze command, and those that
//! it had from the start.

use backstay::clock::Moment;
use rustix::process::{Pid, Signal, kill_process_group};

use super::family::Family;
use super::guard::Guard;
use super::news::{Exit, News};

pub(crate) struct Processes {
    /// The program's process tree.
    pub(crate) family: Option<Family>,
    pub(crate) guard: Option<Guard>,
    /// The --on-freeze command, while it runs.
    pub(crate) hook: Option<Pid>,
    /// Children of the shell that became this process (a sidecar): not the program's.
    pub(crate) elders: Vec<Pid>,
    /// Processes of the last start survived SIGKILL.
    pub(crate) abandoned: bool,
}

/// What a child was that has ended.
pub(crate) enum Ended {
    Program,
    Hook,
    Guard,
    /// An adopted orphan, or a child from before the start.
    Other,
}

impl Processes {
    pub(crate) fn new(guard: Option<Guard>, elders: Vec<Pid>) -> Self {
        Self { family: None, guard, hook: None, elders, abandoned: false }
    }

    /// Our own children besides the program.
    pub(crate) fn known(&self) -> Vec<Pid> {
        self.guard.iter().map(|guard| guard.pid).chain(self.hook).chain(self.elders.iter().copied()).collect()
    }

    /// Whether this is the program itself.
    pub(crate) fn is_program(&self, pid: Pid) -> bool {
        self.family.as_ref().is_some_and(|family| family.is_led_by(pid))
    }

    /// The program was started.
    pub(crate) fn started(&mut self, program: Pid) {
        self.family = Some(Family::of(program));
        if let Some(guard) = &mut self.guard {
            guard.watch(Some(program));
        }
    }

    /// Signals the program's process tree.
    pub(crate) fn signal(&mut self, signal: i32) {
        let known = self.known();
        if let Some(family) = &mut self.family {
            family.signal(signal, &known);
        }
    }

    /// Signals the program alone.
    pub(crate) fn signal_program(&self, signal: i32) {
        if let Some(family) = &self.family {
            family.signal_program(signal);
        }
    }

    pub(crate) fn kill_hook(&self) {
        if let Some(hook) = self.hook {
            let _ = kill_process_group(hook, Signal::KILL);
        }
    }

    /// Takes note of a child that was reaped.
    pub(crate) fn ended(&mut self, pid: Pid) -> Ended {
        self.elders.retain(|elder| *elder != pid);
        if self.is_program(pid) {
            self.family.iter_mut().for_each(Family::fetched);
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

    /// Signals descendants that appeared since the tree was told to end.
    pub(crate) fn remind(&mut self) {
        let known = self.known();
        if let Some(family) = &mut self.family {
            family.remind(&known);
        }
    }

    /// Whether no process of the program is left. What the --on-freeze command leaves is adopted only after its own end.
    pub(crate) fn is_family_gone(&self) -> bool {
        let known = self.known();
        self.hook.is_none() && self.family.as_ref().is_some_and(|family| family.is_gone(&known))
    }

    /// The supervisor is done with this start.
    pub(crate) fn release(&mut self) {
        let Some(family) = self.family.take() else { return };
        self.abandoned = !family.is_gone(&self.known());
        if !self.abandoned {
            // The kernel may reuse the id from now on.
            self.guard.iter_mut().for_each(|guard| guard.watch(None));
        }
    }

    /// Starts another guard in the place of one that has ended.
    pub(crate) fn restart_guard(&mut self, exit: Exit, now: Moment) -> Option<News> {
        let what = match self.guard.as_mut()?.start_again(now) {
            Ok(()) => format!("the guard ended ({exit}): another one is started"),
            Err(error) => {
                self.guard = None;
                no_guard(&error)
            }
        };
        Some(News::Trouble { what })
    }

    pub(crate) fn dismiss_guard(&mut self) {
        if let Some(guard) = &mut self.guard
            && !self.abandoned
        {
            guard.dismiss();
        }
    }
}

/// What to log where there is no guard.
pub(crate) fn no_guard(error: &std::io::Error) -> String {
    format!("no guard: should this process be killed, the program will go on alone: {error}")
}
