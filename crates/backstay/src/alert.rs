//! What a person should hear of.

use serde_json::{Map, Value};

/// Something that a person should hear of; what `on_alert` is given.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Alert {
    /// Who raises it: `"heartbeat"` or `"watchdog"`.
    pub channel: &'static str,
    /// One sentence.
    pub message: String,
    /// The same for machines: names, files, seconds.
    pub context: Map<String, Value>,
}

impl Alert {
    /// An alert of `channel`, with what a machine may want to know beside the `message`.
    pub(crate) fn new<const N: usize>(
        channel: &'static str,
        message: impl Into<String>,
        context: [(&str, Value); N],
    ) -> Self {
        let context = context.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Self { channel, message: message.into(), context }
    }
}
