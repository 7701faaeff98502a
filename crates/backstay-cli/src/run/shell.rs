//! The hands of the supervisor: waits for whatever happens, asks it what to do, and does it.

use std::time::Duration;

use backstay::clock::{Clock, Moment};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, getpid, kill_process};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGSTOP, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU};

use super::Plan;
use super::event::{Action, Event, SIGCONT, Standing};
use super::family::{self, Change, Family};
use super::foreground::Terminal;
use super::guard::Guard;
use super::life::Source;
use super::looks::{Look, Looks};
use super::message::Said;
use super::news::{Ask, News};
use super::notify::Ear;
use super::reporter::Reporter;
use super::sender::Sender;
use super::signals::Signals;
use super::signs::{Beat, BeatFile, LastSeen, Pump};
use super::supervisor::Supervisor;

/// Between two looks at a family that ends: not every process that ends is a child of ours.
const LOOK: Duration = Duration::from_millis(100);

/// As many messages are heard before something else has its turn.
const MOST_HEARD: usize = 64;

pub(crate) struct Shell {
    pub(crate) plan: Plan,
    pub(crate) supervisor: Supervisor,
    pub(crate) reporter: Reporter,
    pub(crate) clock: Clock,
    pub(crate) signals: Signals,
    pub(crate) ear: Ear,
    pub(crate) beats: BeatFile,
    pub(crate) looks: Looks,
    pub(crate) output: LastSeen,
    pub(crate) health: Vec<LastSeen>,
    pub(crate) guard: Option<Guard>,
    /// Children that we had from the start.
    pub(crate) elders: Vec<Pid>,
    pub(crate) family: Option<Family>,
    /// Some of the last family would not die.
    pub(crate) abandoned: bool,
    pub(crate) hook: Option<Pid>,
    /// A message of another process was told of.
    pub(crate) strangers: bool,
    pub(crate) pumps: Vec<Pump>,
    /// Lent to the program, with `--foreground`.
    pub(crate) terminal: Option<Terminal>,
}

impl Shell {
    /// Until there is nothing left to supervise; the exit code.
    pub(crate) fn run(mut self) -> u8 {
        let mut ended = None;
        let mut greeting = self.clock.now();
        while ended.is_none() {
            let now = self.clock.now();
            if let Some(every) = self.reporter.watchdog()
                && now >= greeting
            {
                self.reporter.alive();
                greeting = now + every;
            }
            let mut until = self.supervisor.deadline().min(self.reporter.deadline());
            if self.reporter.watchdog().is_some() {
                until = until.min(greeting);
            }
            if self.supervisor.standing() == Standing::Ending {
                until = until.min(now + LOOK);
            }
            // What is due is judged when the look at the heartbeat is over.
            if until <= now
                && let Some((_, look)) = self.looks.pending(now)
            {
                until = look;
            }
            self.wait(until, now);
            for event in self.events() {
                let now = self.clock.now();
                let actions = self.supervisor.on(event, now);
                ended = self.perform(actions).or(ended);
            }
            if !self.supervisor.has_child()
                && let Some(family) = self.family.take()
            {
                self.terminal.iter_mut().for_each(Terminal::take_back);
                self.abandoned = !family.is_gone(&self.known());
                if !self.abandoned {
                    // The kernel may give the id to somebody else now.
                    self.guard.iter_mut().for_each(|guard| guard.watch(None));
                }
            }
            self.reporter.show(&self.supervisor, self.clock.now());
        }
        self.leave();
        ended.unwrap_or_default()
    }

