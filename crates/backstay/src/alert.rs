//! Alerts: events that need a person's attention.

use serde_json::{Map, Value};

/// Describes an event that needs a person's attention.
///
/// It is passed to `on_alert` callbacks.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Alert {
    /// Component that raised it: `"heartbeat"` or `"watchdog"`.
    pub channel: &'static str,
    /// One sentence for people.
    pub message: String,
    /// Details for programs: names, paths, seconds.
    pub context: Map<String, Value>,
}

impl Alert {
    /// Creates an alert of `channel` with a `message` for people and a `context` for programs.
    pub(crate) fn new<const N: usize>(
        channel: &'static str,
        message: impl Into<String>,
        context: [(&str, Value); N],
    ) -> Self {
        let context = context.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Self { channel, message: message.into(), context }
    }
}
