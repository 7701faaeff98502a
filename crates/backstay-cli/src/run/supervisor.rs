//! The supervisor's decisions: pure, with time as an argument. `event_loop` starts, signals and waits.
//!
//! ```text
//!            spawn                      froze (with a hook)
//!  Waiting --------> Running ------------------------------> Dumping
//!     ^                 |  exited, asked to stop, froze         |
//!     |   restart       v                                       |
//!     +------------- Ending <-----------------------------------+
//!                       |  no restart
//!                       v
//!                      Done
//! ```

mod ending;
mod notifications;
mod state;

use std::time::Duration;

use backstay::clock::Moment;

use super::event::{Action, Event, Policy, SIGTERM};
use super::freeze_detector::{FreezeDetector, Source};
use super::log_event::{Exit, LogEvent};
use super::restart_limiter::{RestartLimiter, StartPermit, Wait};

#[derive(Debug)]
pub(crate) struct Supervisor {
    policy: Policy,
    restart_limiter: RestartLimiter,
    phase: Phase,
    /// When a signal first asked the supervisor to stop.
    stop_requested_at: Option<Moment>,
    last_exit: Option<Exit>,
    starts: u64,
    freezes: u64,
    actions: Vec<Action>,
}

#[derive(Debug)]
enum Phase {
    /// Waits for the next start.
    Waiting {
        until: Moment,
    },
    /// Waits until the event loop reports the start.
    Starting(StartPermit),
    Child(Child),
    Done,
}

#[derive(Debug)]
struct Child {
    pid: u32,
    started: Moment,
    permit: StartPermit,
    detector: FreezeDetector,
    stage: Stage,
    exit: Option<Exit>,
    /// The program is ready: from the start, unless notify is required.
    ready: bool,
    ready_logged: bool,
    stopping_logged: bool,
    froze: bool,
    /// SIGHUP was forwarded to the program.
    hung_up: bool,
    suspended: bool,
    /// It was logged that no health check counts.
    unwatched_logged: bool,
}

#[derive(Debug, PartialEq)]
enum Stage {
    Running,
    /// The --on-freeze command runs.
    Dumping {
        until: Moment,
    },
    /// The program was signalled to stop, or it ended and descendants are left.
    Ending {
        until: Moment,
        killed: bool,
    },
}

impl Supervisor {
    pub(crate) fn new(policy: Policy, restart_limiter: RestartLimiter) -> Self {
        let phase = Phase::Waiting { until: Moment::from_nanos(0) };
        Self {
            policy,
            restart_limiter,
            phase,
            stop_requested_at: None,
            last_exit: None,
            starts: 0,
            freezes: 0,
            actions: Vec::new(),
        }
    }

    /// When a [`Tick`](Event::Tick) is due.
    pub(crate) fn deadline(&self) -> Moment {
        match &self.phase {
            Phase::Waiting { until } => *until,
            Phase::Starting(_) | Phase::Done => Moment::NEVER,
            Phase::Child(child) => match child.stage {
                Stage::Running => child.detector.deadline().min(child.permit.succeeds_at(child.started)),
                Stage::Dumping { until } | Stage::Ending { until, .. } => until,
            },
        }
    }

    /// Notes that a health check passed at `at`.
    pub(crate) fn check_passed(&mut self, source: Source, at: Moment) {
        if let Phase::Child(child) = &mut self.phase {
            child.detector.check_passed(source, at);
        }
    }

    /// Notes that the program reported a freeze at `at`.
    pub(crate) fn freeze_reported(&mut self, source: Source, at: Moment) {
        if let Phase::Child(child) = &mut self.phase {
            child.detector.freeze_reported(source, at);
        }
    }

