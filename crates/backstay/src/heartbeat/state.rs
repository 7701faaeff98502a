//! What the state file says.

use std::time::{Duration, SystemTime};

use backstay_core::heartbeat::{Beat, DegradedBy, Host, Liveness, Process, Stamp, Status};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::host;
use crate::clock;

/// What a state file says. As JSON, one object with these names; files of other writers may hold no more than
/// `timestamp`, `pid`, `hostname` and `metadata`.
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
    /// When it was written. As text: RFC 3339 in UTC, read in every offset.
    #[serde(with = "rfc3339")]
    pub timestamp: SystemTime,
    /// The process that wrote it.
    pub pid: u32,
    /// The machine, or the container, on which it runs.
    pub hostname: String,
    /// What the service wants to be known of it.
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// How many beats this process wrote before, and this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// How often it means to beat. As JSON: seconds.
    #[serde(default, with = "seconds", skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// How the service is; a word that is not known here reads as none.
    #[serde(default, with = "status", skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Why `status` is `degraded`: `"watchdog"` (one has fired), `"target"` (one is dead), or `"service"` (it set the
    /// status itself). `None` for every other status; a word that is not known here reads as `None`.
    #[serde(default, with = "degraded_by", skip_serializing_if = "Option::is_none")]
    pub degraded_by: Option<DegradedBy>,
    /// When the heartbeat was started.
    #[serde(default, with = "rfc3339_optional", skip_serializing_if = "Option::is_none")]
    pub started_at: Option<SystemTime>,
    /// The kernel's name for the time since the machine was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// Time since the machine was started, suspension included, when this was written. As JSON: seconds.
    #[serde(default, with = "seconds", skip_serializing_if = "Option::is_none")]
    pub boottime: Option<Duration>,
    /// Where `pid` is counted: a reader elsewhere cannot look the process up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_namespace: Option<String>,
    /// Where `boottime` is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_namespace: Option<String>,
}

impl HeartbeatState {
    /// What it tells about the service that wrote it, where a beat may be `max_age` old; as
    /// [`Heartbeat::liveness`](super::Heartbeat::liveness), for those who want to see the state too.
    #[must_use]
    pub fn liveness(&self, max_age: Duration) -> Liveness {
        let (beat, here) = (self.as_beat(), host::here());
        let process = if beat.pid_means_the_same(&here) { host::process(self.pid) } else { Process::Unknown };
        beat.liveness(&here, stamp(clock::wall(), clock::boottime()), process, max_age)
    }

    /// Reads one JSON object; says what is wrong where it is not a heartbeat.
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let object: Map<String, Value> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        Self::deserialize(Value::Object(object)).map_err(|error| error.to_string())
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>, String> {
        let mut json = serde_json::to_vec(self).map_err(|error| error.to_string())?;
        json.push(b'\n');
        Ok(json)
    }

    /// The part of it that liveness depends on.
    pub(super) fn as_beat(&self) -> Beat {
        Beat {
            status: self.status,
            host: Host {
                hostname: self.hostname.clone(),
                boot_id: self.boot_id.clone(),
                pid_namespace: self.pid_namespace.clone(),
                time_namespace: self.time_namespace.clone(),
            },
            at: stamp(self.timestamp, self.boottime),
        }
    }
}

pub(super) fn stamp(wall: SystemTime, boottime: Option<Duration>) -> Stamp {
    Stamp { wall_nanos: timestamp(wall).as_nanosecond(), boottime }
}

/// Clamped to the years -9999 to 9999: no clock shows others, and nonsense must not panic.
fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(if time < SystemTime::UNIX_EPOCH { Timestamp::MIN } else { Timestamp::MAX })
}

mod rfc3339 {
    use std::time::SystemTime;

    use jiff::Timestamp;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    /// `+00:00` and six digits, always: Python 3.10's `datetime.fromisoformat` reads neither `Z` nor nine.
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
