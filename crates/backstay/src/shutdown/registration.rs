//! Callbacks and their registration.

use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use backstay_core::shutdown::{DEFAULT_PRIORITY, QueuedCallback, validate_timeout};

use super::{GracefulShutdown, ShutdownError};

/// The return type of a callback: `()`, or a `Result`, with an error for the report.
pub trait CallbackResult {
    /// Converts the error, if any, to text.
    ///
    /// # Errors
    /// The callback's own error.
    fn into_result(self) -> Result<(), String>;
}

impl CallbackResult for () {
    fn into_result(self) -> Result<(), String> {
        Ok(())
    }
}

impl<T, E: Display> CallbackResult for Result<T, E> {
    fn into_result(self) -> Result<(), String> {
        // Error types such as `anyhow::Error` show their causes in the alternate form.
        self.map(drop).map_err(|error| format!("{error:#}"))
    }
}

pub(super) type CleanupFuture = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// A registered callback.
pub(super) struct Cleanup {
    pub(super) callback: CallbackFn,
    /// The runtime on which the callback was registered.
    #[cfg(feature = "tokio")]
    pub(super) runtime: Option<tokio::runtime::Handle>,
}

#[cfg(feature = "tokio")]
impl Cleanup {
    pub(super) fn is_async(&self) -> bool {
        matches!(self.callback, CallbackFn::Async(_))
    }
}

pub(super) enum CallbackFn {
    Sync(Box<dyn FnOnce() -> Result<(), String> + Send>),
    Async(CleanupFuture),
}

/// Builds and registers a callback: [`GracefulShutdown::callback`].
#[derive(Clone, Debug)]
#[must_use = "nothing is registered until `register` or `register_async` is called"]
pub struct Registration<'a> {
    shutdown: &'a GracefulShutdown,
    name: Arc<str>,
    priority: i32,
    timeout: Option<Duration>,
}

impl<'a> Registration<'a> {
    pub(super) fn new(shutdown: &'a GracefulShutdown, name: &str) -> Self {
        Self { shutdown, name: name.into(), priority: DEFAULT_PRIORITY, timeout: None }
    }

    /// Sets the priority; the default is 100.
    ///
    /// The callback with the lowest priority runs first. Callbacks of equal priority run in order of registration.
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Sets the callback's own timeout, above zero and at most a day.
    ///
    /// The time left of the total timeout limits it. By default the callback may use all the time left.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Registers a function, which runs on a thread of its own.
    ///
    /// # Errors
    /// A callback with this name is already registered, the shutdown has begun, or the timeout is zero or longer than a
    /// day.
    pub fn register<R: CallbackResult>(
        self,
        callback: impl FnOnce() -> R + Send + 'static,
    ) -> Result<(), ShutdownError> {
        self.add(CallbackFn::Sync(Box::new(move || callback().into_result())))
    }

    /// Registers an async function, which runs on a tokio runtime.
    ///
    /// The runtime is the one on which the callback was registered, if that still runs; otherwise the one on which the
    /// shutdown was triggered; otherwise a reserved one. The reserved runtime is built when the first async callback is
    /// registered, because it needs a few file descriptors, and a service may shut down because it has none left. A
    /// callback that still executes after its timeout keeps the reserved runtime. The callbacks after it get a new one,
    /// without tokio's I/O if the system has no descriptors.
    ///
    /// # Errors
    /// A callback with this name is already registered, the shutdown has begun, the timeout is zero or longer than a
    /// day, or the system has no file descriptors for the reserved runtime.
    pub fn register_async<F>(self, callback: impl FnOnce() -> F + Send + 'static) -> Result<(), ShutdownError>
    where
        F: Future<Output: CallbackResult> + Send + 'static,
    {
        self.add(CallbackFn::Async(Box::pin(async move { callback().await.into_result() })))
    }

    fn add(self, function: CallbackFn) -> Result<(), ShutdownError> {
        let callback = Cleanup {
            callback: function,
            #[cfg(feature = "tokio")]
            runtime: tokio::runtime::Handle::try_current().ok(),
        };
        let timeout = self.timeout.map(validate_timeout).transpose()?;
        self.shutdown.add(QueuedCallback { name: self.name, priority: self.priority, timeout, callback })
    }
}