    fn wait(&self, until: Moment, now: Moment) {
        let mut fds = vec![
            PollFd::new(self.signals.get_read(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.ear.as_fd(), PollFlags::IN),
        ];
        // One that nothing waits for is left to end by itself.
        let look = self.looks.pending(now).filter(|_| self.supervisor.deadline() <= now);
        fds.extend(look.map(|(look, _)| PollFd::from_borrowed_fd(look, PollFlags::IN)));
        // The sleep of the kernel is not shorter than asked; a sleep for ever has no number.
        let time = (until != Moment::NEVER).then(|| until.since(now));
        let time = time.and_then(|time| Timespec::try_from(time).ok());
        let _ = poll(&mut fds, time.as_ref());
    }

    /// Stops the program and this process, until the shell continues us; for how long. Ctrl-Z reaches one of them only:
    /// they are in different groups.
    fn stand_still(&mut self) -> Duration {
        let began = self.clock.now();
        self.look_for_signs(began);
        let can_stand_still = family::can_stand_still();
        if can_stand_still {
            self.signal_family(SIGSTOP);
            self.terminal.iter_mut().for_each(Terminal::take_back);
            let _ = kill_process(getpid(), Signal::STOP);
        }
        // Without a shell that could continue it, a program that has the terminal goes on at once.
        if can_stand_still || self.terminal.is_some() {
            self.lend_terminal();
            self.signal_family(SIGCONT);
        }
        self.clock.now().since(began)
    }

    /// Whether the program has the terminal.
    pub(crate) fn lend_terminal(&mut self) -> bool {
        let group = self.family.as_ref().map(Family::group);
        group.zip(self.terminal.as_mut()).is_some_and(|(group, terminal)| terminal.lend(group))
    }

    /// The program was stopped by a signal.
    fn suspended(&mut self, signal: i32) -> Option<Event> {
        if self.terminal.is_none() {
            return Some(Event::Suspended(signal));
        }
        // It asked for the terminal before it had it.
        if matches!(signal, SIGTTIN | SIGTTOU) && self.lend_terminal() {
            self.signal_family(SIGCONT);
            return None;
        }
        Some(Event::Stood(self.stand_still()))
    }

    fn signal_family(&mut self, signal: i32) {
        let known = self.known();
        if let Some(family) = &mut self.family {
            family.signal(signal, &known);
        }
    }

    /// What happened since the last time. What the program said comes before its end.
    fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for (sender, message) in std::iter::from_fn(|| self.ear.hear()).take(MOST_HEARD).collect::<Vec<_>>() {
            if self.trusts(sender) {
                message.into_iter().for_each(|said| self.said(said, &mut events));
            }
        }
        for signal in self.signals.pending().collect::<Vec<_>>() {
            match signal {
                SIGCHLD => {}
                SIGTSTP => events.push(Event::Stood(self.stand_still())),
                SIGTERM | SIGINT | SIGQUIT => events.push(Event::Asked(Ask(signal))),
                signal => events.push(Event::PassOn(signal)),
            }
        }
        self.reap(&mut events);
        let known = self.known();
        if let Some(family) = &mut self.family {
            family.remind(&known);
            // What the command for freezes leaves comes to us when it is gone itself.
            if self.supervisor.waits_for_family() && self.hook.is_none() && family.is_gone(&known) {
                events.push(Event::FamilyGone);
            }
        }
        let now = self.clock.now();
        if now >= self.supervisor.deadline() {
            // A program that ends or waits gives no signs of life that would matter.
            let watched = [Standing::Starting, Standing::Running, Standing::Suspended];
            let is_watched = watched.contains(&self.supervisor.standing());
            if !is_watched || self.look_for_signs(now) {
                events.push(Event::Tick);
            }
        }
        events
    }

    /// Whether the program sent it, or root. That others try is told once, because they could try without end.
    fn trusts(&mut self, sender: Sender) -> bool {
        let named = self.plan.user.as_ref().map(|user| user.uid);
        let users: Vec<u32> = self.family.as_ref().and_then(Family::user).into_iter().chain(named).collect();
        let is_trusted = sender.is_trusted(&self.known(), &users);
        if !is_trusted && !std::mem::replace(&mut self.strangers, true) {
            let pid = sender.pid.map_or_else(|| "an unknown process".to_owned(), |pid| format!("process {pid}"));
            let what = format!("notification ignored: {pid} of user {} is not the program's", sender.uid);
            self.reporter.tell(&News::Trouble { what });
        }
        is_trusted
    }

    fn said(&mut self, said: Said, events: &mut Vec<Event>) {
        events.push(match said {
            Said::Ready => Event::Ready,
            Said::Trigger => Event::Trigger,
            Said::Stopping => Event::Stopping,
            Said::Extend(time) => Event::Extend(time),
            Said::WatchdogTime(time) => Event::WatchdogTime(time),
            Said::Alive => return self.supervisor.sign(Source::Notify, self.clock.now()),
            Said::Status(text) => return self.reporter.status_text(text),
        });
    }

