//! The main loop of `backstay run`: waits for events, passes them to the supervisor, and performs its actions.

use std::time::Duration;

use backstay::clock::{Clock, Moment};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, getpid, kill_process};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGSTOP, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGWINCH};

use super::Plan;
use super::event::{Action, Event, SIGCONT, SupervisorState};
use super::foreground::Terminal;
use super::freeze_detector::Source;
use super::health_checks::HealthChecks;
use super::log_event::{Exit, LogEvent, StopRequest};
use super::notification::Notification;
use super::notify::NotifyListener;
use super::output_pump::OutputPump;
use super::process_tree::{self, Change, ProcessTree};
use super::processes::{Ended, Processes};
use super::reporter::Reporter;
use super::sender::Sender;
use super::signals::Signals;
use super::supervisor::Supervisor;

/// Polling interval while a process tree stops: the end of a descendant that is not a child sends no SIGCHLD.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Maximum number of notifications that are handled before other events.
const MAX_NOTIFICATIONS: usize = 64;

/// The state of the main loop.
pub(crate) struct EventLoop {
    pub(crate) plan: Plan,
    pub(crate) supervisor: Supervisor,
    pub(crate) reporter: Reporter,
    pub(crate) clock: Clock,
    pub(crate) signals: Signals,
    pub(crate) listener: NotifyListener,
    pub(crate) health_checks: HealthChecks,
    pub(crate) processes: Processes,
    /// An untrusted notification has been logged.
    pub(crate) untrusted_logged: bool,
    pub(crate) pumps: Vec<OutputPump>,
    /// The terminal that is lent to the program, with `--foreground`.
    pub(crate) terminal: Option<Terminal>,
}

