//! Two heartbeats on one file: each would overwrite what the other says.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process;

use backstay_core::heartbeat::{Host, Process, Rival, tolerated_age};

use super::file;
use super::host;
use super::{HeartbeatError, HeartbeatState};
use crate::log::log_in_background;
use crate::per_process::PerProcess;
use crate::sync::Mutex;

/// What a heartbeat knows of others on its file, from beat to beat.
#[derive(Debug, Default)]
pub(super) struct Rivals {
    /// The digest of the file as this heartbeat last wrote it.
    wrote: Option<u64>,
    /// The digest of the file as this heartbeat last wrote or saw it: another one is news.
    seen: Option<u64>,
    /// What the last one that certainly runs has written.
    known: Option<HeartbeatState>,
    /// Process and host of the last one that was told.
    told: Option<(u32, String)>,
}

/// Another heartbeat on the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) pid: u32,
    pub(super) hostname: String,
    pub(super) is_certain: bool,
    /// It was not found before.
    pub(super) is_new: bool,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}", self.pid, self.hostname)
    }
}

impl Found {
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

impl Rivals {
    /// This heartbeat has written the file.
    pub(super) fn wrote(&mut self, digest: u64) {
        self.wrote = Some(digest);
        self.seen = self.wrote;
    }

    /// Looks for another heartbeat on the file before this one, `claim`, writes it.
    ///
    /// One in this process counts where it was started before this one, so that of two that start at once exactly one
    /// finds the other. Before the `farewell` it counts whenever it was started; and one that was found before counts
    /// while its process runs, although this heartbeat wrote last.
    pub(super) fn look(&mut self, path: &Path, here: &Host, claim: usize, farewell: bool) -> Option<Found> {
        let claims = claimed(path);
        let others = if farewell { &*claims } else { &claims[..claims.len().min(1)] };
        if others.iter().any(|other| *other != claim) {
            return Some(self.certain(process::id(), here.hostname.clone()));
        }
        let found = self.look_at_file(path, here);
        let known = self.known.take_if(|_| farewell && found.is_none());
        found.or_else(|| self.judge(known?, here, false))
    }

    fn look_at_file(&mut self, path: &Path, here: &Host) -> Option<Found> {
        let (digest, state) = file::read_with_digest(path).ok()?;
        if self.wrote == Some(digest) {
            return None;
        }
        let news = self.seen.is_some_and(|seen| seen != digest);
        self.seen = Some(digest);
        self.judge(state, here, news)
    }

    fn judge(&mut self, state: HeartbeatState, here: &Host, news: bool) -> Option<Found> {
        let beat = state.as_beat();
        let is_local = beat.pid_means_the_same(here);
        // Of this process without news: it wrote that before an `exec`, or by a heartbeat that is no more.
        if is_local && state.pid == process::id() && !news {
            return None;
        }
        let process = if is_local { host::process(state.pid) } else { Process::Unknown };
        let liveness = state.liveness(tolerated_age(state.interval));
        let (pid, hostname) = (state.pid, state.hostname.clone());
        match beat.rival(here, liveness, process, news) {
            Rival::No => None,
            Rival::Possible => Some(Found { pid, hostname, is_certain: false, is_new: false }),
            Rival::Certain => {
                self.known = Some(state);
                Some(self.certain(pid, hostname))
            }
        }
    }

    fn certain(&mut self, pid: u32, hostname: String) -> Found {
        let rival = (pid, hostname.clone());
        let is_new = self.told.as_ref() != Some(&rival);
        self.told = Some(rival);
        Found { pid, hostname, is_certain: true, is_new }
    }
}

type Claims = Mutex<Vec<(usize, PathBuf)>>;

/// The files that running heartbeats of this process write, in the order in which those were started. A forked child
/// begins with none.
static CLAIMS: PerProcess<Claims> = PerProcess::new();

/// What tells the heartbeats of this process apart, as long as they run.
pub(super) fn claimant<T>(heartbeat: &T) -> usize {
    std::ptr::from_ref(heartbeat).addr()
}

fn claimed(path: &Path) -> Vec<usize> {
    let claims = CLAIMS.get().lock();
    claims.iter().filter(|(_, other)| other == path).map(|(claim, _)| *claim).collect()
}

/// A running heartbeat writes a file, until this is dropped.
pub(super) struct Claim {
    claim: usize,
    path: PathBuf,
}

impl Claim {
    pub(super) fn new(claim: usize, path: &Path) -> Self {
        CLAIMS.get().lock().push((claim, path.to_owned()));
        Self { claim, path: path.to_owned() }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claims = CLAIMS.get().lock();
        // The last of them: an earlier run of the same heartbeat may still be ending, and stays first.
        if let Some(ours) = claims.iter().rposition(|(claim, path)| *claim == self.claim && *path == self.path) {
            claims.remove(ours);
        }
    }
}
