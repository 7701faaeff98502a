//! Heartbeat files: finding them, reading them, and judging the services that write them.

mod check;
pub(crate) mod files;

pub(crate) use check::{CheckOptions, CheckResult, HeartbeatCheck, Severity, State, is_supervisor, with_codes};