impl EventLoop {
    /// Supervises the program until it is done; returns the exit code.
    pub(crate) fn run(mut self) -> u8 {
        let mut ended = None;
        let mut next_watchdog = self.clock.now();
        while ended.is_none() {
            let now = self.clock.now();
            if let Some(every) = self.reporter.watchdog()
                && now >= next_watchdog
            {
                self.reporter.notify_watchdog();
                next_watchdog = now + every;
            }
            let mut until = self.supervisor.deadline().min(self.reporter.deadline());
            if self.reporter.watchdog().is_some() {
                until = until.min(next_watchdog);
            }
            if self.supervisor.state() == SupervisorState::Ending {
                until = until.min(now + POLL_INTERVAL);
            }
            // A freeze is decided only after the pending read of the heartbeat file.
            if until <= now
                && let Some((_, read_until)) = self.health_checks.heartbeat.pending(now)
            {
                until = read_until;
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
            self.reporter.report(&self.supervisor, self.clock.now());
        }
        self.finish();
        ended.unwrap_or_default()
    }

    fn wait(&self, until: Moment, now: Moment) {
        let mut fds = vec![
            PollFd::new(self.signals.get_read(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN),
        ];
        // A pending read needs a wake-up only if a decision depends on it.
        let pending_read = self.health_checks.heartbeat.pending(now).filter(|_| self.supervisor.deadline() <= now);
        fds.extend(pending_read.map(|(fd, _)| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        // The kernel rounds a timeout up, and waits without end if there is none.
        let time = (until != Moment::NEVER).then(|| until.since(now));
        let time = time.and_then(|time| Timespec::try_from(time).ok());
        let _ = poll(&mut fds, time.as_ref());
    }

    /// Stops the program and this process until the shell continues them; returns the length of the pause. Ctrl-Z signals
    /// only one of them, because they are in different process groups.
    fn pause(&mut self) -> Duration {
        let began = self.clock.now();
        self.health_checks.report(&mut self.supervisor, began);
        let can_pause = process_tree::can_pause();
        if can_pause {
            self.processes.signal(SIGSTOP);
            self.take_back_terminal();
            let _ = kill_process(getpid(), Signal::STOP);
        }
        // A program in the foreground continues at once if no shell could continue it.
        if can_pause || self.terminal.is_some() {
            self.lend_terminal();
            self.processes.signal(SIGCONT);
        }
        self.clock.now().since(began)
    }

    /// Lends the terminal to the program; returns whether the program has it.
    pub(crate) fn lend_terminal(&mut self) -> bool {
        let group = self.processes.tree.as_ref().map(ProcessTree::group);
        group.zip(self.terminal.as_mut()).is_some_and(|(group, terminal)| terminal.lend(group))
    }

    fn take_back_terminal(&mut self) {
        self.terminal.iter_mut().for_each(Terminal::take_back);
    }

    /// Handles a stop of the program by a signal.
    fn suspended(&mut self, signal: i32) -> Option<Event> {
        if self.terminal.is_none() {
            return Some(Event::Suspended(signal));
        }
        // The program used the terminal before the terminal was lent to it.
        if matches!(signal, SIGTTIN | SIGTTOU) && self.lend_terminal() {
            self.processes.signal(SIGCONT);
            return None;
        }
        Some(Event::Paused(self.pause()))
    }

    /// Returns the events since the last call. Notifications come before the end of the program.
    fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for (sender, message) in
            std::iter::from_fn(|| self.listener.receive()).take(MAX_NOTIFICATIONS).collect::<Vec<_>>()
        {
            if self.trusts(sender) {
                message.into_iter().for_each(|notification| self.notified(notification, &mut events));
            }
        }
        for signal in self.signals.pending().collect::<Vec<_>>() {
            match signal {
                SIGCHLD => {}
                SIGWINCH => self.resized(),
                SIGTSTP => events.push(Event::Paused(self.pause())),
                SIGTERM | SIGINT | SIGQUIT => events.push(Event::StopRequested(StopRequest(signal))),
                signal => events.push(Event::Forward(signal)),
            }
        }
        self.reap(&mut events);
        self.processes.signal_orphans();
        if self.supervisor.waits_for_tree() && self.processes.is_tree_gone() {
            events.push(Event::TreeGone);
        }
        let now = self.clock.now();
        if now >= self.supervisor.deadline() {
            // Health checks do not matter while the program stops or waits for a restart.
            let watched = [SupervisorState::Starting, SupervisorState::Running, SupervisorState::Suspended];
            let is_watched = watched.contains(&self.supervisor.state());
            if !is_watched || self.health_checks.report(&mut self.supervisor, now) {
                events.push(Event::Tick);
            }
        }
        events
    }

    /// Whether the program or root sent a notification. Only the first untrusted sender is logged, because a sender could
    /// flood the log.
    fn trusts(&mut self, sender: Sender) -> bool {
        let named = self.plan.user.as_ref().map(|user| user.uid);
        let users: Vec<u32> =
            self.processes.tree.as_ref().and_then(ProcessTree::user).into_iter().chain(named).collect();
        let is_trusted = sender.is_trusted(&self.processes.known(), &users);
        if !is_trusted && !std::mem::replace(&mut self.untrusted_logged, true) {
            let pid = sender.pid.map_or_else(|| "an unknown process".to_owned(), |pid| format!("process {pid}"));
            let what = format!("notification ignored: {pid} of user {} is not the program's", sender.uid);
            self.reporter.log(&LogEvent::Trouble { what });
        }
        is_trusted
    }

    fn notified(&mut self, notification: Notification, events: &mut Vec<Event>) {
        events.push(match notification {
            Notification::Ready => Event::Ready,
            Notification::Trigger => Event::Trigger,
            Notification::Stopping => Event::Stopping,
            Notification::Extend(time) => Event::Extend(time),
            Notification::WatchdogTime(time) => Event::WatchdogTime(time),
            Notification::Alive => return self.supervisor.check_passed(Source::Notify, self.clock.now()),
            Notification::Status(text) => return self.reporter.status_text(text),
        });
    }

    fn reap(&mut self, events: &mut Vec<Event>) {
        while let Some((pid, change)) = process_tree::next_change() {
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
                let tree_left = !self.processes.is_tree_gone();
                self.drain();
                // Restores the terminal's modes, which the program may have changed, before the next log line.
                self.take_back_terminal();
                Some(Event::Exited { exit, tree_left })
            }
            Ended::Hook => {
                if !exit.is_success() {
                    self.reporter.log(&LogEvent::HookFailed { error: exit.to_string() });
                }
                Some(Event::HookEnded)
            }
            Ended::Guard => {
                let event = self.processes.restart_guard(exit, self.clock.now());
                event.iter().for_each(|event| self.reporter.log(event));
                None
            }
            Ended::Other => None,
        }
    }

    /// Copies the size of the supervisor's terminal to the program's pseudo-terminal. The kernel sends no SIGWINCH to the
    /// program, because its pseudo-terminal controls no session.
    fn resized(&self) {
        if self.pumps.iter().filter(|pump| pump.resize()).count() > 0 {
            self.processes.signal_program(SIGWINCH);
        }
    }

    pub(crate) fn perform(&mut self, actions: Vec<Action>) -> Option<u8> {
        let mut ended = None;
        for action in actions {
            match action {
                Action::Log(event) => {
                    match event {
                        LogEvent::StopRequested(_) => self.reporter.stopping(),
                        LogEvent::Started { .. } => self.reporter.clear_status_text(),
                        _ => {}
                    }
                    self.reporter.log(&event);
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

    /// Ends the supervisor. Before that it waits until all output of the program has been forwarded, as the program itself
    /// would have waited for a slow reader. A signal to stop ends the wait.
    fn finish(mut self) {
        let began = self.clock.now();
        // A process that survived SIGKILL may hold the pipe open for ever.
        let is_limited = self.processes.abandoned || self.supervisor.stop_was_requested();
        let until = if is_limited { began + self.plan.grace } else { Moment::NEVER };
        let mut pause = Duration::from_millis(1);
        while self.pumps.iter().any(|pump| !pump.is_finished()) && self.clock.now() < until {
            if self.reporter.watchdog().is_some() {
                self.reporter.notify_watchdog();
            }
            let now = self.clock.now();
            self.wait(now + pause, now);
            let _ = std::iter::from_fn(|| self.listener.receive()).take(MAX_NOTIFICATIONS).count();
            if self.signals.pending().any(|signal| matches!(signal, SIGTERM | SIGINT | SIGQUIT | SIGHUP)) {
                break;
            }
            pause = (pause * 2).min(POLL_INTERVAL);
        }
        self.processes.dismiss_guard();
        self.plan.folder.remove();
        self.reporter.finish(!self.supervisor.has_failed());
    }
}
