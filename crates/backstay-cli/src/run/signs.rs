//! Signs of life that are looked for only when one is due: a quiet program costs nothing.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{ChildStderr, ChildStdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use backstay::Heartbeat;
use backstay::clock::{Clock, Moment};
use backstay::heartbeat::{Liveness, Status};
use rustix::event::{PollFd, PollFlags, poll};

use super::log::Log;
use super::news::News;

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
#[derive(Debug)]
pub(crate) struct BeatFile {
    pub(crate) path: PathBuf,
    /// One that says `degraded` gives no sign of life.
    pub(crate) strict: bool,
}

impl BeatFile {
    /// When the last beat was written.
    pub(crate) fn last(&self, now: Moment) -> Option<Moment> {
        let state = Heartbeat::read_state(&self.path).ok()?;
        if self.strict && state.status == Some(Status::Degraded) {
            return None;
        }
        match state.liveness(Duration::MAX) {
            Liveness::Alive { age } => {
                let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
                Some(Moment::from_nanos(now.as_nanos().saturating_sub(age)))
            }
            _ => None,
        }
    }
}

/// Carries what the program writes to where we write, byte for byte, on a thread of its own: who reads slowly slows the
/// program as he would without us, and not the supervisor.
pub(crate) fn pump_stdout(from: ChildStdout, seen: LastSeen, log: Log) -> io::Result<JoinHandle<()>> {
    pump(from.into(), io::stdout().as_fd().try_clone_to_owned()?, seen, log)
}

/// As [`pump_stdout`].
pub(crate) fn pump_stderr(from: ChildStderr, seen: LastSeen, log: Log) -> io::Result<JoinHandle<()>> {
    pump(from.into(), io::stderr().as_fd().try_clone_to_owned()?, seen, log)
}

/// As much as a pipe holds.
const CHUNK: usize = 64 * 1024;

fn pump(from: OwnedFd, to: OwnedFd, seen: LastSeen, log: Log) -> io::Result<JoinHandle<()>> {
    let (mut from, mut to) = (File::from(from), File::from(to));
    let clock = Clock::system();
    std::thread::Builder::new().name("backstay-output".to_owned()).stack_size(CHUNK).spawn(move || {
        let mut chunk = vec![0; CHUNK];
        let mut lost = false;
        loop {
            match from.read(&mut chunk) {
                Ok(0) => return,
                Ok(length) => {
                    seen.note(clock.now());
                    match write_all(&mut to, &chunk[..length]) {
                        Ok(()) => {}
                        // Nobody reads any more: the program learns it as it would without us, by its own pipe.
                        Err(error) if error.kind() == ErrorKind::BrokenPipe => return,
                        // A disk may have room again.
                        Err(error) if !lost => {
                            lost = true;
                            log.tell(&News::Trouble { what: format!("output of the program is lost: {error}") });
                        }
                        Err(_) => {}
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    })
}

/// Also where somebody who shares the stream has made it non-blocking.
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
