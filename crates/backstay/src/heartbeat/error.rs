//! What can go wrong with a heartbeat.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backstay_core::heartbeat::MAX_FILE_SIZE;
use thiserror::Error;

/// Why a heartbeat could not be read or written, or not be started.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum HeartbeatError {
    /// There is no such file. The service never started, or runs elsewhere.
    #[error("{} does not exist", path.display())]
    Missing {
        /// The state file.
        path: PathBuf,
    },
    /// What the file holds is not a heartbeat.
    #[error("{} is not a heartbeat: {reason}", path.display())]
    Damaged {
        /// The state file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The state takes more than [`MAX_FILE_SIZE`] bytes.
    #[error("{} is larger than a heartbeat can be ({MAX_FILE_SIZE} bytes)", path.display())]
    TooLarge {
        /// The state file.
        path: PathBuf,
    },
    /// There is something else of that name: a folder, a pipe, a device.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The state file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// The state file.
        path: PathBuf,
        /// What it said.
        #[source]
        error: Arc<io::Error>,
    },
    /// Another heartbeat writes the file, and this one is [exclusive](super::HeartbeatBuilder::exclusive).
    #[error("heartbeat {} is already written by process {pid} on {hostname}; stop that one or use another file",
        path.display())]
    Taken {
        /// The state file.
        path: PathBuf,
        /// The process that writes it.
        pid: u32,
        /// Where that process runs.
        hostname: String,
    },
    /// The heartbeat is running already.
    #[error("the heartbeat is running already")]
    AlreadyRunning,
    /// The heartbeat was stopped: nothing may follow the farewell until it is started again.
    #[error("the heartbeat was stopped; start it again first")]
    Stopped,
    /// The operating system gave no thread to beat on.
    #[error("no thread for the heartbeat: {0}")]
    NoThread(#[source] Arc<io::Error>),
}

impl HeartbeatError {
    pub(super) fn io(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            _ => Self::Io { path, error: Arc::new(error) },
        }
    }
}
