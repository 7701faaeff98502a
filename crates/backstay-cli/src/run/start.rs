//! Starts the program, and the command for freezes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Pid;

use super::event::Event;
use super::family::{self, Family};
use super::life::Source;
use super::log::Stream;
use super::news::News;
use super::pty;
use super::shell::Shell;
use super::signs::Pump;

/// How long the end of the program waits for its last output to be passed on.
const DRAIN: Duration = Duration::from_millis(250);

impl Shell {
    /// Somebody tidied up where temporary files are.
    fn renew_folder(&mut self) {
        match self.plan.folder.renew() {
            Ok(None) => {}
            Ok(Some(ear)) => self.ear = ear,
            Err(error) => self.reporter.tell(&News::Trouble { what: format!("the private folder is gone: {error}") }),
        }
    }

    pub(crate) fn spawn(&mut self) -> Event {
        self.renew_folder();
        let mut command = self.plan.command(&self.beats.path, self.supervisor.starts());
        let streams = match self.redirect(&mut command) {
            Ok(streams) => streams,
            Err(error) => return Event::NotStarted { error: format!("no pseudo-terminal: {error}"), code: 126 },
        };
        let spawned = family::spawn(&mut command);
        // It holds the program's ends, which have to be closed for the other ends to end.
        drop(command);
        match spawned {
            Ok(mut child) => {
                let program = Pid::from_child(&child);
                self.family = Some(Family::of(program));
                self.lend_terminal();
                if let Some(guard) = &mut self.guard {
                    guard.watch(Some(program));
                }
                self.pumps.retain(|pump| !pump.is_finished());
                let piped = || Some([child.stdout.take()?.into(), child.stderr.take()?.into()]);
                if let Some(streams) = streams.or_else(piped) {
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

    /// Directs the output of the program to where we read it, if we do; our ends, where they are terminals.
    fn redirect(&self, command: &mut Command) -> io::Result<Option<[OwnedFd; 2]>> {
        if self.plan.tty {
            let (stdout, theirs) = pty::open()?;
            command.stdout(theirs);
            let (stderr, theirs) = pty::open()?;
            command.stderr(theirs);
            return Ok(Some([stdout, stderr]));
        }
        if self.plan.watch.is_required(Source::Output) {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            // Into a pipe Python writes in blocks of 8 KiB: it would seem frozen.
            if std::env::var_os("PYTHONUNBUFFERED").is_none() {
                command.env("PYTHONUNBUFFERED", "1");
            }
        }
        Ok(None)
    }

    fn pump(&mut self, [stdout, stderr]: [OwnedFd; 2]) {
        for (from, to) in [(stdout, Stream::Stdout), (stderr, Stream::Stderr)] {
            match Pump::start(from, to, self.output.clone(), self.reporter.log.clone()) {
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
            // By which the guard knows it.
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
            Ok(child) => self.hook = Some(Pid::from_child(&child)),
            Err(error) => {
                self.reporter.tell(&News::HookFailed { error: error.to_string() });
                let now = self.clock.now();
                let actions = self.supervisor.on(Event::HookEnded, now);
                let _ = self.perform(actions);
            }
        }
    }
}
