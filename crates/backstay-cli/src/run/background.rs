//! Runs file system calls that may hang (a lost network, a FUSE server that does not answer) on a background thread. The
//! supervisor's thread waits for a limited time only, so that it can handle signals and freezes.

use std::io::{self, PipeReader};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// Work on a background thread. Dropping this does not stop the work; its result is then dropped.
#[derive(Debug)]
pub(crate) struct Task<T> {
    result: Receiver<T>,
    end: PipeReader,
}

impl<T: Send + 'static> Task<T> {
    pub(crate) fn start(work: impl FnOnce() -> T + Send + 'static) -> io::Result<Self> {
        let (end, working) = io::pipe()?;
        let (sender, result) = sync_channel(1);
        std::thread::Builder::new().name("backstay-files".to_owned()).spawn(move || {
            let _ = sender.send(work());
            // Closed after the send, so that the result is available when a poll returns.
            drop(working);
        })?;
        Ok(Self { result, end })
    }

    /// Waits for the result for at most `limit`. Returns it once.
    pub(crate) fn result(&self, limit: Duration) -> Option<T> {
        self.result.recv_timeout(limit).ok()
    }

    /// A file descriptor that becomes readable (end of file) when the result is available.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}

/// Runs `work`, and returns its result.
///
/// # Errors
/// The work did not end within `limit`, or its thread could not be started.
pub(crate) fn within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let hangs = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", limit.as_secs_f64()));
    Task::start(work)?.result(limit).ok_or_else(hangs)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    #[test]
    fn work_that_hangs_is_abandoned_after_the_limit() {
        assert_eq!(within(Duration::from_secs(60), || 7).unwrap(), 7);
        let (release, hang) = channel::<()>();
        let task = Task::start(move || hang.recv().is_err()).unwrap();
        assert_eq!(task.result(Duration::ZERO), None);
        drop(release);
        poll(&mut [PollFd::from_borrowed_fd(task.as_fd(), PollFlags::IN)], None).unwrap();
        assert_eq!(task.result(Duration::ZERO), Some(true), "the result is available at end of file");
    }
}
