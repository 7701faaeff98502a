//! Forwards the output of the program, and notes when the program last wrote.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use backstay::clock::Clock;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::ioctl_fionread;

use super::health_checks::LastSeen;
use super::log::{Log, Stream};
use super::log_event::LogEvent;
use super::pty;

/// Buffer size, in bytes: the default capacity of a pipe.
const CHUNK: usize = 64 * 1024;

/// Forwards one output stream of the program, byte for byte, on a thread of its own. A slow reader slows down the program,
/// as it would without the supervisor, and does not block the supervisor.
///
/// # Memory ordering
///
/// The thread sets `busy` before it reads a chunk from the pipe, and clears it after it has written the chunk.
/// [`OutputPump::is_drained`] checks the pipe first and `busy` second: a chunk that has left the pipe has set `busy`. The
/// release store before the read pairs with the acquire load after the check of the pipe.
#[derive(Debug)]
pub(crate) struct OutputPump {
    thread: JoinHandle<()>,
    /// The stream that the thread reads. The thread closes it when it ends; the program's next write then fails with EPIPE.
    source: Weak<File>,
    is_terminal: bool,
    busy: Arc<AtomicBool>,
}

impl OutputPump {
    pub(crate) fn start(from: OwnedFd, to: Stream, seen: LastSeen, log: Log) -> io::Result<Self> {
        let is_terminal = from.is_terminal();
        let source = Arc::new(File::from(from));
        let reading = Arc::downgrade(&source);
        let target = File::from(to.try_clone()?);
        let busy = Arc::new(AtomicBool::new(false));
        let forwarder = Forwarder { source, target, to, busy: Arc::clone(&busy), seen, log };
        let thread = std::thread::Builder::new().name("backstay-output".to_owned()).stack_size(2 * CHUNK);
        Ok(Self { thread: thread.spawn(move || forwarder.run())?, source: reading, is_terminal, busy })
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Copies the size of the supervisor's terminal to the pseudo-terminal. Returns false if the output is a pipe.
    pub(crate) fn resize(&self) -> bool {
        self.is_terminal && self.source.upgrade().is_some_and(|source| pty::copy_size(&source).is_ok())
    }

    /// Whether all output written so far has been forwarded. The kernel delivers output of a terminal some time after the
    /// write, so a terminal counts as drained only when it is closed.
    pub(crate) fn is_drained(&self) -> bool {
        self.source.upgrade().is_none_or(|source| {
            !self.is_terminal
                && ioctl_fionread(&source).is_ok_and(|waiting| waiting == 0)
                && !self.busy.load(Ordering::Acquire)
        })
    }
}

struct Forwarder {
    source: Arc<File>,
    target: File,
    to: Stream,
    busy: Arc<AtomicBool>,
    seen: LastSeen,
    log: Log,
}

impl Forwarder {
    fn run(mut self) {
        let clock = Clock::system();
        let mut chunk = vec![0; CHUNK];
        let mut loss_logged = false;
        loop {
            // No timeout; the read reports errors.
            let _ = poll(&mut [PollFd::new(&self.source, PollFlags::IN)], None);
            self.busy.store(true, Ordering::Release);
            match (&*self.source).read(&mut chunk) {
                Ok(0) => return,
                Ok(length) => {
                    self.seen.set(clock.now());
                    let (target, bytes) = (&mut self.target, &chunk[..length]);
                    match self.log.forward(self.to, || write_all(target, bytes), bytes[length - 1]) {
                        Ok(()) => {}
                        // The reader is gone: the program's pipe breaks too, as it would without the supervisor.
                        Err(error) if error.kind() == ErrorKind::BrokenPipe => return,
                        // Later writes may succeed: a full disk can get free space.
                        Err(error) if !loss_logged => {
                            loss_logged = true;
                            let what = format!("output of the program is lost: {error}");
                            self.log.write(&LogEvent::Trouble { what });
                        }
                        Err(_) => {}
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A pseudo-terminal that no process has open reports its end as an error.
                Err(_) => return,
            }
            self.busy.store(false, Ordering::Release);
        }
    }
}

/// Writes all bytes, also if another process has made the shared stream non-blocking.
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
