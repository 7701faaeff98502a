//! Starts the program and the --on-freeze command.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Pid;

use super::event::Event;
use super::event_loop::EventLoop;
use super::freeze_detector::Source;
use super::log::Stream;
use super::log_event::LogEvent;
use super::output_pump::OutputPump;
use super::process_tree;
use super::pty;

/// How long the supervisor waits for the last output of a program that ended.
const DRAIN: Duration = Duration::from_millis(250);

impl EventLoop {
    /// Makes the private folder again if it is gone: other programs delete temporary files.
    fn renew_folder(&mut self) {
        match self.plan.folder.renew() {
            Ok(None) => {}
            Ok(Some(listener)) => self.listener = listener,
            Err(error) => {
                self.reporter.log(&LogEvent::Trouble { what: format!("the private folder is gone: {error}") });
            }
        }
    }

    pub(crate) fn spawn(&mut self) -> Event {
        self.renew_folder();
        let mut command = self.plan.command(self.supervisor.starts());
        let streams = match self.redirect(&mut command) {
            Ok(streams) => streams,
            Err(error) => {
                return Event::NotStarted {
                    error: format!("no pipe or pseudo-terminal for the output: {error}"),
                    code: 126,
                };
            }
        };
        let spawned = process_tree::spawn(&mut command);
        // The command holds the program's ends of the pipes. They must be closed, or the supervisor would never read end of file.
        drop(command);
        match spawned {
            Ok(child) => {
                self.processes.started(Pid::from_child(&child));
                self.lend_terminal();
                self.pumps.retain(|pump| !pump.is_finished());
                if let Some(streams) = streams {
                    self.pump(streams);
                }
                Event::Started { pid: child.id() }
            }
            Err(error) => {
                let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
                let program = self.plan.program.to_string_lossy().into_owned();
                Event::NotStarted { error: format!("{program}: {error}"), code }
            }
        }
    }

    /// Redirects the output of the program if the supervisor reads it; returns the ends to read from.
    fn redirect(&self, command: &mut Command) -> io::Result<Option<[OwnedFd; 2]>> {
        let is_read = self.plan.watch.is_required(Source::Output);
        if !self.plan.tty && !is_read {
            return Ok(None);
        }
        let open = || -> io::Result<(OwnedFd, OwnedFd)> {
            let (ours, theirs) = if self.plan.tty { pty::open()? } else { pipe()? };
            // A program of another user needs this to open /dev/stdout again.
            if let Some(user) = &self.plan.user {
                user.own(&theirs)?;
            }
            Ok((ours, theirs))
        };
        let ((stdout, their_stdout), (stderr, their_stderr)) = (open()?, open()?);
        command.stdout(their_stdout).stderr(their_stderr);
        // Python writes blocks of 8 KiB into a pipe, and would seem frozen.
        if !self.plan.tty && std::env::var_os("PYTHONUNBUFFERED").is_none() {
            command.env("PYTHONUNBUFFERED", "1");
        }
        Ok(Some([stdout, stderr]))
    }

    fn pump(&mut self, [stdout, stderr]: [OwnedFd; 2]) {
        for (from, to) in [(stdout, Stream::Stdout), (stderr, Stream::Stderr)] {
            match OutputPump::start(from, to, self.health_checks.output.clone(), self.reporter.log.clone()) {
                Ok(pump) => self.pumps.push(pump),
                Err(error) => {
                    self.reporter.log(&LogEvent::Trouble { what: format!("no thread for the output: {error}") });
                }
            }
        }
    }

    /// Waits until the output of the program has been forwarded, or for a short time if the reader does not read.
    pub(crate) fn drain(&self) {
        let until = self.clock.now() + DRAIN;
        while !self.pumps.iter().all(OutputPump::is_drained) && self.clock.now() < until {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    pub(crate) fn run_hook(&mut self, pid: u32, inactive: Duration, source: Source) {
        let Some(hook) = &self.plan.on_freeze else { return };
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(hook)
            .stdin(Stdio::null())
            // The guard finds the command by this variable.
            .env("NOTIFY_SOCKET", self.plan.folder.socket())
            .env("BACKSTAY_PID", pid.to_string())
            .env("BACKSTAY_NAME", &self.plan.name)
            .env("BACKSTAY_SOURCE", source.as_str())
            .env("BACKSTAY_INACTIVE", format!("{:.3}", inactive.as_secs_f64()));
        // Only the program writes to standard output.
        if let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned() {
            command.stdout(stderr);
        }
        match process_tree::spawn(&mut command) {
            Ok(child) => self.processes.hook = Some(Pid::from_child(&child)),
            Err(error) => {
                self.reporter.log(&LogEvent::HookFailed { error: error.to_string() });
                let now = self.clock.now();
                let actions = self.supervisor.on(Event::HookEnded, now);
                let _ = self.perform(actions);
            }
        }
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = io::pipe()?;
    Ok((ours.into(), theirs.into()))
}
