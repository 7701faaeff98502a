//! Work that may hang in a file system (a network that is gone, a FUSE server that does not answer), on a background
//! thread: the supervisor's thread stops waiting for it in time, to obey signals and to see freezes.

use std::io::{self, PipeReader};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// Work that has begun. Dropped, it goes on, and its result is dropped where it comes to be.
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
            // Closed after the send: a poll that returns finds the result.
            drop(working);
        })?;
        Ok(Self { result, end })
    }

    /// The result, if it comes within `limit`; once.
    pub(crate) fn result(&self, limit: Duration) -> Option<T> {
        self.result.recv_timeout(limit).ok()
    }

    /// Can be read (as ended) when the result is there.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}

/// What `work` returns, if it does so within `limit`. An error says that it did not, or that there is no thread for it.
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
    fn what_hangs_is_not_waited_for() {
        assert_eq!(within(Duration::from_secs(60), || 7).unwrap(), 7);
        let (release, hang) = channel::<()>();
        let task = Task::start(move || hang.recv().is_err()).unwrap();
        assert_eq!(task.result(Duration::ZERO), None);
        drop(release);
        poll(&mut [PollFd::from_borrowed_fd(task.as_fd(), PollFlags::IN)], None).unwrap();
        assert_eq!(task.result(Duration::ZERO), Some(true), "it is there when the end is seen");
    }
}
