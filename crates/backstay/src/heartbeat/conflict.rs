//! Detects another heartbeat that writes the same file. Each would overwrite the other's beats.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process;

use backstay_core::heartbeat::{Conflict, Host, ProcessStatus, tolerated_age};

use super::file;
use super::host;
use super::{HeartbeatError, HeartbeatState};
use crate::log::log_in_background;
use crate::process::PerProcess;
use crate::sync::Mutex;

/// Detects other writers of a heartbeat's file, from beat to beat.
#[derive(Debug, Default)]
pub(super) struct ConflictDetector {
    /// Digest of the file as this heartbeat last wrote it.
    written: Option<u64>,
    /// Digest of the file as this heartbeat last wrote or read it. Another digest means a new beat.
    seen: Option<u64>,
    /// The beat of the last other writer that was certainly running.
    known: Option<HeartbeatState>,
    /// Process and host of the last other writer that was reported.
    reported: Option<(u32, String)>,
}

/// Another heartbeat that writes the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OtherWriter {
    pub(super) pid: u32,
    pub(super) hostname: String,
    pub(super) is_certain: bool,
    /// It has not been reported before.
    pub(super) is_new: bool,
}

impl fmt::Display for OtherWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}", self.pid, self.hostname)
    }
}

impl OtherWriter {
    pub(super) fn log(&self, path: Option<PathBuf>) {
        let (pid, hostname, path) = (self.pid, self.hostname.clone(), path.unwrap_or_default());
        log_in_background(move || {
            let path = path.display();
            tracing::warn!(target: "backstay", pid, hostname, %path, "another heartbeat writes the same file");
        });
    }

    pub(super) fn error(&self, path: &Path) -> HeartbeatError {
        HeartbeatError::Taken { path: path.to_owned(), pid: self.pid, hostname: self.hostname.clone() }
    }
}

impl ConflictDetector {
    /// Records that this heartbeat has written the file.
    pub(super) fn record_write(&mut self, digest: u64) {
        self.written = Some(digest);
        self.seen = self.written;
    }

    /// Checks for another writer, before this heartbeat (`claim`) writes the file.
    ///
    /// Another heartbeat of this process counts if it was started earlier, so that of two that start at the same time
    /// exactly one finds the other.
    ///
    /// Before the final beat (`is_final`) it counts in any case. So does a writer that was found earlier and that is
    /// still running, although this heartbeat wrote last.
    pub(super) fn check(&mut self, path: &Path, here: &Host, claim: usize, is_final: bool) -> Option<OtherWriter> {
        let claims = claimed(path);
        let others = if is_final { &*claims } else { &claims[..claims.len().min(1)] };
        if others.iter().any(|other| *other != claim) {
            return Some(self.certain(process::id(), here.hostname.clone()));
        }
        let found = self.check_file(path, here);
        let known = self.known.take_if(|_| is_final && found.is_none());
        found.or_else(|| self.check_beat(known?, here, false))
    }

    fn check_file(&mut self, path: &Path, here: &Host) -> Option<OtherWriter> {
        let (digest, state) = file::read_with_digest(path).ok()?;
        if self.written == Some(digest) {
            return None;
        }
        let is_new = self.seen.is_some_and(|seen| seen != digest);
        self.seen = Some(digest);
        self.check_beat(state, here, is_new)
    }

    fn check_beat(&mut self, state: HeartbeatState, here: &Host, is_new: bool) -> Option<OtherWriter> {
        let beat = state.as_beat();
        let is_local = beat.shares_pids_with(here);
        // An old beat of this process is of a dropped heartbeat or from before an `exec`.
        if is_local && state.pid == process::id() && !is_new {
            return None;
        }
        let process = if is_local { host::process(state.pid) } else { ProcessStatus::Unknown };
        let liveness = state.liveness(tolerated_age(state.interval));
        let (pid, hostname) = (state.pid, state.hostname.clone());
        match beat.conflict(here, liveness, process, is_new) {
            Conflict::No => None,
            Conflict::Possible => Some(OtherWriter { pid, hostname, is_certain: false, is_new: false }),
            Conflict::Certain => {
                self.known = Some(state);
                Some(self.certain(pid, hostname))
            }
        }
    }

    fn certain(&mut self, pid: u32, hostname: String) -> OtherWriter {
        let other = (pid, hostname.clone());
        let is_new = self.reported.as_ref() != Some(&other);
        self.reported = Some(other);
        OtherWriter { pid, hostname, is_certain: true, is_new }
    }
}

type Claims = Mutex<Vec<(usize, PathBuf)>>;

/// The files of this process's running heartbeats, in the order of their starts. A forked child starts with none.
static CLAIMS: PerProcess<Claims> = PerProcess::new();

/// Identifies a heartbeat within this process while it runs.
pub(super) fn claimant<T>(heartbeat: &T) -> usize {
    std::ptr::from_ref(heartbeat).addr()
}

fn claimed(path: &Path) -> Vec<usize> {
    let claims = CLAIMS.get().lock();
    claims.iter().filter(|(_, other)| other == path).map(|(claim, _)| *claim).collect()
}

/// Records that a running heartbeat writes a file, until this is dropped.
pub(super) struct FileClaim {
    claim: usize,
    path: PathBuf,
}

impl FileClaim {
    pub(super) fn new(claim: usize, path: &Path) -> Self {
        CLAIMS.get().lock().push((claim, path.to_owned()));
        Self { claim, path: path.to_owned() }
    }
}

impl Drop for FileClaim {
    fn drop(&mut self) {
        let mut claims = CLAIMS.get().lock();
        // The last entry: an earlier run of the same heartbeat may still be ending and keeps its place.
        if let Some(own) = claims.iter().rposition(|(claim, path)| *claim == self.claim && *path == self.path) {
            claims.remove(own);
        }
    }
}
