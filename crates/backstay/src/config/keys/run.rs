//! What `backstay run` is told: the section `run`, and one instance of it for each name.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Key, Kind, RUN, Value};

const DAY: Duration = Duration::from_secs(86_400);
const TIMES: RangeInclusive<Duration> = Duration::ZERO..=DAY;
const COUNTS: RangeInclusive<u32> = 1..=1_000_000;

const fn key(name: &'static [&'static str; 1], kind: Kind, default: Option<Value>) -> Key {
    Key { component: RUN, section: name, instance: Some(name[0]), kind, default }
}

const fn seconds(seconds: u64) -> Option<Value> {
    Some(Value::Seconds(Duration::from_secs(seconds)))
}

pub(super) static KEYS: [Key; 12] = [
    key(&["timeout"], Kind::SecondsUpTo(DAY), seconds(30)),
    key(&["start_timeout"], Kind::SecondsUpTo(DAY), None),
    key(&["on_freeze_timeout"], Kind::SecondsUpTo(DAY), seconds(10)),
    key(&["grace"], Kind::Seconds(TIMES), seconds(10)),
    key(&["restart"], Kind::Word(&["on-failure", "always", "never"]), Some(Value::Word("on-failure"))),
    key(&["backoff"], Kind::Seconds(TIMES), seconds(1)),
    key(&["max_backoff"], Kind::Seconds(TIMES), seconds(60)),
    key(&["min_uptime"], Kind::Seconds(TIMES), seconds(10)),
    key(&["max_restarts"], Kind::Count(COUNTS), Some(Value::Count(20))),
    key(&["per"], Kind::SecondsUpTo(DAY), seconds(600)),
    key(&["max_crashes"], Kind::Count(COUNTS), Some(Value::Count(5))),
    key(&["cooldown"], Kind::SecondsUpTo(DAY), seconds(60)),
];
