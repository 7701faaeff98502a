//! Builder of the heartbeat.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backstay_core::heartbeat::{DEFAULT_INTERVAL, INTERVAL_LIMITS, Status};
use serde_json::{Map, Value};

use super::callbacks::{Callbacks, TargetDeath};
#[cfg(unix)]
use super::file::DEFAULT_FILE_MODE;
use super::inner::HeartbeatInner;
use super::process_state::{ProcessState, ServiceDetails};
use super::target::FollowedTarget;
use super::{Heartbeat, HeartbeatError, HeartbeatState, StopOnDrop, Target, check_metadata};
use crate::alert::Alert;
use crate::callback::Callback;
use crate::clock::Clock;
use crate::error::{BuildError, InvalidArgument};
use crate::settings::{Fallback, HeartbeatSettings, config_setter};

/// Builds a [`Heartbeat`]; returned by [`Heartbeat::builder`].
///
/// The callbacks run one after another on their own thread, so that a slow one delays no beat. Those of a call to
/// [`beat`](Heartbeat::beat) run on the caller's thread. Async callbacks run to completion on that thread. A panic in a
/// callback is logged.
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
    targets: Vec<FollowedTarget>,
    callbacks: Callbacks,
}

macro_rules! callbacks {
    ($($(#[$doc:meta])* $name:ident, $name_async:ident: $report:ty;)*) => {$(
        $(#[$doc])*
        pub fn $name(mut self, callback: impl Fn(&$report) + Send + Sync + 'static) -> Self {
            self.callbacks.$name = Some(Callback::plain(callback));
            self
        }

        #[doc = concat!("Sets [`", stringify!($name), "`](Self::", stringify!($name), ") to an async callback.")]
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
    /// Sets the path of the state file. Default: none.
    ///
    /// Missing folders are created. [`build`](Self::build) makes a relative path absolute, so that later changes of the
    /// current folder do not matter. Without a state file the heartbeat only checks its targets and runs callbacks.
    pub fn state_file(mut self, path: impl AsRef<Path>) -> Self {
        self.state_file = Some(path.as_ref().to_owned());
        self
    }

    /// Sets the interval between beats: 1 ms to a day. Default: 10 s.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.settings.interval = Some(interval);
        self
    }

    /// Adds metadata for readers, such as the version or port.
    ///
    /// Entries of the same name are replaced.
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

    /// Sets the permissions of the state file, as in chmod(2).
    ///
    /// The umask applies. Default: `0o644`.
    ///
    /// The default lets a monitor run as another user. Use `0o600` for confidential metadata.
    #[cfg(unix)]
    pub fn file_mode(mut self, mode: u32) -> Self {
        self.file_mode = Some(mode & 0o777);
        self
    }

    /// Sets the initial status. Default: [`Status::Ready`].
    ///
    /// [`set_status`](Heartbeat::set_status) changes it.
    pub fn status(mut self, status: Status) -> Self {
        self.status = Some(status);
        self
    }

    /// Follows a target, such as a watchdog. May be called several times.
    ///
    /// While a target is dead, the status is `degraded`, and [`degraded_by`](HeartbeatState::degraded_by) names the
    /// cause. So a frozen service does not look healthy, although the heartbeat's own thread still beats.
    pub fn target(mut self, target: impl Target + 'static) -> Self {
        self.targets.push(FollowedTarget::new(target));
        self
    }

    /// Sets whether only this heartbeat may write the file. Default: false.
    ///
    /// If false, two heartbeats may write one file, and each logs a warning about the other.
    ///
    /// If true, [`start`](Heartbeat::start) returns [`HeartbeatError::Taken`] if another heartbeat writes the file. If
    /// the other heartbeat is detected later, each beat counts as missed until the other has stopped or is stale: older
    /// than [`tolerated_age`](super::tolerated_age).
    ///
    /// A file is free at once if its writer has stopped cleanly, if its process is gone, or if it was written on this
    /// host in another container or before a reboot. A file of another host is free when it is stale.
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

    /// Sets the clock for the schedule.
    ///
    /// Default: the system clock. Timestamps are always the system's.
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    callbacks! {
        /// Sets a callback that runs after each beat, except while its last call is running.
        on_beat, on_beat_async: HeartbeatState;
        /// Sets a callback that gets the error each time the state file cannot be written.
        on_missed_beat, on_missed_beat_async: HeartbeatError;
        /// Sets a callback for alerts.
        ///
        /// Alerts are raised for the first of consecutive missed beats, for a dead target, and for another heartbeat on
        /// the same file.
        on_alert, on_alert_async: Alert;
        /// Sets a callback that runs once each time a target dies.
        on_target_dead, on_target_dead_async: TargetDeath;
    }

    config_setter!(fallback);

    /// Builds the heartbeat, which is not running yet.
    ///
    /// # Errors
    /// - An interval outside 1 ms to a day.
    /// - A state file path that does not end in a file name.
    /// - Metadata of more than about 1 MiB of JSON, or nested more than 128 levels deep.
    pub fn build(self) -> Result<Heartbeat, BuildError> {
        let state_file = self.state_file.map(absolute).transpose()?;
        check_metadata(&self.metadata)?;
        let interval = self.fallback.complete(self.settings, None).interval.unwrap_or(DEFAULT_INTERVAL);
        if !INTERVAL_LIMITS.contains(&interval) {
            return Err(InvalidArgument::new("interval", format!("{interval:?}"), "1 ms to a day").into());
        }
        let status = self.status.unwrap_or(Status::Ready);
        let details = ServiceDetails { status, metadata: self.metadata, started_at: None };
        let inner = Arc::new(HeartbeatInner {
            state_file,
            #[cfg(unix)]
            file_mode: self.file_mode.unwrap_or(DEFAULT_FILE_MODE),
            interval,
            clock: self.clock,
            exclusive: self.exclusive,
            first_process: ProcessState::new(details.clone(), self.targets.len()),
            targets: self.targets,
            callbacks: self.callbacks,
            built_with: details,
        });
        let stop_on_drop = Arc::new(StopOnDrop(Arc::clone(&inner)));
        Ok(Heartbeat { inner, _stop_on_drop: stop_on_drop })
    }
}

/// Makes the path absolute, because a service that becomes a daemon changes its folder.
///
/// Fails unless the path ends in a file name.
fn absolute(path: PathBuf) -> Result<PathBuf, InvalidArgument> {
    let invalid = || InvalidArgument::new("state_file", path.display(), "the path of a file");
    let name = path.file_name().ok_or_else(invalid)?;
    // `folder/name/` and `folder/name/.` have the file name `name` but are folders.
    let text = path.as_os_str().as_encoded_bytes();
    if !text.ends_with(name.as_encoded_bytes()) || text.contains(&0) {
        return Err(invalid());
    }
    std::path::absolute(&path).map_err(|_| invalid())
}

impl std::fmt::Debug for HeartbeatBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeartbeatBuilder")
            .field("state_file", &self.state_file)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
