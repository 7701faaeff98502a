//! Callbacks, and how they are registered.

use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use backstay_core::shutdown::{DEFAULT_PRIORITY, Entry, sensible_timeout};

use super::{GracefulShutdown, ShutdownError};

/// What a callback may return: nothing, or a `Result` whose error tells why it failed.
pub trait CallbackResult {
    /// The result, an error as its text.
    ///
    /// # Errors
    /// The callback's own.
    fn into_result(self) -> Result<(), String>;
}

impl CallbackResult for () {
    fn into_result(self) -> Result<(), String> {
        Ok(())
    }
}

impl<T, E: Display> CallbackResult for Result<T, E> {
    fn into_result(self) -> Result<(), String> {
        // The alternate form shows the causes too, where the error type knows how.
        self.map(drop).map_err(|error| format!("{error:#}"))
    }
}

pub(super) type CleanupFuture = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// A registered callback.
pub(super) struct Cleanup {
    pub(super) work: Work,
    /// The runtime it was registered on.
    #[cfg(feature = "tokio")]
    pub(super) runtime: Option<tokio::runtime::Handle>,
}

#[cfg(feature = "tokio")]
impl Cleanup {
    pub(super) fn is_async(&self) -> bool {
        matches!(self.work, Work::Async(_))
    }
}

pub(super) enum Work {
    Plain(Box<dyn FnOnce() -> Result<(), String> + Send>),
    Async(CleanupFuture),
}

/// A callback that is about to be registered: [`GracefulShutdown::callback`].
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

    /// Its place: the lowest priority has its turn first, equal ones in order of registration. 100 by default.
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// What it may take, at most what is then left of the total. By default all that is left.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Registers a function; it runs on a thread of its own.
    ///
    /// # Errors
    /// The name is taken, the shutdown has begun, or the timeout is zero or longer than a day.
    pub fn register<R: CallbackResult>(
        self,
        callback: impl FnOnce() -> R + Send + 'static,
    ) -> Result<(), ShutdownError> {
        self.add(Work::Plain(Box::new(move || callback().into_result())))
    }

    /// Registers an async function; it runs on the tokio runtime that is alive, otherwise on one of its own.
    ///
    /// Alive is first the runtime on which it was registered, then the one on which the shutdown was triggered. The
    /// runtime of its own is made when the first async callback is registered, and kept: it needs a few descriptors, and
    /// a service may shut down because it has none left. A callback that is still executed when its time is up keeps that
    /// runtime; where there are no descriptors for another, those after it run on one without tokio's I/O.
    ///
    /// # Errors
    /// The name is taken, the shutdown has begun, the timeout is zero or longer than a day, or the system has no
    /// descriptors for the runtime.
    pub fn register_async<F>(self, callback: impl FnOnce() -> F + Send + 'static) -> Result<(), ShutdownError>
    where
        F: Future<Output: CallbackResult> + Send + 'static,
    {
        self.add(Work::Async(Box::pin(async move { callback().await.into_result() })))
    }

    fn add(self, work: Work) -> Result<(), ShutdownError> {
        let callback = Cleanup {
            work,
            #[cfg(feature = "tokio")]
            runtime: tokio::runtime::Handle::try_current().ok(),
        };
        let timeout = self.timeout.map(sensible_timeout).transpose()?;
        self.shutdown.add(Entry { name: self.name, priority: self.priority, timeout, callback })
    }
}
