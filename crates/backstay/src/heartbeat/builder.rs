//! Building a heartbeat.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backstay_core::heartbeat::{DEFAULT_INTERVAL, INTERVAL_LIMITS, Status};
use serde_json::{Map, Value};

use super::beating::Beating;
use super::callbacks::{Callbacks, TargetDeath};
#[cfg(unix)]
use super::file::DEFAULT_FILE_MODE;
use super::life::{Details, Life};
use super::target::Followed;
use super::{Handle, Heartbeat, HeartbeatError, HeartbeatState, Target, readable};
use crate::alert::Alert;
use crate::callback::Callback;
use crate::clock::Clock;
use crate::error::{BuildError, InvalidArgument};
use crate::settings::{Fallback, HeartbeatSettings, config_setter};

/// What a [`Heartbeat`] is made of; see [`Heartbeat::builder`].
///
/// The callbacks run on a thread of their own, one after another, so that a slow one delays no beat; those of a
/// [`beat`](Heartbeat::beat) by hand run on the thread that called it. One that panics is logged. The futures of the
/// `_async` forms run to their end on that thread.
#[derive(Default)]
#[must_use = "call `build`"]
pub struct HeartbeatBuilder {
    state_file: Option<PathBuf>,
    settings: HeartbeatSettings,
    fallback: Fallback,
    metadata: Map<String, Value>,
    status: Option<Status>,
    #[cfg(unix)]
    file_mode: Option<u32>,
    clock: Clock,
    exclusive: bool,
    targets: Vec<Followed>,
    callbacks: Callbacks,
}