    fn reap(&mut self, events: &mut Vec<Event>) {
        while let Some((pid, change)) = family::next_change() {
            let is_program = self.family.as_ref().is_some_and(|family| family.is_led_by(pid));
            let exit = match change {
                Change::Ended(exit) => exit,
                Change::Stopped(signal) if is_program => {
                    events.extend(self.suspended(signal));
                    continue;
                }
                Change::Continued if is_program => {
                    events.push(Event::Continued);
                    continue;
                }
                Change::Stopped(_) | Change::Continued => continue,
            };
            self.elders.retain(|elder| *elder != pid);
            let known = self.known();
            if let Some(family) = self.family.as_mut().filter(|_| is_program) {
                family.fetched();
                let family_left = self.hook.is_some() || !family.is_gone(&known);
                self.drain();
                events.push(Event::Exited { exit, family_left });
            } else if self.hook == Some(pid) {
                self.hook = None;
                if !exit.is_success() {
                    self.reporter.tell(&News::HookFailed { error: exit.to_string() });
                }
                events.push(Event::HookEnded);
            } else if let Some(guard) = self.guard.as_mut().filter(|guard| guard.pid == pid) {
                let what = match guard.start_again(self.clock.now()) {
                    Ok(()) => format!("the guard ended ({exit}): another one is started"),
                    Err(error) => {
                        self.guard = None;
                        format!("no guard: should this process be killed, the program will go on alone: {error}")
                    }
                };
                self.reporter.tell(&News::Trouble { what });
            }
        }
    }

    /// Our own children besides the program.
    fn known(&self) -> Vec<Pid> {
        self.guard.iter().map(|guard| guard.pid).chain(self.hook).chain(self.elders.iter().copied()).collect()
    }

    /// Whether all is known that there is to know.
    fn look_for_signs(&mut self, now: Moment) -> bool {
        let (beat, is_known) = match self.looks.look(now) {
            Look::Seen(beat) => (beat, true),
            Look::Pending => (None, false),
        };
        let beat = match beat {
            Some(Beat::Alive(at)) => Some(at),
            Some(Beat::Frozen(at)) => {
                self.supervisor.is_frozen(Source::Heartbeat, at);
                None
            }
            None => None,
        };
        // All must be well: the one that was silent for the longest time counts.
        let health = self.health.iter().map(LastSeen::last).min();
        for (source, at) in
            [(Source::Heartbeat, beat), (Source::Output, Some(self.output.last())), (Source::Http, health)]
        {
            if let Some(at) = at {
                self.supervisor.sign(source, at);
            }
        }
        is_known
    }

    pub(crate) fn perform(&mut self, actions: Vec<Action>) -> Option<u8> {
        let mut ended = None;
        for action in actions {
            match action {
                Action::Tell(news) => {
                    match news {
                        News::Asked(_) => self.reporter.stopping(),
                        News::Started { .. } => self.reporter.forget(),
                        _ => {}
                    }
                    self.reporter.tell(&news);
                }
                Action::Spawn => {
                    let event = self.spawn();
                    let now = self.clock.now();
                    let actions = self.supervisor.on(event, now);
                    ended = self.perform(actions).or(ended);
                }
                Action::Signal(signal) => self.signal_family(signal),
                Action::SignalProgram(signal) => {
                    if let Some(family) = &self.family {
                        family.signal_program(signal);
                    }
                }
                Action::RunHook { pid, inactive, source } => self.run_hook(pid, inactive, source),
                Action::KillHook => {
                    if let Some(hook) = self.hook {
                        let _ = rustix::process::kill_process_group(hook, Signal::KILL);
                    }
                }
                Action::Exit(code) => ended = Some(code),
            }
        }
        ended
    }

    /// Nothing that the program wrote is lost: who reads slowly is waited for, as the program itself would have waited,
    /// unless somebody asks for the end.
    fn leave(mut self) {
        let began = self.clock.now();
        // What would not die may keep the pipe open for ever.
        let is_short = self.abandoned || self.supervisor.was_asked();
        let until = if is_short { began + self.plan.grace } else { Moment::NEVER };
        let mut pause = Duration::from_millis(1);
        while self.pumps.iter().any(|pump| !pump.is_finished()) && self.clock.now() < until {
            if self.reporter.watchdog().is_some() {
                self.reporter.alive();
            }
            let now = self.clock.now();
            self.wait(now + pause, now);
            let _ = std::iter::from_fn(|| self.ear.hear()).take(MOST_HEARD).count();
            if self.signals.pending().any(|signal| matches!(signal, SIGTERM | SIGINT | SIGQUIT | SIGHUP)) {
                break;
            }
            pause = (pause * 2).min(LOOK);
        }
        if let Some(guard) = &mut self.guard
            && !self.abandoned
        {
            guard.dismiss();
        }
        self.plan.folder.remove();
        self.reporter.farewell(!self.supervisor.has_failed());
    }
}
