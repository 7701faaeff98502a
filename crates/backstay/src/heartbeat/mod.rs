//! Writes and reads heartbeats: a small file that shows every few seconds that a service is alive.
//!
//! Each beat replaces the file atomically, so a reader never sees a partial file. The rules (when beats are due,
//! whether a beat's writer is alive) are in `backstay-core`. This module has the threads, the file and the system
//! calls.

mod builder;
mod callbacks;
mod conflict;
mod error;
mod file;
mod host;
mod inner;
mod process_state;
mod run;
mod state;
mod target;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use backstay_core::heartbeat::{
    DEFAULT_INTERVAL, DEFAULT_MAX_AGE, DegradedBy, INTERVAL_BOUNDS, INTERVAL_LIMITS, Liveness, MAX_AHEAD,
    MAX_FILE_SIZE, Status, tolerated_age,
};
use serde_json::{Map, Value};

pub use builder::HeartbeatBuilder;
pub use callbacks::TargetDeath;
pub use error::HeartbeatError;
pub use state::HeartbeatState;
pub use target::Target;

use crate::error::InvalidArgument;
use inner::HeartbeatInner;
use process_state::lock;

/// Writes a state file at an interval, which shows that this service is alive.
///
/// Clones share one heartbeat. It stops when [`stop`](Self::stop) is called or the last clone is dropped. A callback
/// that holds a clone keeps it running.
///
/// ```
/// use backstay::Heartbeat;
/// use std::time::Duration;
///
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("bot.heartbeat");
/// let heartbeat =
///     Heartbeat::builder().state_file(&path).interval(Duration::from_secs(10)).metadata([("version", "1.0.0")]).build()?;
/// heartbeat.start()?;
///
/// // In a monitor:
/// assert!(Heartbeat::is_alive(&path, Duration::from_secs(30)));
/// assert_eq!(Heartbeat::read_state(&path)?.metadata["version"], "1.0.0");
///
/// heartbeat.stop();
/// assert!(!Heartbeat::is_alive(&path, Duration::from_secs(30)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The heartbeat has its own thread, which beats even if the main loop is frozen. Let it follow a [`Target`] such as
/// the watchdog of the main loop to report that.
///
/// In a forked child the heartbeat is not running and can be started. That of the parent is not affected.
#[derive(Clone)]
pub struct Heartbeat {
    inner: Arc<HeartbeatInner>,
    _stop_on_drop: Arc<StopOnDrop>,
}

/// Stops the heartbeat when its last handle is dropped. The heartbeat's threads hold `HeartbeatInner`, but not this.
struct StopOnDrop(Arc<HeartbeatInner>);

impl Heartbeat {
    /// Returns a builder.
    pub fn builder() -> HeartbeatBuilder {
        HeartbeatBuilder::default()
    }

    /// Starts beating: now, and then every interval, on its own thread.
    ///
    /// It waits for the first beat, at most 2 s, so that a disk that hangs does not block the service. A beat that
    /// cannot be written is not an error here: it is reported to `on_missed_beat`, and the next one may succeed.
    ///
    /// If another heartbeat writes the same file, this one logs a warning and calls `on_alert`, once for each other
    /// process. Both continue to write. See [`exclusive`](HeartbeatBuilder::exclusive) for an error instead.
    ///
    /// # Errors
    /// - [`AlreadyRunning`](HeartbeatError::AlreadyRunning): the heartbeat is running.
    /// - [`Taken`](HeartbeatError::Taken): another heartbeat writes the file, and this one is exclusive.
    /// - [`NoThread`](HeartbeatError::NoThread): the thread could not be started.
    pub fn start(&self) -> Result<(), HeartbeatError> {
        self.inner.start()
    }

    /// Stops beating and writes a final beat with the status `stopped`.
    ///
    /// Does nothing if it is not running.
    ///
    /// No beat follows the final one. There is no final beat if another heartbeat writes the same file, because that
    /// one has not stopped.
    ///
    /// It waits for the final beat and for running callbacks, at most 5 s. It may be called from a callback and does
    /// not wait for that one.
    pub fn stop(&self) {
        self.inner.stop();
    }

    /// Stops beating without waiting.
    ///
    /// The final beat of [`stop`](Self::stop) is written soon, or not at all if the process ends first.
    pub fn stop_soon(&self) {
        self.inner.stop_soon();
    }

    /// Beats once, now, on this thread. The heartbeat does not have to be running.
    ///
    /// Callbacks run on this thread, too.
    ///
    /// # Errors
    /// - [`Write`](HeartbeatError::Write) or [`TooLarge`](HeartbeatError::TooLarge): the file could not be written.
    ///   This is reported to `on_missed_beat` as well.
    /// - [`Stopped`](HeartbeatError::Stopped): the heartbeat was stopped.
    /// - [`Taken`](HeartbeatError::Taken): another heartbeat writes the file, and this one is exclusive.
    pub fn beat(&self) -> Result<(), HeartbeatError> {
        self.inner.beat_now()
    }

