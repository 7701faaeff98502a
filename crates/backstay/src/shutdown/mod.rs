//! Runs cleanup callbacks when a process ends: in order of priority, each with a timeout.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use backstay_core::shutdown::{CallbackOutcome, ShutdownReport, Step};
use backstay_core::shutdown::{CallbackQueue, QueuedCallback, ShutdownPlan};

use crate::clock::{Clock, Moment};
use crate::signals::SignalSubscription;
use crate::sync::Mutex;

mod builder;
mod callback_run;
mod context;
mod error;
mod install;
mod registration;
#[cfg(feature = "tokio")]
mod reserved_runtime;
mod run;
mod state;

pub use crate::signals::Signal;
pub use builder::GracefulShutdownBuilder;
pub use error::ShutdownError;
pub use install::Installed;
pub use registration::{CallbackResult, Registration};

use callback_run::CallbackRun;
use registration::Cleanup;
use state::{Milestone, ShutdownState};

/// Runs cleanup callbacks on a signal or a trigger: lowest priority first, each with a timeout.
///
/// A shutdown begins with a signal, after [`install`](Self::install), or with [`trigger`](Self::trigger), and happens
/// once. Callbacks never run inside a signal handler or on the calling thread: each runs on a thread of its own, an
/// async one on a runtime. A callback that fails, panics or hangs does not stop those after it.
///
/// ```
/// use backstay::GracefulShutdown;
/// use std::time::Duration;
///
/// let shutdown = GracefulShutdown::builder().timeout(Duration::from_secs(20)).build()?;
/// shutdown.callback("orders").priority(10).timeout(Duration::from_secs(5)).register(|| println!("orders closed"))?;
/// shutdown.register("database", || std::fs::remove_file("/no/such/file"))?;
/// shutdown.install()?;
///
/// # shutdown.on_signal(backstay::shutdown::Signal::TERM);
/// while !shutdown.begun_within(Duration::from_secs(1)) {
///     println!("still serving");
/// }
/// let report = shutdown.wait();
/// assert_eq!(report.steps.len(), 2);
/// assert!(!report.is_clean(), "{report}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Clones share one shutdown. Dropping the last clone waits for a shutdown that is running, so that leaving `main` does
/// not cut callbacks off, and restores the signal handlers. Leaving `main` does not drop a clone in a `static` or in a
/// callback: end `main` with [`wait`](Self::wait), or hold an [`Installed`], which also runs the callbacks if no signal
/// arrived.
///
/// # Signals
/// The first signal begins the shutdown. If a callback that timed out still runs at the end of the shutdown, the
/// process ends with the builder's [`force_exit_code`](GracefulShutdownBuilder::force_exit_code). A second signal ends
/// the process at once, with 128 + its number. [`trigger`](Self::trigger) alone never ends the process; a signal during
/// a triggered shutdown is the first signal. If all callbacks end in time, the process goes on until `main` returns.
///
/// # When not to use
/// A cancellation token is enough to stop a single task.
#[derive(Clone)]
pub struct GracefulShutdown(Arc<Handle>);

/// Shared by the clones: dropped with the last of them.
struct Handle(Arc<ShutdownInner>);

/// Shared by the clones, the shutdown thread and the signal dispatcher.
///
/// Lock order: no two of these locks are held at once. `subscription` is locked before the signal registry.
struct ShutdownInner {
    plan: ShutdownPlan,
    signals: Vec<Signal>,
    clock: Clock,
    queue: Mutex<CallbackQueue<Cleanup>>,
    state: ShutdownState<Arc<ShutdownReport>>,
    /// The results so far.
    partial_report: Mutex<ShutdownReport>,
    /// The runs of callbacks that timed out.
    overdue: Mutex<Vec<Arc<CallbackRun>>>,
    subscription: Mutex<Option<SignalSubscription>>,
    #[cfg(feature = "tokio")]
    reserved_runtime: reserved_runtime::ReservedRuntime,
    #[cfg(feature = "tokio")]
    token: tokio_util::sync::CancellationToken,
}

impl Default for GracefulShutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl ShutdownInner {
    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

impl GracefulShutdown {
    /// Creates a shutdown with the default settings.
    ///
    /// The defaults are a total timeout of 30 s, `SIGTERM` and `SIGINT`, and the forced exit code 1. No signal is
    /// handled before [`install`](Self::install).
    #[must_use]
    #[allow(clippy::missing_panics_doc, reason = "the defaults are valid")]
    pub fn new() -> Self {
        Self::builder().build().expect("the defaults are valid")
    }