    /// Handles an event; returns the actions to take, in order.
    pub(crate) fn on(&mut self, event: Event, now: Moment) -> Vec<Action> {
        match event {
            Event::Started { pid } => self.started(pid, now),
            Event::NotStarted { error, code } => self.not_started(error, code, now),
            Event::Exited { exit, tree_left } => self.exited(exit, tree_left, now),
            Event::TreeGone => self.tree_gone(now),
            Event::StopRequested(request) => self.stop_requested(request, now),
            Event::Forward(signal) => self.forward(signal, now),
            Event::HookEnded => self.hook_ended(now),
            Event::Ready => self.ready(now),
            Event::Stopping => self.stopping(now),
            Event::Extend(time) => self.extend(time, now),
            Event::Trigger => self.froze(Source::Notify, Duration::ZERO, now),
            Event::WatchdogTime(time) => {
                if let Phase::Child(child) = &mut self.phase {
                    child.detector.set_timeout(Source::Notify, time);
                }
            }
            Event::Suspended(signal) => self.suspended(signal),
            Event::Continued => self.continued(),
            Event::Paused(time) => self.paused(time),
            Event::Tick => self.tick(now),
        }
        std::mem::take(&mut self.actions)
    }

    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn log(&mut self, event: LogEvent) {
        self.act(Action::Log(event));
    }

    fn tick(&mut self, now: Moment) {
        if now < self.deadline() {
            return;
        }
        match &mut self.phase {
            Phase::Waiting { .. } => self.try_to_start(now),
            Phase::Starting(_) | Phase::Done => {}
            Phase::Child(child) => match child.stage {
                Stage::Running => {
                    if now >= child.permit.succeeds_at(child.started) && child.permit.succeed() {
                        self.restart_limiter.reset();
                    }
                    if let Some((source, inactive)) = child.detector.overdue(now) {
                        return self.froze(source, inactive, now);
                    }
                    let time = now.since(child.started);
                    if time >= self.policy.watch.timeout
                        && !std::mem::replace(&mut child.unwatched_logged, true)
                        && !child.detector.is_watched()
                    {
                        self.log(LogEvent::NotWatched { time });
                    }
                }
                Stage::Dumping { .. } => {
                    self.log(LogEvent::HookTooSlow);
                    self.act(Action::KillHook);
                    self.end(SIGTERM, now);
                }
                Stage::Ending { killed: false, .. } => self.kill(now),
                Stage::Ending { killed: true, .. } => {
                    self.log(LogEvent::GaveUp);
                    self.tree_gone(now);
                }
            },
        }
    }

    fn try_to_start(&mut self, now: Moment) {
        // Restart limits do not apply to the first start.
        match self.restart_limiter.acquire(self.starts > 0) {
            Ok(permit) => {
                self.phase = Phase::Starting(permit);
                self.act(Action::Spawn);
            }
            Err(wait) => self.wait(wait, now),
        }
    }

    fn wait(&mut self, wait: Wait, now: Moment) {
        self.phase = Phase::Waiting { until: now + wait.time };
        self.log(LogEvent::Waiting(wait));
    }

    fn started(&mut self, pid: u32, now: Moment) {
        let Phase::Starting(permit) = std::mem::replace(&mut self.phase, Phase::Done) else { return };
        self.starts += 1;
        let detector = FreezeDetector::new(self.policy.watch.clone(), now);
        let ready = !self.policy.watch.is_required(Source::Notify);
        let stage = Stage::Running;
        self.phase = Phase::Child(Child {
            pid,
            started: now,
            permit,
            detector,
            stage,
            exit: None,
            ready,
            ready_logged: false,
            stopping_logged: false,
            froze: false,
            hung_up: false,
            suspended: false,
            // Logged for the first start only.
            unwatched_logged: self.starts > 1,
        });
        self.log(LogEvent::Started { pid, restarts: self.starts - 1 });
        // The stop was requested during the start.
        if self.stop_was_requested() {
            self.end(SIGTERM, now);
        }
    }

    fn not_started(&mut self, error: String, code: u8, now: Moment) {
        let Phase::Starting(permit) = std::mem::replace(&mut self.phase, Phase::Done) else { return };
        self.log(LogEvent::NotStarted { error });
        let exit = Exit::Code(i32::from(code));
        // A failed first start is not retried: most likely the command line is wrong.
        if self.starts == 0 {
            return self.done(exit);
        }
        self.restart_limiter.ended(permit, false, false);
        self.after(exit, false, now);
    }

    fn set_stage(&mut self, stage: Stage) {
        if let Phase::Child(child) = &mut self.phase {
            child.stage = stage;
        }
    }
}

#[cfg(test)]
#[path = "supervisor_tests.rs"]
mod tests;