    /// Sets the status for this and all later beats.
    ///
    /// A running heartbeat beats at once; this does not wait for it.
    ///
    /// [`Status::Stopped`] counts as [`Status::Stopping`] here: only [`stop`](Self::stop) writes `stopped`.
    pub fn set_status(&self, status: Status) {
        let local = self.inner.local();
        lock(&local.details).status = if status == Status::Stopped { Status::Stopping } else { status };
        if let Some(run) = local.running() {
            run.request_beat();
        }
    }

    /// Replaces the metadata for all later beats.
    ///
    /// # Errors
    /// The metadata takes more than about 1 MiB of JSON or is nested more than 128 levels deep. The old metadata stays.
    pub fn set_metadata<K: Into<String>, V: Into<Value>>(
        &self,
        metadata: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), InvalidArgument> {
        let metadata = metadata.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        check_metadata(&metadata)?;
        lock(&self.inner.local().details).metadata = metadata;
        Ok(())
    }

    /// Returns whether it was started in this process and not stopped.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.inner.local().running().is_some()
    }

    /// Returns the absolute path of the state file.
    #[must_use]
    pub fn state_file(&self) -> Option<&Path> {
        self.inner.state_file.as_deref()
    }

    /// Returns the interval between beats.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.inner.interval
    }

    /// Reads the state file at `path`, whether its writer is alive or not.
    ///
    /// It never blocks, even if `path` is a pipe or a device.
    ///
    /// # Errors
    /// The file is missing, damaged, too large, not a regular file, or cannot be read.
    pub fn read_state(path: impl AsRef<Path>) -> Result<HeartbeatState, HeartbeatError> {
        file::read(path.as_ref())
    }

    /// Returns whether the service that writes the state file at `path` is alive.
    ///
    /// Its last beat must be at most `max_age` old. A service with an unreadable file is not alive;
    /// [`liveness`](Self::liveness) returns why.
    #[must_use]
    pub fn is_alive(path: impl AsRef<Path>, max_age: Duration) -> bool {
        Self::liveness(path, max_age).is_ok_and(Liveness::is_alive)
    }

    /// Returns the liveness of the service that writes the state file at `path`.
    ///
    /// A beat older than `max_age` is stale. On the machine and boot that wrote the file, age is by the boot clock,
    /// which cannot be changed, and a process that is gone is detected at once. Elsewhere age is by the timestamp.
    ///
    /// # Errors
    /// The file is missing, damaged, too large, not a regular file, or cannot be read.
    pub fn liveness(path: impl AsRef<Path>, max_age: Duration) -> Result<Liveness, HeartbeatError> {
        Ok(Self::read_state(path)?.liveness(max_age))
    }
}

/// Checks that readers can read the metadata.
fn check_metadata(metadata: &Map<String, Value>) -> Result<(), InvalidArgument> {
    // The rest of the file needs less than 16 KiB.
    const MAX: usize = MAX_FILE_SIZE - 16 * 1024;
    let invalid = |given: String| InvalidArgument::new("metadata", given, "smaller than 1 MiB and not nested deeply");
    if is_deep(metadata) {
        return Err(invalid("nested more than 128 levels deep".to_owned()));
    }
    let json = serde_json::to_vec(metadata).map_err(|error| invalid(error.to_string()))?;
    if json.len() > MAX {
        return Err(invalid(format!("{} bytes of JSON", json.len())));
    }
    // In the file it is nested one level deeper.
    serde_json::from_slice::<Value>(&[b"[", &*json, b"]"].concat()).map_err(|error| invalid(error.to_string()))?;
    Ok(())
}

/// Returns whether something is nested deeper than readers accept. Not recursive, because deep values would overflow
/// the stack.
fn is_deep(metadata: &Map<String, Value>) -> bool {
    let mut open: Vec<(usize, &Value)> = metadata.values().map(|value| (1, value)).collect();
    while let Some((depth, value)) = open.pop() {
        if depth > 128 {
            return true;
        }
        match value {
            Value::Array(values) => open.extend(values.iter().map(|value| (depth + 1, value))),
            Value::Object(map) => open.extend(map.values().map(|value| (depth + 1, value))),
            _ => {}
        }
    }
    false
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heartbeat")
            .field("state_file", &self.state_file())
            .field("interval", &self.interval())
            .field("is_running", &self.is_running())
            .finish_non_exhaustive()
    }
}
