//! Signs of life that are looked for only when one is due: a quiet program costs nothing.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use backstay::Heartbeat;
use backstay::clock::{Clock, Moment};
use backstay::heartbeat::{DegradedBy, Liveness, Status};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::ioctl_fionread;

use super::life::Source;
use super::log::{Log, Stream};
use super::looks::{Look, Looks};
use super::news::News;
use super::pty;
use super::supervisor::Supervisor;

/// When something last happened; written by a thread, looked at by ours.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastSeen(Arc<AtomicU64>);

impl LastSeen {
    pub(crate) fn note(&self, now: Moment) {
        self.0.store(now.as_nanos(), Ordering::Relaxed);
    }

    pub(crate) fn last(&self) -> Moment {
        Moment::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// The heartbeat file of the program.
#[derive(Clone, Debug)]
pub(crate) struct BeatFile {
    pub(crate) path: PathBuf,
    pub(crate) strictness: Strictness,
}

/// Which heartbeats with status `degraded` count as those of a frozen program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// None.
    Lenient,
    /// Those of a watchdog that has fired.
    Watchdog,
    /// All.
    Strict,
}

/// What the heartbeat file of a program that is alive says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Beat {
    /// The program is alive: time of the heartbeat.
    Alive(Moment),
    /// A background thread reports that the program is frozen: time of that heartbeat.
    Frozen(Moment),
}

impl BeatFile {
    pub(crate) fn look(&self, now: Moment) -> Option<Beat> {
        let state = Heartbeat::read_state(&self.path).ok()?;
        let Liveness::Alive { age } = state.liveness(Duration::MAX) else { return None };
        let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        let at = Moment::from_nanos(now.as_nanos().saturating_sub(age));
        let is_frozen = self.strictness.is_frozen(state.status, state.degraded_by);
        Some(if is_frozen { Beat::Frozen(at) } else { Beat::Alive(at) })
    }
}

impl Strictness {
    /// A program that sets `degraded` itself, or because of a dead target, runs; one whose watchdog has fired does not.
    fn is_frozen(self, status: Option<Status>, cause: Option<DegradedBy>) -> bool {
        status == Some(Status::Degraded)
            && match self {
                Self::Lenient => false,
                Self::Watchdog => cause == Some(DegradedBy::Watchdog),
                Self::Strict => true,
            }
    }
}

/// All signs of life of the program but its notifications.
pub(crate) struct Signs {
    pub(crate) looks: Looks,
    /// Of the output.
    pub(crate) output: LastSeen,
    /// Of each health URL.
    pub(crate) health: Vec<LastSeen>,
}

impl Signs {
    /// Reports the last signs of life to the supervisor. False while the heartbeat file has not answered.
    pub(crate) fn look(&mut self, supervisor: &mut Supervisor, now: Moment) -> bool {
        let (beat, is_known) = match self.looks.look(now) {
            Look::Seen(beat) => (beat, true),
            Look::Pending => (None, false),
        };
        match beat {
            Some(Beat::Alive(at)) => supervisor.sign(Source::Heartbeat, at),
            Some(Beat::Frozen(at)) => supervisor.is_frozen(Source::Heartbeat, at),
            None => {}
        }
        supervisor.sign(Source::Output, self.output.last());
        // All must pass: the one that was silent for the longest time counts.
        if let Some(at) = self.health.iter().map(LastSeen::last).min() {
            supervisor.sign(Source::Http, at);
        }
        is_known
    }
}

/// As much as a pipe holds.
const CHUNK: usize = 64 * 1024;

/// Passes on what the program writes, byte for byte, on a thread of its own: a slow reader slows the program down as it
/// would without us, and not the supervisor.
///
/// # Memory ordering
///
/// `busy` is set before a chunk is taken from the pipe and cleared after it was written. [`Pump::is_drained`] looks at the
/// pipe first and at `busy` then: a chunk that is not in the pipe any more has set it. The release store before the read
/// pairs with the acquire load after the look at the pipe.
#[derive(Debug)]
pub(crate) struct Pump {
    thread: JoinHandle<()>,
    /// What the thread reads. The thread closes it at its end: the program's next write fails with EPIPE.
    source: Weak<File>,
    is_terminal: bool,
    busy: Arc<AtomicBool>,
}

