//! What the supervisor decides: pure, with time as an argument. The shell around it starts, signals and listens.
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

mod said;

use std::time::Duration;

use backstay::clock::Moment;

use super::event::{Action, Event, Policy, Restart, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, Standing};
use super::gate::{Gate, Pass, Wait};
use super::life::{Life, Source};
use super::news::{Ask, Exit, News};

/// How long what was killed may take to be gone, before one goes on without knowing.
const FAREWELL: Duration = Duration::from_secs(5);

/// `timeout` and others signal their child and then its group: what comes so soon after the first time is its echo, and
/// nobody's impatience.
const ECHO: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct Supervisor {
    policy: Policy,
    gate: Gate,
    phase: Phase,
    /// Somebody asked for the end, then.
    asked: Option<Moment>,
    last_exit: Option<Exit>,
    starts: u64,
    freezes: u64,
    actions: Vec<Action>,
}

#[derive(Debug)]
enum Phase {
    /// For its turn to start.
    Waiting {
        until: Moment,
    },
    /// For the shell to say that it started.
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
    /// Taken for ready; where nobody waits for it to say so, from the start.
    ready: bool,
    said_ready: bool,
    said_stopping: bool,
    froze: bool,
    /// It was told that its terminal is gone.
    hung_up: bool,
    suspended: bool,
    /// It was said that nothing is watched.
    said_unwatched: bool,
}

#[derive(Debug, PartialEq)]
enum Stage {
    Running,
    /// The command for freezes runs.
    Dumping {
        until: Moment,
    },
    /// It was told to end, or has ended and left others.
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

    pub(crate) fn standing(&self) -> Standing {
        match &self.phase {
            Phase::Waiting { .. } => Standing::Waiting,
            Phase::Starting(_) => Standing::Starting,
            Phase::Done => Standing::Done,
            Phase::Child(child) => match child.stage {
                Stage::Dumping { .. } => Standing::Frozen,
                Stage::Ending { .. } => Standing::Ending,
                Stage::Running if child.suspended => Standing::Suspended,
                Stage::Running if child.ready => Standing::Running,
                Stage::Running => Standing::Starting,
            },
        }
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.phase {
            Phase::Child(child) if child.exit.is_none() => Some(child.pid),
            _ => None,
        }
    }

    /// Whether there is a family that was not seen to be gone.
    pub(crate) fn has_child(&self) -> bool {
        matches!(&self.phase, Phase::Child(_))
    }

    /// Whether the program ended and others of its family may be left.
    pub(crate) fn waits_for_family(&self) -> bool {
        matches!(&self.phase, Phase::Child(child) if child.exit.is_some())
    }

    /// Whether it ended by itself, and not well.
    pub(crate) fn has_failed(&self) -> bool {
        !self.was_asked() && self.last_exit.is_some_and(|exit| !exit.is_success())
    }

    /// Whether somebody asked for the end.
    pub(crate) fn was_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// How often it was started.
    pub(crate) fn starts(&self) -> u64 {
        self.starts
    }

    pub(crate) fn restarts(&self) -> u64 {
        self.starts.saturating_sub(1)
    }

    pub(crate) fn freezes(&self) -> u64 {
        self.freezes
    }

    pub(crate) fn last_exit(&self) -> Option<Exit> {
        self.last_exit
    }

    /// The program gave a sign of life at `at`.
    pub(crate) fn sign(&mut self, source: Source, at: Moment) {
        if let Phase::Child(child) = &mut self.phase {
            child.life.sign(source, at);
        }
    }

    /// The program says of itself that it is frozen.
    pub(crate) fn is_frozen(&mut self, source: Source, at: Moment) {
        if let Phase::Child(child) = &mut self.phase {
            child.life.is_frozen(source, at);
        }
    }

    /// Takes in what happened; what is to be done about it, in this order.
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
        // The first start is no restart: it needs nobody's leave.
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
            // Once is enough.
            said_unwatched: self.starts > 1,
        });
        self.tell(News::Started { pid, restarts: self.starts - 1 });
        // Asked while it was being started.
        if self.was_asked() {
            self.end(SIGTERM, now);
        }
    }

    fn not_started(&mut self, error: String, code: u8, now: Moment) {
        let Phase::Starting(pass) = std::mem::replace(&mut self.phase, Phase::Done) else { return };
        self.tell(News::NotStarted { error });
        let exit = Exit::Code(i32::from(code));
        // Never once started, it is the command line that is wrong, not the program that is having a bad day.
        if self.starts == 0 {
            return self.done(exit);
        }
        self.gate.ended(pass, false, false);
        self.after(exit, false, now);
    }

    fn exited(&mut self, exit: Exit, family_left: bool, now: Moment) {
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

    fn family_gone(&mut self, now: Moment) {
        let Phase::Child(child) = std::mem::replace(&mut self.phase, Phase::Done) else { return };
        let exit = child.exit.unwrap_or(Exit::Signal(SIGKILL));
        let proven = child.pass.is_proven(child.started, now);
        let well = exit.is_success() && !child.froze || self.asked.is_some();
        self.gate.ended(child.pass, well, proven);
        if child.hung_up && exit == Exit::Signal(SIGHUP) {
            return self.done(exit);
        }
        // A key of the terminal ended it, or the terminal went: the person there wants no restart.
        if self.policy.foreground && matches!(exit, Exit::Signal(SIGHUP | SIGINT | SIGQUIT)) {
            self.asked.get_or_insert(now);
        }
        self.after(exit, !child.froze && exit.is_success(), now);
    }

    fn after(&mut self, exit: Exit, well: bool, now: Moment) {
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

    fn done(&mut self, exit: Exit) {
        self.phase = Phase::Done;
        self.last_exit = Some(exit);
        self.act(Action::Exit(exit.code()));
    }

    fn asked(&mut self, ask: Ask, now: Moment) {
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

    fn pass_on(&mut self, signal: i32, now: Moment) {
        match &mut self.phase {
            Phase::Child(child) => {
                child.hung_up |= signal == SIGHUP;
                self.act(Action::SignalProgram(signal));
                // One that is stopped, because it asked for the terminal perhaps, has to go on to hear of it.
                if signal == SIGHUP {
                    self.act(Action::SignalProgram(SIGCONT));
                }
            }
            // The terminal is gone, and there is no program that could say what it makes of that.
            Phase::Waiting { .. } if signal == SIGHUP => self.asked(Ask(signal), now),
            _ => {}
        }
    }

    fn hook_ended(&mut self, now: Moment) {
        if matches!(&self.phase, Phase::Child(Child { stage: Stage::Dumping { .. }, .. })) {
            self.end(SIGTERM, now);
        }
    }

    fn froze(&mut self, source: Source, inactive: Duration, now: Moment) {
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

    /// Politely. What stands still has to go on to hear it.
    fn end(&mut self, signal: i32, now: Moment) {
        self.set_stage(Stage::Ending { until: now + self.policy.grace, killed: false });
        self.act(Action::Signal(signal));
        self.act(Action::Signal(SIGCONT));
    }

    fn kill(&mut self, now: Moment) {
        if matches!(&self.phase, Phase::Child(Child { stage: Stage::Dumping { .. }, .. })) {
            self.act(Action::KillHook);
        }
        self.set_stage(Stage::Ending { until: now + FAREWELL, killed: true });
        self.tell(News::Killing);
        self.act(Action::Signal(SIGKILL));
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
