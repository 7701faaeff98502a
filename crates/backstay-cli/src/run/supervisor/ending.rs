//! How the program ends: by itself, on a freeze, or because the supervisor was asked to stop.

use std::time::Duration;

use backstay::clock::Moment;

use super::super::event::{Action, Restart, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM};
use super::super::life::Source;
use super::super::news::{Ask, Exit, News};
use super::{Child, Phase, Stage, Supervisor};

/// How long killed processes may take to be gone before the supervisor continues without them.
const FAREWELL: Duration = Duration::from_secs(5);

/// `timeout` and others signal their child and then its process group: the same signal within this time is no second
/// request.
const ECHO: Duration = Duration::from_millis(250);

impl Supervisor {
    pub(super) fn froze(&mut self, source: Source, inactive: Duration, now: Moment) {
        let Phase::Child(child) = &mut self.phase else { return };
        if child.stage != Stage::Running || child.exit.is_some() {
            return;
        }
        child.froze = true;
        let pid = child.pid;
        self.freezes += 1;
        self.tell(News::Froze { source, inactive });
        match self.policy.hook {
            Some(time) => {
                self.set_stage(Stage::Dumping { until: now + time });
                self.act(Action::RunHook { pid, inactive, source });
            }
            None => self.end(SIGTERM, now),
        }
    }

    pub(super) fn hook_ended(&mut self, now: Moment) {
        if matches!(&self.phase, Phase::Child(Child { stage: Stage::Dumping { .. }, .. })) {
            self.end(SIGTERM, now);
        }
    }

    pub(super) fn asked(&mut self, ask: Ask, now: Moment) {
        let again = self.asked.is_some();
        let asked = *self.asked.get_or_insert(now);
        if !again {
            self.tell(News::Asked(ask));
        } else if now < asked + ECHO {
            return;
        }
        match &self.phase {
            Phase::Waiting { .. } => self.done(self.last_exit.unwrap_or(Exit::Code(0))),
            Phase::Child(_) if again => {
                self.tell(News::AskedAgain(ask));
                self.kill(now);
            }
            Phase::Child(child) => {
                let ending = matches!(child.stage, Stage::Ending { .. });
                if matches!(child.stage, Stage::Dumping { .. }) {
                    self.act(Action::KillHook);
                }
                if ending { self.act(Action::Signal(ask.signal())) } else { self.end(ask.signal(), now) }
            }
            Phase::Starting(_) | Phase::Done => {}
        }
    }

    pub(super) fn pass_on(&mut self, signal: i32, now: Moment) {
        match &mut self.phase {
            Phase::Child(child) => {
                child.hung_up |= signal == SIGHUP;
                self.act(Action::SignalProgram(signal));
                // A stopped program (it may have asked for the terminal) receives no signal until it continues.
                if signal == SIGHUP {
                    self.act(Action::SignalProgram(SIGCONT));
                }
            }
            // The terminal is gone, and there is no program to decide what that means.
            Phase::Waiting { .. } if signal == SIGHUP => self.asked(Ask(signal), now),
            _ => {}
        }
    }

    /// Begins the grace period. SIGCONT lets stopped processes receive the signal.
    pub(super) fn end(&mut self, signal: i32, now: Moment) {
        self.set_stage(Stage::Ending { until: now + self.policy.grace, killed: false });
        self.act(Action::Signal(signal));
        self.act(Action::Signal(SIGCONT));
    }

    pub(super) fn kill(&mut self, now: Moment) {
        if matches!(&self.phase, Phase::Child(Child { stage: Stage::Dumping { .. }, .. })) {
            self.act(Action::KillHook);
        }
        self.set_stage(Stage::Ending { until: now + FAREWELL, killed: true });
        self.tell(News::Killing);
        self.act(Action::Signal(SIGKILL));
    }

    pub(super) fn exited(&mut self, exit: Exit, family_left: bool, now: Moment) {
        let Phase::Child(child) = &mut self.phase else { return };
        child.exit = Some(exit);
        let dumping = matches!(child.stage, Stage::Dumping { .. });
        let ending = matches!(child.stage, Stage::Ending { .. });
        let ran = now.since(child.started);
        self.tell(News::Exited { exit, ran });
        if dumping {
            self.act(Action::KillHook);
        }
        if !family_left {
            self.family_gone(now);
        } else if !ending {
            self.end(SIGTERM, now);
        }
    }

    pub(super) fn family_gone(&mut self, now: Moment) {
        let Phase::Child(child) = std::mem::replace(&mut self.phase, Phase::Done) else { return };
        let exit = child.exit.unwrap_or(Exit::Signal(SIGKILL));
        let proven = child.pass.is_proven(child.started, now);
        let well = exit.is_success() && !child.froze || self.asked.is_some();
        self.gate.ended(child.pass, well, proven);
        if child.hung_up && exit == Exit::Signal(SIGHUP) {
            return self.done(exit);
        }
        // A key of the terminal ended it, or the terminal is gone: a restart is not wanted.
        if self.policy.foreground && matches!(exit, Exit::Signal(SIGHUP | SIGINT | SIGQUIT)) {
            self.asked.get_or_insert(now);
        }
        self.after(exit, !child.froze && exit.is_success(), now);
    }

    pub(super) fn after(&mut self, exit: Exit, well: bool, now: Moment) {
        self.last_exit = Some(exit);
        let again = match self.policy.restart {
            Restart::Always => true,
            Restart::OnFailure => !well,
            Restart::Never => false,
        };
        if self.was_asked() || !again {
            return self.done(exit);
        }
        let wait = self.gate.next_wait();
        self.wait(wait, now);
    }

    pub(super) fn done(&mut self, exit: Exit) {
        self.phase = Phase::Done;
        self.last_exit = Some(exit);
        self.act(Action::Exit(exit.code()));
    }
}
