//! What a shutdown refuses.

use std::sync::Arc;

use backstay_core::InvalidArgument;
use thiserror::Error;

use crate::signals::{Signal, TakeError};

/// Something that a shutdown refuses, and what to do instead.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// A callback of that name waits already.
    #[error("a callback named {name:?} is registered already; unregister it first, or choose another name")]
    AlreadyRegistered {
        /// The name.
        name: Arc<str>,
    },
    /// The shutdown has begun: the callback would never have its turn.
    #[error("{name:?} cannot be registered, the shutdown has begun; clean up at once instead")]
    ShuttingDown {
        /// The name.
        name: Arc<str>,
    },
    /// The system has no descriptors for the runtime of an async callback.
    #[error("no runtime for the async callback {name:?}: {source}; register it again when descriptors are free")]
    NoRuntime {
        /// The name.
        name: Arc<str>,
        /// Why.
        source: Arc<std::io::Error>,
    },
    /// The callback's timeout cannot be meant.
    #[error(transparent)]
    InvalidArgument(#[from] InvalidArgument),
    /// No handler can be given to this signal.
    #[error("{signal} cannot be caught; take signals such as SIGTERM, SIGINT, SIGHUP or SIGUSR1")]
    Uncatchable {
        /// The signal.
        signal: Signal,
    },
    /// The system refused to take the signal.
    #[error("{signal} could not be taken: {source}; use `trigger()`, or forward the signal with `on_signal`")]
    System {
        /// The signal.
        signal: Signal,
        /// Why.
        source: Arc<std::io::Error>,
    },
}

impl From<TakeError> for ShutdownError {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::Uncatchable(signal) => Self::Uncatchable { signal },
            TakeError::System(signal, source) => Self::System { signal, source: Arc::new(source) },
        }
    }
}