    /// Returns a builder that sets timeouts, signals and the like.
    pub fn builder() -> GracefulShutdownBuilder {
        GracefulShutdownBuilder::default()
    }

    fn with(plan: ShutdownPlan, signals: Vec<Signal>, clock: Clock) -> Self {
        Self(Arc::new(Handle(Arc::new(ShutdownInner {
            plan,
            signals,
            clock,
            queue: Mutex::default(),
            state: ShutdownState::new(),
            partial_report: Mutex::default(),
            overdue: Mutex::default(),
            subscription: Mutex::default(),
            #[cfg(feature = "tokio")]
            reserved_runtime: reserved_runtime::ReservedRuntime::default(),
            #[cfg(feature = "tokio")]
            token: tokio_util::sync::CancellationToken::new(),
        }))))
    }

    fn inner(&self) -> &Arc<ShutdownInner> {
        &self.0.0
    }

    /// Registers a callback with priority 100 and no timeout of its own.
    ///
    /// The callback returns `()`, or a `Result`; an error goes into the report. To set a priority or a timeout, use
    /// [`callback`](Self::callback).
    ///
    /// # Errors
    /// A callback with this name is already registered, or the shutdown has begun.
    pub fn register<R: CallbackResult>(
        &self,
        name: &str,
        callback: impl FnOnce() -> R + Send + 'static,
    ) -> Result<(), ShutdownError> {
        self.callback(name).register(callback)
    }

    /// Registers an async callback with priority 100 and no timeout of its own.
    ///
    /// [`Registration::register_async`] describes the runtime on which it runs.
    ///
    /// # Errors
    /// A callback with this name is already registered, the shutdown has begun, or the system has no file descriptors
    /// for the callback's runtime.
    pub fn register_async<F>(
        &self,
        name: &str,
        callback: impl FnOnce() -> F + Send + 'static,
    ) -> Result<(), ShutdownError>
    where
        F: Future<Output: CallbackResult> + Send + 'static,
    {
        self.callback(name).register_async(callback)
    }

    /// Returns a builder that registers a callback with its own priority and timeout.
    ///
    /// End with [`register`](Registration::register) or [`register_async`](Registration::register_async).
    pub fn callback(&self, name: &str) -> Registration<'_> {
        Registration::new(self, name)
    }

    fn add(&self, entry: QueuedCallback<Cleanup>) -> Result<(), ShutdownError> {
        let name = Arc::clone(&entry.name);
        #[cfg(feature = "tokio")]
        // After the shutdown has begun, nothing would free the runtime's descriptors.
        if entry.callback.is_async() && !self.is_shutting_down() {
            let ensured = self.inner().reserved_runtime.ensure();
            ensured.map_err(|source| ShutdownError::NoRuntime { name: Arc::clone(&name), source: Arc::new(source) })?;
        }
        let mut queue = self.inner().queue.lock();
        // Read under the lock under which the shutdown thread takes callbacks: a callback that is added here runs.
        if self.is_shutting_down() {
            drop(queue);
            return Err(ShutdownError::ShuttingDown { name });
        }
        let added = queue.add(entry);
        drop(queue);
        added.map_err(|_| ShutdownError::AlreadyRegistered { name })
    }

    /// Removes a callback that has not started, and returns whether there was one called `name`.
    #[allow(clippy::must_use_candidate)] // called for what it does
    pub fn unregister(&self, name: &str) -> bool {
        let removed = self.inner().queue.lock().remove(name);
        removed.is_some()
    }

    /// Begins the shutdown, unless it has begun, and blocks until it has finished.
    ///
    /// All callers get the same report. In a callback it returns at once, with a report of the callbacks so far.
    ///
    /// Await [`trigger_async`](Self::trigger_async) in tasks. On a multi-threaded tokio runtime, `trigger` blocks no
    /// other task. On a single-threaded one it blocks all of them: async callbacks then run on the reserved runtime,
    /// and one that has already begun on the blocked runtime times out.
    #[allow(clippy::must_use_candidate)] // called for what it does
    pub fn trigger(&self) -> Arc<ShutdownReport> {
        self.inner().begin(context::of_blocking_caller());
        self.wait()
    }

    /// Begins the shutdown, unless it has begun, and waits in a task until it has finished, on any runtime.
    ///
    /// All callers get the same report. In a callback it returns at once, with a report of the callbacks so far.
    ///
    /// # Cancel safety
    /// Cancel safe. The shutdown begins at the first poll, and goes on if the future is dropped.
    pub async fn trigger_async(&self) -> Arc<ShutdownReport> {
        self.inner().begin(context::of_task());
        self.wait_async().await
    }

