//! Errors of the watchdog.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

/// Reports that a watchdog has fired.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("watchdog {} received no ping for {:.3} s", NameOrUnnamed(self.name.as_ref()), self.inactive.as_secs_f64())]
pub struct WatchdogTimeoutError {
    /// The watchdog's name, if it has one.
    pub name: Option<Arc<str>>,
    /// Time since the last ping, excluding time in which the process did not run.
    pub inactive: Duration,
}

/// Why a watchdog was not started, or a watched block failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WatchdogError {
    /// The watchdog is already running.
    #[error("watchdog {} is already running", NameOrUnnamed(name.as_ref()))]
    AlreadyRunning {
        /// The watchdog's name, if it has one.
        name: Option<Arc<str>>,
    },
    /// The system could not start the monitor thread.
    #[error("failed to start the watchdog's monitor thread")]
    NoThread(#[source] std::io::Error),
    /// The watchdog has fired.
    #[error(transparent)]
    Timeout(#[from] WatchdogTimeoutError),
}

/// Formats a name in quotes, or `unnamed`.
pub(super) struct NameOrUnnamed<'a>(pub(super) Option<&'a Arc<str>>);

impl fmt::Display for NameOrUnnamed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(f, "{name:?}"),
            None => f.write_str("unnamed"),
        }
    }
}

#[cfg(all(test, not(backstay_loom)))]
mod tests {
    use super::*;

    // ALL-2: messages name the watchdog; a timeout also has the inactivity.
    #[test]
    fn messages_name_the_watchdog() {
        let named = WatchdogTimeoutError { name: Some("worker".into()), inactive: Duration::from_secs(31) };
        assert_eq!(named.to_string(), "watchdog \"worker\" received no ping for 31.000 s");
        let unnamed = WatchdogError::AlreadyRunning { name: None };
        assert_eq!(unnamed.to_string(), "watchdog unnamed is already running");
    }
}
