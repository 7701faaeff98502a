//! Starts the program and the --on-freeze command.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Pid;

use super::event::Event;
use super::family;
use super::life::Source;
use super::log::Stream;
use super::news::News;
use super::pty;
use super::shell::Shell;
use super::signs::Pump;

/// How long the end of the program waits for its last output to be passed on.
const DRAIN: Duration = Duration::from_millis(250);

impl Shell {
    /// The private folder may be gone: programs clean up where temporary files are.
    fn renew_folder(&mut self) {
        match self.plan.folder.renew() {
            Ok(None) => {}
            Ok(Some(ear)) => self.ear = ear,
            Err(error) => self.reporter.tell(&News::Trouble { what: format!("the private folder is gone: {error}") }),
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
        let spawned = family::spawn(&mut command);
        // It holds the program's ends, which have to be closed for the other ends to end.
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

    /// Directs the output of the program to where we read it, if we do; our ends.
    fn redirect(&self, command: &mut Command) -> io::Result<Option<[OwnedFd; 2]>> {
        let is_read = self.plan.watch.is_required(Source::Output);
        if !self.plan.tty && !is_read {
            return Ok(None);
        }
        let open = || -> io::Result<(OwnedFd, OwnedFd)> {
            let (ours, theirs) = if self.plan.tty { pty::open()? } else { pipe()? };
            // A program of another user may open /dev/stdout again.
            if let Some(user) = &self.plan.user {
                user.own(&theirs)?;
            }
            Ok((ours, theirs))
        };
        let ((stdout, their_stdout), (stderr, their_stderr)) = (open()?, open()?);
        command.stdout(their_stdout).stderr(their_stderr);
        // Into a pipe Python writes in blocks of 8 KiB: it would seem frozen.
        if !self.plan.tty && std::env::var_os("PYTHONUNBUFFERED").is_none() {
            command.env("PYTHONUNBUFFERED", "1");
        }
        Ok(Some([stdout, stderr]))
    }

    fn pump(&mut self, [stdout, stderr]: [OwnedFd; 2]) {
        for (from, to) in [(stdout, Stream::Stdout), (stderr, Stream::Stderr)] {
            match Pump::start(from, to, self.signs.output.clone(), self.reporter.log.clone()) {
                Ok(pump) => self.pumps.push(pump),
                Err(error) => self.reporter.tell(&News::Trouble { what: format!("no thread for the output: {error}") }),
            }
        }
    }

    /// Waits until what the program wrote has been passed on, but not for a reader that does not read.
    pub(crate) fn drain(&self) {
        let until = self.clock.now() + DRAIN;
        while !self.pumps.iter().all(Pump::is_drained) && self.clock.now() < until {
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
            // The guard finds it by this variable.
            .env("NOTIFY_SOCKET", self.plan.folder.socket())
            .env("BACKSTAY_PID", pid.to_string())
            .env("BACKSTAY_NAME", &self.plan.name)
            .env("BACKSTAY_SOURCE", source.as_str())
            .env("BACKSTAY_INACTIVE", format!("{:.3}", inactive.as_secs_f64()));
        // Standard output is the program's alone.
        if let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned() {
            command.stdout(stderr);
        }
        match family::spawn(&mut command) {
            Ok(child) => self.processes.hook = Some(Pid::from_child(&child)),
            Err(error) => {
                self.reporter.tell(&News::HookFailed { error: error.to_string() });
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