    /// Blocks until the shutdown has finished, and returns its report.
    ///
    /// Does not begin the shutdown, and does not poll. In a callback it returns at once, with a report of the callbacks
    /// so far.
    #[allow(clippy::must_use_candidate)] // called for what it does
    pub fn wait(&self) -> Arc<ShutdownReport> {
        let inner = self.inner();
        if !callback_run::is_inside_callback(inner.id()) {
            context::blocking(|| inner.state.wait(Milestone::Finished, &inner.clock, Moment::NEVER));
        }
        self.report_so_far()
    }

    /// Blocks until the shutdown has finished, for at most `timeout`; returns `None` if it has not by then.
    ///
    /// In a callback it returns `None` at once.
    #[must_use]
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Arc<ShutdownReport>> {
        let inner = self.inner();
        if !callback_run::is_inside_callback(inner.id()) {
            let deadline = inner.clock.now() + timeout;
            context::blocking(|| inner.state.wait(Milestone::Finished, &inner.clock, deadline));
        }
        self.report()
    }

    /// Waits in a task until the shutdown has finished, on any runtime, and returns its report.
    ///
    /// In a callback it returns at once, with a report of the callbacks so far.
    ///
    /// # Cancel safety
    /// Cancel safe: dropping the future has no effect.
    pub async fn wait_async(&self) -> Arc<ShutdownReport> {
        let inner = self.inner();
        if !callback_run::is_inside_callback(inner.id()) {
            inner.state.reached(Milestone::Finished).await;
        }
        self.report_so_far()
    }

    /// Sleeps for `timeout` or until the shutdown begins, and returns whether it has begun.
    ///
    /// Use it in the loop of a worker:
    ///
    /// ```
    /// # use backstay::GracefulShutdown;
    /// # use std::time::Duration;
    /// # let shutdown = GracefulShutdown::new();
    /// # shutdown.trigger();
    /// while !shutdown.begun_within(Duration::from_secs(5)) {
    ///     println!("checking the mailbox");
    /// }
    /// # Ok::<(), backstay::BuildError>(())
    /// ```
    #[must_use]
    pub fn begun_within(&self, timeout: Duration) -> bool {
        let inner = self.inner();
        let deadline = inner.clock.now() + timeout;
        context::blocking(|| inner.state.wait(Milestone::Begun, &inner.clock, deadline))
    }

    /// Waits in a task until the shutdown begins, on any runtime.
    ///
    /// For tokio there is also [`token`](Self::token).
    ///
    /// # Cancel safety
    /// Cancel safe: dropping the future has no effect.
    pub async fn begun(&self) {
        self.inner().state.reached(Milestone::Begun).await;
    }

    /// Returns whether the shutdown has begun.
    ///
    /// True from the start of the drain delay, which precedes the first callback, and forever after.
    #[must_use]
    pub fn is_shutting_down(&self) -> bool {
        self.inner().state.is_begun()
    }

    /// Returns a cancellation token of `tokio_util` that is cancelled when the shutdown begins.
    ///
    /// Cancelling the token does not begin the shutdown.
    #[cfg(feature = "tokio")]
    #[must_use]
    pub fn token(&self) -> tokio_util::sync::CancellationToken {
        self.inner().token.child_token()
    }

    /// Returns the report, or `None` if the shutdown has not finished.
    #[must_use]
    pub fn report(&self) -> Option<Arc<ShutdownReport>> {
        self.inner().state.result()
    }

    /// Returns the total timeout of all callbacks.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.inner().plan.timeout()
    }

    /// Returns the report or, before the shutdown has finished, the results so far.
    fn report_so_far(&self) -> Arc<ShutdownReport> {
        self.report().unwrap_or_else(|| Arc::new(self.inner().partial_report.lock().clone()))
    }

    /// Waits for the end of a running shutdown, unless the caller is one of its callbacks.
    fn wait_for_callbacks(inner: &ShutdownInner) {
        if inner.state.is_running() && !callback_run::is_inside_callback(inner.id()) {
            context::blocking(|| inner.state.wait(Milestone::Finished, &inner.clock, Moment::NEVER));
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // In this order: a second signal must still be handled while this waits.
        GracefulShutdown::wait_for_callbacks(&self.0);
        let subscription = self.0.subscription.lock().take();
        drop(subscription);
        // A signal may have arrived before the handlers were restored.
        GracefulShutdown::wait_for_callbacks(&self.0);
    }
}

impl fmt::Debug for GracefulShutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GracefulShutdown")
            .field("plan", &self.inner().plan)
            .field("signals", &self.inner().signals)
            .field("is_shutting_down", &self.is_shutting_down())
            .finish_non_exhaustive()
    }
}