impl Pump {
    pub(crate) fn start(from: OwnedFd, to: Stream, seen: LastSeen, log: Log) -> io::Result<Self> {
        let is_terminal = from.is_terminal();
        let source = Arc::new(File::from(from));
        let reading = Arc::downgrade(&source);
        let target = File::from(to.try_clone()?);
        let busy = Arc::new(AtomicBool::new(false));
        let passing = Passing { source, target, to, busy: Arc::clone(&busy), seen, log };
        let thread = std::thread::Builder::new().name("backstay-output".to_owned()).stack_size(2 * CHUNK);
        Ok(Self { thread: thread.spawn(move || passing.run())?, source: reading, is_terminal, busy })
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Gives a pseudo-terminal the size of ours. False where the output is a pipe.
    pub(crate) fn resize(&self) -> bool {
        self.is_terminal && self.source.upgrade().is_some_and(|source| pty::copy_size(&source).is_ok())
    }

    /// Whether everything that was written so far has been passed on. The kernel moves what is written to a terminal
    /// later than the write, so that only its end is certain.
    pub(crate) fn is_drained(&self) -> bool {
        self.source.upgrade().is_none_or(|source| {
            !self.is_terminal
                && ioctl_fionread(&source).is_ok_and(|waiting| waiting == 0)
                && !self.busy.load(Ordering::Acquire)
        })
    }
}

struct Passing {
    source: Arc<File>,
    target: File,
    to: Stream,
    busy: Arc<AtomicBool>,
    seen: LastSeen,
    log: Log,
}

impl Passing {
    fn run(mut self) {
        let clock = Clock::system();
        let mut chunk = vec![0; CHUNK];
        let mut lost = false;
        loop {
            // Without a timeout; an error shows in the read.
            let _ = poll(&mut [PollFd::new(&self.source, PollFlags::IN)], None);
            self.busy.store(true, Ordering::Release);
            match (&*self.source).read(&mut chunk) {
                Ok(0) => return,
                Ok(length) => {
                    self.seen.note(clock.now());
                    let (target, bytes) = (&mut self.target, &chunk[..length]);
                    match self.log.pass_on(self.to, || write_all(target, bytes), bytes[length - 1]) {
                        Ok(()) => {}
                        // The reader is gone: the program's own pipe breaks, as it would without us.
                        Err(error) if error.kind() == ErrorKind::BrokenPipe => return,
                        // A disk may have room again.
                        Err(error) if !lost => {
                            lost = true;
                            let what = format!("output of the program is lost: {error}");
                            self.log.tell(&News::Trouble { what });
                        }
                        Err(_) => {}
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Also the end of a pseudo-terminal that no process has open any more.
                Err(_) => return,
            }
            self.busy.store(false, Ordering::Release);
        }
    }
}

/// Also where another process has made the shared stream non-blocking.
fn write_all(to: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let _ = poll(&mut [PollFd::new(&*to, PollFlags::OUT)], None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // HB-8: a fired watchdog is told from a dead target and from what the program says of itself.
    #[test]
    fn a_fired_watchdog_is_a_freeze_and_other_causes_are_not() {
        let degraded = Some(Status::Degraded);
        let causes = [Some(DegradedBy::Watchdog), Some(DegradedBy::Target), Some(DegradedBy::Service), None];
        for (strictness, frozen) in [
            (Strictness::Lenient, [false, false, false, false]),
            (Strictness::Watchdog, [true, false, false, false]),
            (Strictness::Strict, [true, true, true, true]),
        ] {
            assert_eq!(causes.map(|cause| strictness.is_frozen(degraded, cause)), frozen, "{strictness:?}");
            assert!(!strictness.is_frozen(Some(Status::Ready), None));
        }
    }
}
