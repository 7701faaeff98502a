//! Reads the program's heartbeat file, which may be on a file system that hangs.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::task::Poll;
use std::time::Duration;

use backstay::Heartbeat;
use backstay::clock::{Clock, Moment};
use backstay::heartbeat::{DegradedBy, Liveness, Status};

use super::background::Task;

/// How long a poll waits for a read that has just begun. Most reads end in this time and so need no second wake-up.
const AT_ONCE: Duration = Duration::from_millis(50);

/// The path of the program's heartbeat file, and how to read its status.
#[derive(Clone, Debug)]
pub(crate) struct HeartbeatFile {
    pub(crate) path: PathBuf,
    pub(crate) strictness: Strictness,
}

/// Which heartbeats with status `degraded` count as a freeze.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// None.
    Lenient,
    /// Heartbeats of a fired watchdog.
    Watchdog,
    /// All.
    Strict,
}

/// What the heartbeat file of a live program says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum FileState {
    /// The program is alive; the time of the heartbeat.
    Alive(Moment),
    /// A background thread of the program reports that the program is frozen; the time of the heartbeat.
    Frozen(Moment),
}

impl HeartbeatFile {
    /// Reads the file. `None` if it says nothing about a live program.
    fn read(&self, now: Moment) -> Option<FileState> {
        let state = Heartbeat::read_state(&self.path).ok()?;
        let Liveness::Alive { age } = state.liveness(Duration::MAX) else { return None };
        let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        let at = Moment::from_nanos(now.as_nanos().saturating_sub(age));
        let is_frozen = self.strictness.is_frozen(state.status, state.degraded_by);
        Some(if is_frozen { FileState::Frozen(at) } else { FileState::Alive(at) })
    }
}

impl Strictness {
    /// A fired watchdog means that the program does not run. A program that set `degraded` itself, or because its target is
    /// dead, does run.
    fn is_frozen(self, status: Option<Status>, cause: Option<DegradedBy>) -> bool {
        status == Some(Status::Degraded)
            && match self {
                Self::Lenient => false,
                Self::Watchdog => cause == Some(DegradedBy::Watchdog),
                Self::Strict => true,
            }
    }
}

/// Reads the heartbeat file on a background thread, one read at a time.
#[derive(Debug)]
pub(crate) struct HeartbeatPoller {
    file: HeartbeatFile,
    clock: Clock,
    /// How long a read may take; after that the file counts as silent.
    limit: Duration,
    task: Option<Task<Option<FileState>>>,
    until: Moment,
}

impl HeartbeatPoller {
    pub(crate) fn new(file: HeartbeatFile, clock: Clock, timeout: Duration) -> Self {
        // A slow file system is no freeze, and a file system that hangs must not hide a freeze for ever.
        let limit = timeout.clamp(Duration::from_secs(1), Duration::from_secs(10));
        Self { file, clock, limit, task: None, until: Moment::NEVER }
    }

    /// The heartbeat file.
    pub(crate) fn path(&self) -> &Path {
        &self.file.path
    }

    /// Begins a read, or checks the read that is pending. Ready with `None` if the file says nothing, or if the file system
    /// did not answer within the limit.
    pub(crate) fn poll(&mut self, now: Moment) -> Poll<Option<FileState>> {
        let wait = if self.task.is_none() { AT_ONCE } else { Duration::ZERO };
        if self.task.is_none() {
            let (file, clock) = (self.file.clone(), self.clock.clone());
            self.until = now + self.limit;
            match Task::start(move || file.read(clock.now())) {
                Ok(task) => self.task = Some(task),
                // There is no thread. A read that may block is better than a false freeze.
                Err(_) => return Poll::Ready(self.file.read(now)),
            }
        }
        match self.task.as_ref().and_then(|task| task.result(wait)) {
            Some(state) => {
                self.task = None;
                Poll::Ready(state)
            }
            None if now < self.until => Poll::Pending,
            None => Poll::Ready(None),
        }
    }

    /// The file descriptor to wait for while a read is pending, and until when to wait.
    pub(crate) fn pending(&self, now: Moment) -> Option<(BorrowedFd<'_>, Moment)> {
        self.task.as_ref().filter(|_| now < self.until).map(|task| (task.as_fd(), self.until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // HB-8: a fired watchdog differs from a dead target and from a status that the program set itself.
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
