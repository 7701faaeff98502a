//! Liveness of the service that wrote a beat.

use alloc::string::String;
use core::fmt;
use core::time::Duration;

use super::{MAX_AHEAD, Status};

/// Where a process runs.
///
/// It decides whether another process can use its ids and its boot time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Name of the machine or container.
    pub hostname: String,
    /// The kernel's random id of the current boot. Containers on one machine share it.
    pub boot_id: Option<String>,
    /// Namespace of process ids.
    pub pid_namespace: Option<String>,
    /// Namespace of the boot clock.
    pub time_namespace: Option<String>,
}

/// One point in time on the wall clock and on the boot clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamps {
    /// Nanoseconds since 1970 on the wall clock, which can be changed at any time.
    pub wall_nanos: i128,
    /// Time since boot, including suspensions, if the system has such a clock.
    pub boottime: Option<Duration>,
}

/// The part of a state file on which liveness depends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Status of the service, if the file has one.
    pub status: Option<Status>,
    /// Where the service ran.
    pub host: Host,
    /// When the beat was written.
    pub at: Timestamps,
}

/// Result of looking up a process id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessStatus {
    /// There is no such process, or only a zombie.
    Gone,
    /// A process with this id was started at this time after boot. The id may have been reused.
    StartedAt(Duration),
    /// The process cannot be looked up.
    Unknown,
}

/// Whether the service that wrote a beat is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Liveness {
    /// The service is alive.
    Alive {
        /// Time since the beat.
        age: Duration,
    },
    /// The last beat is older than the maximum age.
    Stale {
        /// Time since the beat.
        age: Duration,
    },
    /// The beat is in the future: a clock is wrong, or the file was manipulated.
    FromFuture {
        /// Time until the beat.
        ahead: Duration,
    },
    /// The process that wrote the beat is gone and has not stopped cleanly.
    ProcessGone,
    /// The service has stopped cleanly.
    Stopped,
}

impl Liveness {
    /// Returns whether it is [`Alive`](Self::Alive).
    #[must_use]
    pub const fn is_alive(self) -> bool {
        matches!(self, Self::Alive { .. })
    }
}

impl fmt::Display for Liveness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alive { age } => write!(f, "alive, last beat {:.1} s ago", age.as_secs_f64()),
            Self::Stale { age } => write!(f, "stale, last beat {:.1} s ago", age.as_secs_f64()),
            Self::FromFuture { ahead } => write!(f, "last beat {:.1} s in the future", ahead.as_secs_f64()),
            Self::ProcessGone => f.write_str("its process is gone"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// Whether another heartbeat writes a state file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// No: its writer has stopped, is gone, or is stale.
    No,
    /// Its writer cannot be looked up and may be running.
    Possible,
    /// Its writer is running.
    Certain,
}

impl Beat {
    /// Returns whether the other heartbeat that wrote this beat is still running.
    ///
    /// `liveness` is that of the beat on `reader`. `is_new`: the beat was written since the reader's last check.
    ///
    /// A new beat proves a running writer, whatever the clocks show, also on another machine.
    ///
    /// Without a new beat, a writer that cannot be looked up counts as possible only on another host. On this host the
    /// file was most likely left behind by a restarted container or machine of the same name. If its writer is running
    /// after all, the next beat proves it.
    #[must_use]
    pub fn conflict(&self, reader: &Host, liveness: Liveness, process: ProcessStatus, is_new: bool) -> Conflict {
        let looked_up = matches!(process, ProcessStatus::StartedAt(_));
        let may_run = self.shares_pids_with(reader) || self.host.hostname != reader.hostname;
        match liveness {
            Liveness::Stopped | Liveness::ProcessGone => Conflict::No,
            _ if is_new => Conflict::Certain,
            Liveness::Alive { .. } if looked_up => Conflict::Certain,
            Liveness::Alive { .. } if may_run => Conflict::Possible,
            _ => Conflict::No,
        }
    }

    /// Returns whether `reader` and the writer share one namespace of process ids.
    ///
    /// A reader that sees a container's file through a volume shares the boot, but not the process ids.
    #[must_use]
    pub fn shares_pids_with(&self, reader: &Host) -> bool {
        let same_ids = match (&self.host.pid_namespace, &reader.pid_namespace) {
            (Some(written), Some(read)) => written == read,
            _ => self.host.hostname == reader.hostname,
        };
        self.same_boot(reader) && same_ids
    }

    /// Returns the liveness of the writer, as seen on `reader` at `now`.
    ///
    /// Pass [`ProcessStatus::Unknown`] unless the two [share process ids](Self::shares_pids_with).
    #[must_use]
    pub fn liveness(&self, reader: &Host, now: Timestamps, process: ProcessStatus, max_age: Duration) -> Liveness {
        if self.status == Some(Status::Stopped) {
            return Liveness::Stopped;
        }
        let boottime = self.at.boottime.filter(|_| self.same_boot(reader) && self.same_boot_clock(reader));
        match process {
            ProcessStatus::Gone => return Liveness::ProcessGone,
            ProcessStatus::StartedAt(started) if boottime.is_some_and(|written| started > written) => {
                return Liveness::ProcessGone;
            }
            _ => {}
        }
        let age = match (boottime, now.boottime) {
            (Some(written), Some(now)) => difference(now, written),
            _ => wall_difference(now.wall_nanos, self.at.wall_nanos),
        };
        match age {
            Ok(age) if age <= max_age => Liveness::Alive { age },
            Ok(age) => Liveness::Stale { age },
            Err(ahead) if ahead > MAX_AHEAD => Liveness::FromFuture { ahead },
            Err(_) => Liveness::Alive { age: Duration::ZERO },
        }
    }

    fn same_boot(&self, reader: &Host) -> bool {
        self.host.boot_id.is_some() && self.host.boot_id == reader.boot_id
    }

    fn same_boot_clock(&self, reader: &Host) -> bool {
        match (&self.host.time_namespace, &reader.time_namespace) {
            (Some(written), Some(read)) => written == read,
            _ => true,
        }
    }
}

/// Returns how long `now` is after `then`, or as an error how long before it.
fn difference(now: Duration, then: Duration) -> Result<Duration, Duration> {
    now.checked_sub(then).ok_or(then.saturating_sub(now))
}

fn wall_difference(now: i128, then: i128) -> Result<Duration, Duration> {
    let difference = Duration::from_nanos(u64::try_from(now.abs_diff(then)).unwrap_or(u64::MAX));
    if now >= then { Ok(difference) } else { Err(difference) }
}