macro_rules! callbacks {
    ($($(#[$doc:meta])* $name:ident, $name_async:ident: $report:ty;)*) => {$(
        $(#[$doc])*
        pub fn $name(mut self, callback: impl Fn(&$report) + Send + Sync + 'static) -> Self {
            self.callbacks.$name = Some(Callback::plain(callback));
            self
        }

        #[doc = concat!("[`", stringify!($name), "`](Self::", stringify!($name), ") with a future.")]
        pub fn $name_async<F>(mut self, callback: impl Fn(&$report) -> F + Send + Sync + 'static) -> Self
        where
            F: Future<Output = ()> + Send + 'static,
        {
            self.callbacks.$name = Some(Callback::future(callback));
            self
        }
    )*};
}

impl HeartbeatBuilder {
    /// Where to write. Folders on the way there are made when missing. A relative path means one below the current
    /// folder of now. Without a state file the heartbeat only looks after its targets and calls `on_beat`.
    pub fn state_file(mut self, path: impl AsRef<Path>) -> Self {
        self.state_file = Some(path.as_ref().to_owned());
        self
    }

    /// How often to beat: 1 ms to a day. Default: 10 s.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.settings.interval = Some(interval);
        self
    }

    /// What readers should know of the service: its version, its port. Entries of the same name are replaced.
    ///
    /// ```
    /// # use backstay::Heartbeat;
    /// let heartbeat = Heartbeat::builder().metadata([("version", "1.0.0")]).build()?;
    /// # Ok::<(), backstay::BuildError>(())
    /// ```
    pub fn metadata<K: Into<String>, V: Into<Value>>(mut self, metadata: impl IntoIterator<Item = (K, V)>) -> Self {
        self.metadata.extend(metadata.into_iter().map(|(key, value)| (key.into(), value.into())));
        self
    }

    /// Sets the permissions of the state file, as in chmod(2); the umask is subtracted. The default is `0o644`: a monitor
    /// may run as another user. Use `0o600` where the metadata is confidential.
    #[cfg(unix)]
    pub fn file_mode(mut self, mode: u32) -> Self {
        self.file_mode = Some(mode & 0o777);
        self
    }

    /// What to say of the service until [`set_status`](Heartbeat::set_status) says otherwise. The default is `ready`.
    pub fn status(mut self, status: Status) -> Self {
        self.status = Some(status);
        self
    }

    /// Follows a target, such as a watchdog; may be called several times. While one of them is dead, the status is
    /// `degraded`, and [`degraded_by`](HeartbeatState::degraded_by) says whether a watchdog has fired or another target
    /// is dead. A frozen service must not look healthy because the heartbeat's own thread still beats.
    pub fn target(mut self, target: impl Target + 'static) -> Self {
        self.targets.push(Followed::new(target));
        self
    }

    /// Whether this heartbeat refuses to write a file that another one writes. Default: false, both write, and each
    /// warns of the other.
    ///
    /// [`start`](Heartbeat::start) then returns [`HeartbeatError::Taken`]. A heartbeat that appears later, or that could
    /// not be seen from here, makes each beat a missed one, until it has stopped or is silent for
    /// [`tolerated_age`](super::tolerated_age).
    ///
    /// A file that a process left behind that is gone is free at once: where that process can be looked up, by its id and
    /// start time; and where it ran on this host in another container or before a restart. The file of another host is
    /// free when its last beat has grown old, or says `stopped`.
    ///
    /// ```
    /// use backstay::Heartbeat;
    /// use backstay::heartbeat::HeartbeatError;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let heartbeat = || Heartbeat::builder().state_file(folder.path().join("bot.heartbeat")).exclusive(true).build();
    /// let (first, second) = (heartbeat()?, heartbeat()?);
    /// first.start()?;
    /// assert!(matches!(second.start(), Err(HeartbeatError::Taken { .. })));
    /// first.stop();
    /// second.start()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn exclusive(mut self, exclusive: bool) -> Self {
        self.exclusive = exclusive;
        self
    }

    /// The clock that says when beats are due; the time stamps are the system's.
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    callbacks! {
        /// Called after each beat; not while its last call still runs.
        on_beat, on_beat_async: HeartbeatState;
        /// Called with the reason each time that the state file could not be written.
        on_missed_beat, on_missed_beat_async: HeartbeatError;
        /// Called with what a person should hear of: the first beat of a row that could not be written, a dead target,
        /// another heartbeat on the same file.
        on_alert, on_alert_async: Alert;
        /// Called once for each death of a target.
        on_target_dead, on_target_dead_async: TargetDeath;
    }

    config_setter!(fallback);

    /// The heartbeat; it does not beat yet.
    ///
    /// # Errors
    /// An interval out of bounds, a state file without a name, or metadata that no reader could read.
    pub fn build(self) -> Result<Heartbeat, BuildError> {
        let state_file = self.state_file.map(absolute).transpose()?;
        readable(&self.metadata)?;
        let interval = self.fallback.complete(self.settings, None).interval.unwrap_or(DEFAULT_INTERVAL);
        if !INTERVAL_LIMITS.contains(&interval) {
            return Err(InvalidArgument::new("interval", format!("{interval:?}"), "1 ms to a day").into());
        }
        let status = self.status.unwrap_or(Status::Ready);
        let details = Details { status, metadata: self.metadata, started_at: None };
        Ok(Heartbeat(Arc::new(Handle(Arc::new(Beating {
            state_file,
            #[cfg(unix)]
            file_mode: self.file_mode.unwrap_or(DEFAULT_FILE_MODE),
            interval,
            clock: self.clock,
            exclusive: self.exclusive,
            first_life: Life::new(details.clone(), self.targets.len()),
            targets: self.targets,
            callbacks: self.callbacks,
            built_with: details,
        })))))
    }
}

/// A service that becomes a daemon changes its folder, and must go on writing the same file.
fn absolute(path: PathBuf) -> Result<PathBuf, InvalidArgument> {
    let wrong = || InvalidArgument::new("state_file", path.display(), "the path of a file");
    let name = path.file_name().ok_or_else(wrong)?;
    // `folder/name/` and `folder/name/.` have the same file name as `folder/name`, and are no files.
    let text = path.as_os_str().as_encoded_bytes();
    if !text.ends_with(name.as_encoded_bytes()) || text.contains(&0) {
        return Err(wrong());
    }
    std::path::absolute(&path).map_err(|_| wrong())
}

impl std::fmt::Debug for HeartbeatBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeartbeatBuilder")
            .field("state_file", &self.state_file)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
