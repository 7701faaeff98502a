//! Carries out the supervisor's decisions: waits for events, hands them over, and performs the actions.

use std::time::Duration;

use backstay::clock::{Clock, Moment};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, getpid, kill_process};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGSTOP, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGWINCH};

use super::Plan;
use super::event::{Action, Event, SIGCONT, Standing};
use super::family::{self, Change, Family};
use super::foreground::Terminal;
use super::life::Source;
use super::message::Said;
use super::news::{Ask, Exit, News};
use super::notify::Ear;
use super::processes::{Ended, Processes};
use super::reporter::Reporter;
use super::sender::Sender;
use super::signals::Signals;
use super::signs::{Pump, Signs};
use super::supervisor::Supervisor;

/// Polling interval during the stop of a process tree: descendants that are not our children end without SIGCHLD.
const LOOK: Duration = Duration::from_millis(100);

/// Notifications handled before other events have their turn.
const MOST_HEARD: usize = 64;

pub(crate) struct Shell {
    pub(crate) plan: Plan,
    pub(crate) supervisor: Supervisor,
    pub(crate) reporter: Reporter,
    pub(crate) clock: Clock,
    pub(crate) signals: Signals,
    pub(crate) ear: Ear,
    pub(crate) signs: Signs,
    pub(crate) processes: Processes,
    /// The first notification of a stranger was logged.
    pub(crate) strangers: bool,
    pub(crate) pumps: Vec<Pump>,
    /// Lent to the program, with `--foreground`.
    pub(crate) terminal: Option<Terminal>,
}

impl Shell {
    /// Supervises until the end; the exit code.
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
            // A freeze is judged after the pending look at the heartbeat file.
            if until <= now
                && let Some((_, look)) = self.signs.looks.pending(now)
            {
                until = look;
            }
            self.wait(until, now);
            for event in self.events() {
                let now = self.clock.now();
                let actions = self.supervisor.on(event, now);
                ended = self.perform(actions).or(ended);
            }
            if !self.supervisor.has_child() {
                self.take_back_terminal();
                self.processes.release();
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
        // A look that no decision depends on needs no wake-up.
        let look = self.signs.looks.pending(now).filter(|_| self.supervisor.deadline() <= now);
        fds.extend(look.map(|(look, _)| PollFd::from_borrowed_fd(look, PollFlags::IN)));
        // The kernel never sleeps for less; no timeout is a sleep without end.
        let time = (until != Moment::NEVER).then(|| until.since(now));
        let time = time.and_then(|time| Timespec::try_from(time).ok());
        let _ = poll(&mut fds, time.as_ref());
    }

    /// Stops the program and this process, until the shell continues us; for how long. Ctrl-Z reaches one of them only:
    /// they are in different groups.
    fn stand_still(&mut self) -> Duration {
        let began = self.clock.now();
        self.signs.look(&mut self.supervisor, began);
        let can_stand_still = family::can_stand_still();
        if can_stand_still {
            self.processes.signal(SIGSTOP);
            self.take_back_terminal();
            let _ = kill_process(getpid(), Signal::STOP);
        }
        // Without a shell that could continue it, a program in the foreground continues at once.
        if can_stand_still || self.terminal.is_some() {
            self.lend_terminal();
            self.processes.signal(SIGCONT);
        }
        self.clock.now().since(began)
    }

    /// Whether the program has the terminal.
    pub(crate) fn lend_terminal(&mut self) -> bool {
        let group = self.processes.family.as_ref().map(Family::group);
        group.zip(self.terminal.as_mut()).is_some_and(|(group, terminal)| terminal.lend(group))
    }

    fn take_back_terminal(&mut self) {
        self.terminal.iter_mut().for_each(Terminal::take_back);
    }

    /// The program was stopped by a signal.
    fn suspended(&mut self, signal: i32) -> Option<Event> {
        if self.terminal.is_none() {
            return Some(Event::Suspended(signal));
        }
        // It asked for the terminal before it had it.
        if matches!(signal, SIGTTIN | SIGTTOU) && self.lend_terminal() {
            self.processes.signal(SIGCONT);
            return None;
        }
        Some(Event::Stood(self.stand_still()))
    }

    /// The events since the last call: notifications come before the program's end.
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
                SIGWINCH => self.resized(),
                SIGTSTP => events.push(Event::Stood(self.stand_still())),
                SIGTERM | SIGINT | SIGQUIT => events.push(Event::Asked(Ask(signal))),
                signal => events.push(Event::PassOn(signal)),
            }
        }
        self.reap(&mut events);
        self.processes.remind();
        if self.supervisor.waits_for_family() && self.processes.is_family_gone() {
            events.push(Event::FamilyGone);
        }
        let now = self.clock.now();
        if now >= self.supervisor.deadline() {
            // Signs of life do not matter while the program ends or waits.
            let watched = [Standing::Starting, Standing::Running, Standing::Suspended];
            let is_watched = watched.contains(&self.supervisor.standing());
            if !is_watched || self.signs.look(&mut self.supervisor, now) {
                events.push(Event::Tick);
            }
        }
        events
    }

    /// Whether the program or root sent it. The first other sender is logged; more could flood the log.
    fn trusts(&mut self, sender: Sender) -> bool {
        let named = self.plan.user.as_ref().map(|user| user.uid);
        let users: Vec<u32> = self.processes.family.as_ref().and_then(Family::user).into_iter().chain(named).collect();
        let is_trusted = sender.is_trusted(&self.processes.known(), &users);
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
            let is_program = self.processes.is_program(pid);
            match change {
                Change::Ended(exit) => events.extend(self.ended(pid, exit)),
                Change::Stopped(signal) if is_program => events.extend(self.suspended(signal)),
                Change::Continued if is_program => events.push(Event::Continued),
                Change::Stopped(_) | Change::Continued => {}
            }
        }
    }

    fn ended(&mut self, pid: Pid, exit: Exit) -> Option<Event> {
        match self.processes.ended(pid) {
            Ended::Program => {
                let family_left = !self.processes.is_family_gone();
                self.drain();
                // The program may have left it in a mode that garbles the log.
                self.take_back_terminal();
                Some(Event::Exited { exit, family_left })
            }
            Ended::Hook => {
                if !exit.is_success() {
                    self.reporter.tell(&News::HookFailed { error: exit.to_string() });
                }
                Some(Event::HookEnded)
            }
            Ended::Guard => {
                let news = self.processes.restart_guard(exit, self.clock.now());
                news.iter().for_each(|news| self.reporter.tell(news));
                None
            }
            Ended::Other => None,
        }
    }

    /// Our terminal has another size: so has the program's, which no kernel signals to it because it controls no session.
    fn resized(&self) {
        if self.pumps.iter().filter(|pump| pump.resize()).count() > 0 {
            self.processes.signal_program(SIGWINCH);
        }
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
                Action::Signal(signal) => self.processes.signal(signal),
                Action::SignalProgram(signal) => self.processes.signal_program(signal),
                Action::RunHook { pid, inactive, source } => self.run_hook(pid, inactive, source),
                Action::KillHook => self.processes.kill_hook(),
                Action::Exit(code) => ended = Some(code),
            }
        }
        ended
    }

    /// Waits until all output of the program has been passed on, as the program itself would have waited for a slow reader,
    /// unless a signal asks for the end.
    fn leave(mut self) {
        let began = self.clock.now();
        // A process that survived SIGKILL may keep the pipe open for ever.
        let is_short = self.processes.abandoned || self.supervisor.was_asked();
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
        self.processes.dismiss_guard();
        self.plan.folder.remove();
        self.reporter.farewell(!self.supervisor.has_failed());
    }
}
