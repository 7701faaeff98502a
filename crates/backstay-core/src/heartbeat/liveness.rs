//! Whether a beat is a sign of life.

use alloc::string::String;
use core::fmt;
use core::time::Duration;

use super::{MAX_AHEAD, Status};

/// Where a process runs, as far as it decides what its numbers mean to someone else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The machine's, or the container's, name.
    pub hostname: String,
    /// The kernel's name for the time since it was started. Containers on one machine share it.
    pub boot_id: Option<String>,
    /// The namespace in which the process' id is counted.
    pub pid_namespace: Option<String>,
    /// The namespace that decides what the boot clock shows.
    pub time_namespace: Option<String>,
}

/// A point in time on the two clocks that outlive a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Nanoseconds since 1970 on the wall clock, which may be set at any time.
    pub wall_nanos: i128,
    /// Time since the machine was started, suspension included, where the system tells.
    pub boottime: Option<Duration>,
}

/// What a state file says, as far as liveness depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// How the service said it was; files of other writers may not say.
    pub status: Option<Status>,
    /// Where it ran.
    pub host: Host,
    /// When it was written.
    pub at: Stamp,
}

/// What became of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// There is none of this id, or only what its parent has not fetched yet.
    Gone,
    /// There is one of this id, started this long after the machine. It need not be the same one.
    StartedAt(Duration),
    /// Nothing is known.
    Unknown,
}

/// What a beat tells about the service that wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Liveness {
    /// It lives: its last beat is `age` old.
    Alive {
        /// How long ago the beat was written.
        age: Duration,
    },
    /// Its last beat is too old.
    Stale {
        /// How long ago the beat was written.
        age: Duration,
    },
    /// The beat comes from the future: a clock is wrong, or the file is not what it says.
    FromFuture {
        /// How far ahead it is.
        ahead: Duration,
    },
    /// The process that wrote it is gone, without a farewell.
    ProcessGone,
    /// It stopped as it was meant to.
    Stopped,
}

impl Liveness {
    /// Whether it is [`Alive`](Self::Alive).
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

/// Whether a state file belongs to another heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rival {
    /// It does not: its writer has stopped, is gone, or is silent.
    No,
    /// Its writer may still run, where this process cannot look.
    Possible,
    /// Its writer runs.
    Certain,
}

impl Beat {
    /// Whether the file with this beat, which another heartbeat wrote, is still that one's: by its `liveness` on
    /// `reader`, what became of the `process`, and whether the beat is `news`, written since the file was last looked at.
    ///
    /// News prove a running writer whatever the clocks say, on another machine too. Without news a writer that cannot be
    /// looked up is a possible one on another host only: on this host it is what a container or machine left behind that
    /// was started again, as its name says, or it will tell by its next beat.
    #[must_use]
    pub fn rival(&self, reader: &Host, liveness: Liveness, process: Process, news: bool) -> Rival {
        let looked_up = matches!(process, Process::StartedAt(_));
        let may_run = self.pid_means_the_same(reader) || self.host.hostname != reader.hostname;
        match liveness {
            Liveness::Stopped | Liveness::ProcessGone => Rival::No,
            _ if news => Rival::Certain,
            Liveness::Alive { .. } if looked_up => Rival::Certain,
            Liveness::Alive { .. } if may_run => Rival::Possible,
            _ => Rival::No,
        }
    }

    /// Whether the beat's process id means to someone on `reader` what it meant to the writer. A monitor that sees a
    /// container's file through a volume shares the boot, and not the ids.
    #[must_use]
    pub fn pid_means_the_same(&self, reader: &Host) -> bool {
        let same_ids = match (&self.host.pid_namespace, &reader.pid_namespace) {
            (Some(written), Some(read)) => written == read,
            _ => self.host.hostname == reader.hostname,
        };
        self.same_boot(reader) && same_ids
    }

    /// What the beat tells someone on `reader` at `now`, who found out this about the `process` (`Unknown` unless its
    /// [id means the same](Self::pid_means_the_same)).
    #[must_use]
    pub fn liveness(&self, reader: &Host, now: Stamp, process: Process, max_age: Duration) -> Liveness {
        if self.status == Some(Status::Stopped) {
            return Liveness::Stopped;
        }
        let boottime = self.at.boottime.filter(|_| self.same_boot(reader) && self.same_boot_clock(reader));
        match process {
            Process::Gone => return Liveness::ProcessGone,
            Process::StartedAt(started) if boottime.is_some_and(|written| started > written) => {
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

/// How long `now` is after `then`, or else how long before it.
fn difference(now: Duration, then: Duration) -> Result<Duration, Duration> {
    now.checked_sub(then).ok_or(then.saturating_sub(now))
}

fn wall_difference(now: i128, then: i128) -> Result<Duration, Duration> {
    let difference = Duration::from_nanos(u64::try_from(now.abs_diff(then)).unwrap_or(u64::MAX));
    if now >= then { Ok(difference) } else { Err(difference) }
}
