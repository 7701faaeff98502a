//! Why a watchdog does not start, and that it has fired.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::error::Named;

/// The watchdog had fired: nobody pinged it for [`inactive`](Self::inactive).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("watchdog{} saw no ping for {:.3} s", Named(self.name.as_ref()), self.inactive.as_secs_f64())]
pub struct WatchdogTimeoutError {
    /// The watchdog's name, where it has one.
    pub name: Option<Arc<str>>,
    /// How long nobody had pinged.
    pub inactive: Duration,
}

/// Why a watchdog did not start, or a watched block failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WatchdogError {
    /// It runs already: stop it first, or build another.
    #[error("watchdog{} runs already", Named(name.as_ref()))]
    AlreadyRunning {
        /// The watchdog's name, where it has one.
        name: Option<Arc<str>>,
    },
    /// The system has no thread for watching.
    #[error("no thread to watch with")]
    NoThread(#[source] std::io::Error),
    /// It had fired.
    #[error(transparent)]
    Timeout(#[from] WatchdogTimeoutError),
}

#[cfg(all(test, not(backstay_loom)))]
mod tests {
    use super::*;

    // ALL-2: the message names the watchdog, and says how long it saw no ping.
    #[test]
    fn a_timeout_says_who_and_how_long() {
        let late = WatchdogTimeoutError { name: Some("worker".into()), inactive: Duration::from_secs(31) };
        assert_eq!(late.to_string(), "watchdog \"worker\" saw no ping for 31.000 s");
    }
}
