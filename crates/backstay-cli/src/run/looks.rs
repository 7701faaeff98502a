//! Looking at the program's heartbeat file, which may be on a file system that hangs.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use backstay::clock::{Clock, Moment};

use super::background::Task;
use super::signs::{Beat, BeatFile};

/// Longer than a look takes on a good day: what comes meanwhile needs no second waking.
const AT_ONCE: Duration = Duration::from_millis(50);

/// What came of a look.
#[derive(Debug, PartialEq)]
pub(crate) enum Look {
    /// What the file says. It says nothing, or the file system hangs for longer than it may.
    Seen(Option<Beat>),
    /// Not yet known.
    Pending,
}

/// One look at a time.
#[derive(Debug)]
pub(crate) struct Looks {
    file: BeatFile,
    clock: Clock,
    /// How long a look may take before its file says nothing.
    limit: Duration,
    task: Option<Task<Option<Beat>>>,
    until: Moment,
}

impl Looks {
    pub(crate) fn new(file: BeatFile, clock: Clock, timeout: Duration) -> Self {
        // A slow file system is no freeze; one that hangs is not to hide one for ever.
        let limit = timeout.clamp(Duration::from_secs(1), Duration::from_secs(10));
        Self { file, clock, limit, task: None, until: Moment::NEVER }
    }

    /// The heartbeat file.
    pub(crate) fn path(&self) -> &Path {
        &self.file.path
    }

    /// Looks, or asks what came of the last look where that is not known yet.
    pub(crate) fn look(&mut self, now: Moment) -> Look {
        let wait = if self.task.is_none() { AT_ONCE } else { Duration::ZERO };
        if self.task.is_none() {
            let (file, clock) = (self.file.clone(), self.clock.clone());
            self.until = now + self.limit;
            match Task::start(move || file.look(clock.now())) {
                Ok(task) => self.task = Some(task),
                // No thread: better to look here than to take a healthy program for frozen.
                Err(_) => return Look::Seen(self.file.look(now)),
            }
        }
        match self.task.as_ref().and_then(|task| task.result(wait)) {
            Some(beat) => {
                self.task = None;
                Look::Seen(beat)
            }
            None if now < self.until => Look::Pending,
            None => Look::Seen(None),
        }
    }

    /// What to wait for, and until when, while a look is pending.
    pub(crate) fn pending(&self, now: Moment) -> Option<(BorrowedFd<'_>, Moment)> {
        self.task.as_ref().filter(|_| now < self.until).map(|task| (task.as_fd(), self.until))
    }
}
