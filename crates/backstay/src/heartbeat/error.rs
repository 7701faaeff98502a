//! Errors of the heartbeat.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backstay_core::heartbeat::MAX_FILE_SIZE;
use thiserror::Error;

/// Why a heartbeat could not be read, written or started.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum HeartbeatError {
    /// The state file does not exist. The service has never started, or it runs elsewhere.
    #[error("heartbeat {} does not exist", path.display())]
    Missing {
        /// The state file.
        path: PathBuf,
    },
    /// The file does not contain a valid heartbeat.
    #[error("{} is not a valid heartbeat: {reason}", path.display())]
    Damaged {
        /// The state file.
        path: PathBuf,
        /// Why it is invalid.
        reason: String,
    },
    /// The state takes more than [`MAX_FILE_SIZE`] bytes.
    #[error("heartbeat {} is larger than the maximum of {MAX_FILE_SIZE} bytes", path.display())]
    TooLarge {
        /// The state file.
        path: PathBuf,
    },
    /// The path is a folder, a pipe, a device or a socket.
    #[error("heartbeat {} is not a regular file", path.display())]
    NotAFile {
        /// The state file.
        path: PathBuf,
    },
    /// The file could not be read.
    #[error("failed to read heartbeat {}: {error}", path.display())]
    Read {
        /// The state file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        error: Arc<io::Error>,
    },
    /// The file could not be written.
    #[error("failed to write heartbeat {}: {error}", path.display())]
    Write {
        /// The state file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        error: Arc<io::Error>,
    },
    /// Another heartbeat writes the file, and this one is [exclusive](super::HeartbeatBuilder::exclusive).
    #[error("heartbeat {} is already written by process {pid} on {hostname}; stop that one or use another file",
        path.display())]
    Taken {
        /// The state file.
        path: PathBuf,
        /// Id of the process that writes it.
        pid: u32,
        /// Host on which that process runs.
        hostname: String,
    },
    /// The heartbeat is already running.
    #[error("heartbeat is already running")]
    AlreadyRunning,
    /// The heartbeat was stopped. No beat may follow its final one until it is started again.
    #[error("heartbeat is stopped; start it again first")]
    Stopped,
    /// The system could not start the heartbeat's thread.
    #[error("failed to start the heartbeat's thread: {0}")]
    NoThread(#[source] Arc<io::Error>),
}

impl HeartbeatError {
    /// Returns the error of a failed read.
    pub(super) fn read(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            _ => Self::Read { path, error: Arc::new(error) },
        }
    }
}
