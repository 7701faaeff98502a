//! Heartbeat: a small file that says, every few seconds, that the service lives; and reading it from outside.
//!
//! A beat replaces the file as a whole, so a reader never sees half of one. When to beat and what a beat proves are
//! rules of `backstay-core`; here are the threads, the file and what the operating system knows.

mod beating;
mod builder;
mod callbacks;
mod error;
mod file;
mod host;
mod life;
mod rival;
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
use beating::Beating;
use life::lock;

/// Writes a state file every so often, so that others can tell whether this service lives.
///
/// Clones share one heartbeat. It stops when told to, or when the last of them is dropped; a callback that holds one
/// keeps it beating.
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
/// // Somewhere else:
/// assert!(Heartbeat::is_alive(&path, Duration::from_secs(30)));
/// assert_eq!(Heartbeat::read_state(&path)?.metadata["version"], "1.0.0");
///
/// heartbeat.stop();
/// assert!(!Heartbeat::is_alive(&path, Duration::from_secs(30)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A thread that beats says nothing about the one that works: give the heartbeat a [`Target`] to follow, such as the
/// watchdog of the main loop.
///
/// After a fork the child's heartbeat is not running and can be started; the parent's goes on untouched.
#[derive(Clone)]
pub struct Heartbeat(Arc<Handle>);

/// The threads share what is inside, so that this is dropped with the last handle.
struct Handle(Arc<Beating>);

impl Heartbeat {
    /// A heartbeat to be described.
    pub fn builder() -> HeartbeatBuilder {
        HeartbeatBuilder::default()
    }

    /// Beats now, and from now on every interval, on a thread of its own.
    ///
    /// Waits for the first beat to be written, 2 s at most: a disk that hangs does not hang the service. A beat that
    /// cannot be written is no error here: `on_missed_beat` hears of it, and the next one may succeed.
    ///
    /// Where another heartbeat writes the same file, this one logs a warning and calls `on_alert`, once for each other
    /// process; both go on writing. See [`exclusive`](HeartbeatBuilder::exclusive) for an error instead.
    ///
    /// # Errors
    /// [`AlreadyRunning`](HeartbeatError::AlreadyRunning); [`Taken`](HeartbeatError::Taken) where it is exclusive and
    /// another heartbeat writes the file; or the system gave no thread.
    pub fn start(&self) -> Result<(), HeartbeatError> {
        self.beating().start()
    }

    /// Stops beating and writes the farewell, `stopped`, after which nothing is written any more. Does nothing where
    /// it is not running. No farewell is written where another heartbeat writes the same file: that one has not stopped.
    ///
    /// Waits until the farewell is written and the callbacks have ended, 5 s at most. It may be called from a callback,
    /// which it does not wait for.
    pub fn stop(&self) {
        self.beating().stop();
    }

    /// As [`stop`](Self::stop), but waits for nothing: the farewell is written soon, or not at all if the process ends
    /// before.
    pub fn stop_soon(&self) {
        self.beating().stop_soon();
    }

    /// Beats once, now, on this thread; whether it is running or was never started.
    ///
    /// # Errors
    /// Why the file could not be written (`on_missed_beat` hears it too), [`Stopped`](HeartbeatError::Stopped), or
    /// [`Taken`](HeartbeatError::Taken) by another heartbeat where this one is exclusive.
    pub fn beat(&self) -> Result<(), HeartbeatError> {
        self.beating().beat_by_hand()
    }

    /// Says how the service is, in a beat at once where it is running, and in every one from now on. `stopped` is said
    /// by [`stop`](Self::stop) alone, and is taken for `stopping` here. Does not wait.
    pub fn set_status(&self, status: Status) {
        let life = self.beating().life();
        lock(&life.details).status = if status == Status::Stopped { Status::Stopping } else { status };
        if let Some(run) = life.running() {
            run.ask_for_beat();
        }
    }

    /// Replaces the metadata from the next beat on.
    ///
    /// # Errors
    /// Metadata that no reader could read: too large, or nested too deeply. The old is kept.
    pub fn set_metadata<K: Into<String>, V: Into<Value>>(
        &self,
        metadata: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), InvalidArgument> {
        let metadata = metadata.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        readable(&metadata)?;
        lock(&self.beating().life().details).metadata = metadata;
        Ok(())
    }

    /// Whether it was started, in this process, and not stopped.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.beating().life().running().is_some()
    }

    /// Where it writes: an absolute path.
    #[must_use]
    pub fn state_file(&self) -> Option<&Path> {
        self.beating().state_file.as_deref()
    }

    /// How often it beats.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.beating().interval
    }

    /// What the state file at `path` says, whatever became of who wrote it. Never waits, whatever is in that place.
    ///
    /// # Errors
    /// It is missing, damaged, too large, not a regular file, or may not be read.
    pub fn read_state(path: impl AsRef<Path>) -> Result<HeartbeatState, HeartbeatError> {
        file::read(path.as_ref())
    }

    /// Whether the service that writes the state file at `path` lives, its last beat being `max_age` old at most.
    /// A file that cannot be read is no sign of life; [`liveness`](Self::liveness) says more.
    #[must_use]
    pub fn is_alive(path: impl AsRef<Path>, max_age: Duration) -> bool {
        Self::liveness(path, max_age).is_ok_and(Liveness::is_alive)
    }

    /// What the state file at `path` tells about the service that writes it, where a beat may be `max_age` old.
    ///
    /// On the machine (and boot) that wrote it, age is by the boot clock, which nobody sets, and a process that is gone
    /// is seen at once; elsewhere age is by the time stamp.
    ///
    /// # Errors
    /// It is missing, damaged, too large, not a regular file, or may not be read.
    pub fn liveness(path: impl AsRef<Path>, max_age: Duration) -> Result<Liveness, HeartbeatError> {
        Ok(Self::read_state(path)?.liveness(max_age))
    }

    fn beating(&self) -> &Arc<Beating> {
        &self.0.0
    }
}

/// Metadata that a reader can read: what is written must not make our own file unreadable.
fn readable(metadata: &Map<String, Value>) -> Result<(), InvalidArgument> {
    // Room for the rest of the file; host names are not that long.
    const MAX: usize = MAX_FILE_SIZE - 16 * 1024;
    let wrong = |given: String| InvalidArgument::new("metadata", given, "smaller than 1 MiB and not nested deeply");
    if is_deep(metadata) {
        return Err(wrong("nested more than 128 levels deep".to_owned()));
    }
    let json = serde_json::to_vec(metadata).map_err(|error| wrong(error.to_string()))?;
    if json.len() > MAX {
        return Err(wrong(format!("{} bytes of JSON", json.len())));
    }
    // One level more, as in the file.
    serde_json::from_slice::<Value>(&[b"[", &*json, b"]"].concat()).map_err(|error| wrong(error.to_string()))?;
    Ok(())
}

/// Whether something is nested deeper than readers follow. Looked for without recursion, which deep values would break.
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

impl Drop for Handle {
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
