//! The supervisor's decisions: pure, with time as an argument. `shell` starts, signals and waits.
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
mod said;
mod standing;

use std::time::Duration;

use backstay::clock::Moment;

use super::event::{Action, Event, Policy, SIGTERM};
use super::gate::{Gate, Pass, Wait};
use super::life::{Life, Source};
use super::news::{Exit, News};

#[derive(Debug)]
pub(crate) struct Supervisor {
    policy: Policy,
    gate: Gate,
    phase: Phase,
    /// When the supervisor was asked to stop.
    asked: Option<Moment>,
    last_exit: Option<Exit>,
    starts: u64,
    freezes: u64,
    actions: Vec<Action>,
}

#[derive(Debug)]
enum Phase {
    /// For the next start.
    Waiting {
        until: Moment,
    },
    /// For the shell to report the start.
    Starting(Pass),
    Child(Child),
    Done,
}

#[derive(Debug)]
struct Child {
    pid: u32,
    started: Moment,
    pass: Pass,
    life: Life,
    stage: Stage,
    exit: Option<Exit>,
    /// Ready: from the start, unless READY=1 is required.
    ready: bool,
    said_ready: bool,
    said_stopping: bool,
    froze: bool,
    /// SIGHUP was forwarded to it.
    hung_up: bool,
    suspended: bool,
    /// The log says that nothing is watched.
    said_unwatched: bool,
}

#[derive(Debug, PartialEq)]
enum Stage {
    Running,
    /// The --on-freeze command runs.
    Dumping {
        until: Moment,
    },
    /// It was signalled to stop, or has ended and left descendants.
    Ending {
        until: Moment,
        killed: bool,
    },
}

impl Supervisor {
    pub(crate) fn new(policy: Policy, gate: Gate) -> Self {
        let phase = Phase::Waiting { until: Moment::from_nanos(0) };
        Self { policy, gate, phase, asked: None, last_exit: None, starts: 0, freezes: 0, actions: Vec::new() }
    }

    /// When a [`Tick`](Event::Tick) is due.
    pub(crate) fn deadline(&self) -> Moment {
        match &self.phase {
            Phase::Waiting { until } => *until,
            Phase::Starting(_) | Phase::Done => Moment::NEVER,
            Phase::Child(child) => match child.stage {
                Stage::Running => child.life.deadline().min(child.pass.proven_at(child.started)),
                Stage::Dumping { until } | Stage::Ending { until, .. } => until,
            },
        }
    }

    /// The program gave a sign of life at `at`.
    pub(crate) fn sign(&mut self, source: Source, at: Moment) {
        if let Phase::Child(child) = &mut self.phase {
            child.life.sign(source, at);
        }
    }

    /// The program reported at `at` that it is frozen.
    pub(crate) fn is_frozen(&mut self, source: Source, at: Moment) {
        if let Phase::Child(child) = &mut self.phase {
            child.life.is_frozen(source, at);
        }
    }

    /// Handles an event; the actions to take, in this order.
    pub(crate) fn on(&mut self, event: Event, now: Moment) -> Vec<Action> {
        match event {
            Event::Started { pid } => self.started(pid, now),
            Event::NotStarted { error, code } => self.not_started(error, code, now),
            Event::Exited { exit, family_left } => self.exited(exit, family_left, now),
            Event::FamilyGone => self.family_gone(now),
            Event::Asked(ask) => self.asked(ask, now),
            Event::PassOn(signal) => self.pass_on(signal, now),
            Event::HookEnded => self.hook_ended(now),
            Event::Ready => self.ready(now),
            Event::Stopping => self.stopping(now),
            Event::Extend(time) => self.extend(time, now),
            Event::Trigger => self.froze(Source::Notify, Duration::ZERO, now),
            Event::WatchdogTime(time) => {
                if let Phase::Child(child) = &mut self.phase {
                    child.life.set_timeout(Source::Notify, time);
                }
            }
            Event::Suspended(signal) => self.suspended(signal),
            Event::Continued => self.continued(),
            Event::Stood(time) => self.stood(time),
            Event::Tick => self.tick(now),
        }
        std::mem::take(&mut self.actions)
    }

    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn tell(&mut self, news: News) {
        self.act(Action::Tell(news));
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
                    if now >= child.pass.proven_at(child.started) && child.pass.prove() {
                        self.gate.reset();
                    }
                    if let Some((source, inactive)) = child.life.overdue(now) {
                        return self.froze(source, inactive, now);
                    }
                    let time = now.since(child.started);
                    if time >= self.policy.watch.timeout
                        && !std::mem::replace(&mut child.said_unwatched, true)
                        && !child.life.is_watched()
                    {
                        self.tell(News::NotWatched { time });
                    }
                }
                Stage::Dumping { .. } => {
                    self.tell(News::HookTooSlow);
                    self.act(Action::KillHook);
                    self.end(SIGTERM, now);
                }
                Stage::Ending { killed: false, .. } => self.kill(now),
                Stage::Ending { killed: true, .. } => {
                    self.tell(News::GaveUp);
                    self.family_gone(now);
                }
            },
        }
    }

    fn try_to_start(&mut self, now: Moment) {
        // The first start is no restart: no limit applies to it.
        match self.gate.pass(self.starts > 0) {
            Ok(pass) => {
                self.phase = Phase::Starting(pass);
                self.act(Action::Spawn);
            }
            Err(wait) => self.wait(wait, now),
        }
    }

    fn wait(&mut self, wait: Wait, now: Moment) {
        self.phase = Phase::Waiting { until: now + wait.time };
        self.tell(News::Waiting(wait));
    }

    fn started(&mut self, pid: u32, now: Moment) {
        let Phase::Starting(pass) = std::mem::replace(&mut self.phase, Phase::Done) else { return };
        self.starts += 1;
        let life = Life::new(self.policy.watch.clone(), now);
        let ready = !self.policy.watch.is_required(Source::Notify);
        let stage = Stage::Running;
        self.phase = Phase::Child(Child {
            pid,
            started: now,
            pass,
            life,
            stage,
            exit: None,
            ready,
            said_ready: false,
            said_stopping: false,
            froze: false,
            hung_up: false,
            suspended: false,
            // Logged for the first start only.
            said_unwatched: self.starts > 1,
        });
        self.tell(News::Started { pid, restarts: self.starts - 1 });
        // The stop was requested during the start.
        if self.was_asked() {
            self.end(SIGTERM, now);
        }
    }

    fn not_started(&mut self, error: String, code: u8, now: Moment) {
        let Phase::Starting(pass) = std::mem::replace(&mut self.phase, Phase::Done) else { return };
        self.tell(News::NotStarted { error });
        let exit = Exit::Code(i32::from(code));
        // A program that never started points to an invalid command line: no retries.
        if self.starts == 0 {
            return self.done(exit);
        }
        self.gate.ended(pass, false, false);
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
