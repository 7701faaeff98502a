//! Errors of a shutdown.

use std::sync::Arc;

use backstay_core::InvalidArgument;
use thiserror::Error;

use crate::signals::{Signal, SubscribeError};

/// A registration or an installation failed.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// A callback with this name is already registered.
    #[error("callback {name:?} is already registered; unregister it first, or choose another name")]
    AlreadyRegistered {
        /// The callback's name.
        name: Arc<str>,
    },
    /// The shutdown has begun, so the callback would not run.
    #[error("cannot register callback {name:?}: the shutdown has begun; clean up at once instead")]
    ShuttingDown {
        /// The callback's name.
        name: Arc<str>,
    },
    /// The system has no file descriptors for the runtime of an async callback.
    #[error("no runtime for the async callback {name:?}: {source}; register it again when descriptors are free")]
    NoRuntime {
        /// The callback's name.
        name: Arc<str>,
        /// The system's error.
        source: Arc<std::io::Error>,
    },
    /// The callback's timeout is invalid.
    #[error(transparent)]
    InvalidArgument(#[from] InvalidArgument),
    /// The signal cannot be caught.
    #[error("{signal} cannot be caught; use signals such as SIGTERM, SIGINT, SIGHUP or SIGUSR1")]
    Uncatchable {
        /// The signal.
        signal: Signal,
    },
    /// The signal handler could not be installed.
    #[error("failed to handle {signal}: {source}; use `trigger()`, or forward the signal with `on_signal`")]
    System {
        /// The signal.
        signal: Signal,
        /// The system's error.
        source: Arc<std::io::Error>,
    },
}

impl From<SubscribeError> for ShutdownError {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::Uncatchable(signal) => Self::Uncatchable { signal },
            SubscribeError::System(signal, source) => Self::System { signal, source: Arc::new(source) },
        }
    }
}
