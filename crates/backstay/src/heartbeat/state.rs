//! The content of the state file.

use std::time::{Duration, SystemTime};

use backstay_core::heartbeat::{Beat, DegradedBy, Host, Liveness, ProcessStatus, Status, Timestamps};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::host;
use crate::clock;

/// Content of a state file.
///
/// In JSON it is one object with these names. Only `timestamp`, `pid` and `hostname` are required, because files of
/// other writers have no more than those and `metadata`.
///
/// ```
/// use backstay::heartbeat::{HeartbeatState, Status};
///
/// let json = r#"{"timestamp": "2026-11-23T19:16:00.250000+00:00", "pid": 7, "hostname": "web-1", "metadata": {}}"#;
/// let state: HeartbeatState = serde_json::from_str(json)?;
/// assert_eq!((state.pid, state.status), (7, None));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HeartbeatState {
    /// Time of the beat. In JSON: RFC 3339, written in UTC, read with any offset.
    #[serde(with = "rfc3339")]
    pub timestamp: SystemTime,
    /// Id of the process that wrote it.
    pub pid: u32,
    /// Name of the machine or container on which the process runs.
    pub hostname: String,
    /// Metadata of the service, such as its version.
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// Number of beats that this process has written, including this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// Interval between beats. In JSON: seconds.
    #[serde(default, with = "seconds", skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// Status of the service. An unknown word is read as `None`.
    #[serde(default, with = "status", skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Why `status` is `degraded`; `None` for any other status.
    ///
    /// An unknown word is read as `None`. In JSON: `"watchdog"` (a watchdog has fired), `"target"` (a target is
    /// dead), or `"service"` (the service set the status itself).
    #[serde(default, with = "degraded_by", skip_serializing_if = "Option::is_none")]
    pub degraded_by: Option<DegradedBy>,
    /// Time of the heartbeat's start.
    #[serde(default, with = "rfc3339_optional", skip_serializing_if = "Option::is_none")]
    pub started_at: Option<SystemTime>,
    /// The kernel's random id of the current boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// Time since boot at this beat, including suspensions. In JSON: seconds.
    #[serde(default, with = "seconds", skip_serializing_if = "Option::is_none")]
    pub boottime: Option<Duration>,
    /// Namespace of `pid`. A reader in another one cannot look up the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_namespace: Option<String>,
    /// Namespace of `boottime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_namespace: Option<String>,
}

impl HeartbeatState {
    /// Returns the liveness of the service that wrote it.
    ///
    /// A beat older than `max_age` is stale. [`Heartbeat::liveness`](super::Heartbeat::liveness) reads the file
    /// and calls this.
    #[must_use]
    pub fn liveness(&self, max_age: Duration) -> Liveness {
        let (beat, here) = (self.as_beat(), host::here());
        let process = if beat.shares_pids_with(&here) { host::process(self.pid) } else { ProcessStatus::Unknown };
        beat.liveness(&here, timestamps(clock::wall(), clock::boottime()), process, max_age)
    }

    /// Parses one JSON object. Returns the reason if it is not a valid heartbeat.
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let object: Map<String, Value> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        Self::deserialize(Value::Object(object)).map_err(|error| error.to_string())
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>, String> {
        let mut json = serde_json::to_vec(self).map_err(|error| error.to_string())?;
        json.push(b'\n');
        Ok(json)
    }

    /// Returns the part on which liveness depends.
    pub(super) fn as_beat(&self) -> Beat {
        Beat {
            status: self.status,
            host: Host {
                hostname: self.hostname.clone(),
                boot_id: self.boot_id.clone(),
                pid_namespace: self.pid_namespace.clone(),
                time_namespace: self.time_namespace.clone(),
            },
            at: timestamps(self.timestamp, self.boottime),
        }
    }
}

pub(super) fn timestamps(wall: SystemTime, boottime: Option<Duration>) -> Timestamps {
    Timestamps { wall_nanos: timestamp(wall).as_nanosecond(), boottime }
}

/// Converts a time, clamped to the years -9999 to 9999.
fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(if time < SystemTime::UNIX_EPOCH { Timestamp::MIN } else { Timestamp::MAX })
}

mod rfc3339 {
    use std::time::SystemTime;

    use jiff::Timestamp;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Python 3.10's `datetime.fromisoformat` reads neither `Z` nor nine digits.
    const FORMAT: &str = "%Y-%m-%dT%H:%M:%S%.6f+00:00";

    pub(super) fn serialize<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&super::timestamp(*time).strftime(FORMAT))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
        parse(&String::deserialize(from)?)
    }

    pub(super) fn parse<E: Error>(text: &str) -> Result<SystemTime, E> {
        let timestamp: Timestamp =
            text.parse().map_err(|error| E::custom(format_args!("not an RFC 3339 time: {error}")))?;
        SystemTime::try_from(timestamp).map_err(E::custom)
    }
}

mod rfc3339_optional {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Option<SystemTime>, to: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => super::rfc3339::serialize(time, to),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SystemTime>, D::Error> {
        Option::<String>::deserialize(from)?.map(|text| super::rfc3339::parse(&text)).transpose()
    }
}

mod seconds {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        duration.map(|duration| duration.as_secs_f64()).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        let seconds = Option::<f64>::deserialize(from)?;
        seconds.map(|seconds| Duration::try_from_secs_f64(seconds).map_err(D::Error::custom)).transpose()
    }
}

macro_rules! word {
    ($module:ident, $type:ident) => {
        mod $module {
            use backstay_core::heartbeat::$type;
            use serde::{Deserialize, Deserializer, Serialize, Serializer};

            pub(super) fn serialize<S: Serializer>(value: &Option<$type>, to: S) -> Result<S::Ok, S::Error> {
                value.map($type::as_str).serialize(to)
            }

            pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<$type>, D::Error> {
                Ok(Option::<String>::deserialize(from)?.and_then(|word| $type::from_word(&word)))
            }
        }
    };
}

word!(status, Status);
word!(degraded_by, DegradedBy);
