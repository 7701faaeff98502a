//! The end of the program: by itself, after a freeze, or on a request to stop.

use std::time::Duration;

use backstay::clock::Moment;

use super::super::event::{Action, Restart, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM};
use super::super::freeze_detector::Source;
use super::super::log_event::{Exit, LogEvent, StopRequest};
use super::{Child, Phase, Stage, Supervisor};

/// How long the supervisor waits after SIGKILL before it gives up on the processes that are left.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// A signal to stop within this time after the first is not a second request: `timeout` and other programs signal their
/// child and then its process group.
const DUPLICATE_WINDOW: Duration = Duration::from_millis(250);

impl Supervisor {
    pub(super) fn froze(&mut self, source: Source, inactive: Duration, now: Moment) {
        let Phase::Child(child) = &mut self.phase else { return };
        if child.stage != Stage::Running || child.exit.is_some() {
            return;
        }
        child.froze = true;
        let pid = child.pid;
        self.freezes += 1;
        self.log(LogEvent::Froze { source, inactive });
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

    pub(super) fn stop_requested(&mut self, request: StopRequest, now: Moment) {
        let again = self.stop_requested_at.is_some();
        let requested_at = *self.stop_requested_at.get_or_insert(now);
        if !again {
            self.log(LogEvent::StopRequested(request));
        } else if now < requested_at + DUPLICATE_WINDOW {
            return;
        }
        match &self.phase {
            Phase::Waiting { .. } => self.done(self.last_exit.unwrap_or(Exit::Code(0))),
            Phase::Child(_) if again => {
                self.log(LogEvent::StopRequestedAgain(request));
                self.kill(now);
            }
            Phase::Child(child) => {
                let ending = matches!(child.stage, Stage::Ending { .. });
                if matches!(child.stage, Stage::Dumping { .. }) {
                    self.act(Action::KillHook);
                }
                if ending { self.act(Action::Signal(request.signal())) } else { self.end(request.signal(), now) }
            }
            Phase::Starting(_) | Phase::Done => {}
        }
    }

    pub(super) fn forward(&mut self, signal: i32, now: Moment) {
        match &mut self.phase {
            Phase::Child(child) => {
                child.hung_up |= signal == SIGHUP;
                self.act(Action::SignalProgram(signal));
                // A stopped program receives no signal until it is continued.
                if signal == SIGHUP {
                    self.act(Action::SignalProgram(SIGCONT));
                }
            }
            // The terminal is gone, and no program runs that could handle the signal.
            Phase::Waiting { .. } if signal == SIGHUP => self.stop_requested(StopRequest(signal), now),
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
        self.set_stage(Stage::Ending { until: now + KILL_TIMEOUT, killed: true });
        self.log(LogEvent::Killing);
        self.act(Action::Signal(SIGKILL));
    }

    pub(super) fn exited(&mut self, exit: Exit, tree_left: bool, now: Moment) {
        let Phase::Child(child) = &mut self.phase else { return };
        child.exit = Some(exit);
        let dumping = matches!(child.stage, Stage::Dumping { .. });
        let ending = matches!(child.stage, Stage::Ending { .. });
        let ran = now.since(child.started);
        self.log(LogEvent::Exited { exit, ran });
        if dumping {
            self.act(Action::KillHook);
        }
        if !tree_left {
            self.tree_gone(now);
        } else if !ending {
            self.end(SIGTERM, now);
        }
    }

    pub(super) fn tree_gone(&mut self, now: Moment) {
        let Phase::Child(child) = std::mem::replace(&mut self.phase, Phase::Done) else { return };
        let exit = child.exit.unwrap_or(Exit::Signal(SIGKILL));
        let proven = child.permit.has_succeeded(child.started, now);
        let success = exit.is_success() && !child.froze || self.stop_requested_at.is_some();
        self.restart_limiter.ended(child.permit, success, proven);
        if child.hung_up && exit == Exit::Signal(SIGHUP) {
            return self.done(exit);
        }
        // A key of the terminal ended the program, or the terminal is gone: the program is not restarted.
        if self.policy.foreground && matches!(exit, Exit::Signal(SIGHUP | SIGINT | SIGQUIT)) {
            self.stop_requested_at.get_or_insert(now);
        }
        self.after(exit, !child.froze && exit.is_success(), now);
    }

    pub(super) fn after(&mut self, exit: Exit, success: bool, now: Moment) {
        self.last_exit = Some(exit);
        let again = match self.policy.restart {
            Restart::Always => true,
            Restart::OnFailure => !success,
            Restart::Never => false,
        };
        if self.stop_was_requested() || !again {
            return self.done(exit);
        }
        let wait = self.restart_limiter.next_wait();
        self.wait(wait, now);
    }

    pub(super) fn done(&mut self, exit: Exit) {
        self.phase = Phase::Done;
        self.last_exit = Some(exit);
        self.act(Action::Exit(exit.code()));
    }
}
