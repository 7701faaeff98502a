//! Graceful shutdown: callbacks by priority, each with its time, on a signal or when told to.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use backstay_core::shutdown::{Entry, Plan, Roster};
pub use backstay_core::shutdown::{Outcome, Report, Step};

use crate::clock::{Clock, Moment};
use crate::signals::Taken;
use crate::sync::Mutex;

mod builder;
mod context;
mod error;
mod install;
mod registration;
#[cfg(feature = "tokio")]
mod reserve;
mod run;
mod stage;
mod turn;

pub use crate::signals::Signal;
pub use builder::GracefulShutdownBuilder;
pub use error::ShutdownError;
pub use install::Installed;
pub use registration::{CallbackResult, Registration};

use registration::Cleanup;
use stage::{Stage, Until};
use turn::Turn;

/// Ends a service in order: its callbacks have their turns, lowest priority first, each with its time.
///
/// A shutdown begins with a signal, after [`install`](Self::install), or with [`trigger`](Self::trigger), and happens
/// once. Callbacks never run inside a signal handler, nor on a thread of yours: each has one of its own, an async one
/// a runtime. One that fails, panics or hangs does not stop those after it.
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
/// while !shutdown.is_shutting_down() {
///     // serve
/// #   break;
/// }
/// let report = shutdown.trigger(); // or, where a signal was first, wait for what that began
/// assert_eq!(report.steps.len(), 2);
/// assert!(!report.is_clean(), "{report}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Clones share one shutdown. When the last one is dropped, the signals are given back, and callbacks that are having
/// their turns are waited for, so that leaving `main` does not cut them off. A clone that lives in a `static`, or in a
/// callback, is not dropped by leaving `main`: end with [`wait`](Self::wait), or hold an [`Installed`], whose end also
/// runs the callbacks where no signal came.
///
/// # Signals
/// The first signal begins the shutdown. If callbacks still run when all have had their turns, the process is ended
/// with the builder's [`force_exit_code`](GracefulShutdownBuilder::force_exit_code). A second signal ends it at once,
/// with 128 + its number. Both hold from the first *signal* on: [`trigger`](Self::trigger) alone never ends the
/// process, and a signal during a triggered shutdown is the first one. Nothing ends the process when all went well:
/// that is for `main` to do, by returning.
///
/// # When not to use
/// To stop a single task, a cancellation token is enough.
#[derive(Clone)]
pub struct GracefulShutdown(Arc<Handle>);

/// What the clones share; its destructor is that of the last one.
struct Handle(Arc<Inner>);

/// What the threads of the run and of the signals share with the clones.
struct Inner {
    plan: Plan,
    signals: Vec<Signal>,
    clock: Clock,
    roster: Mutex<Roster<Cleanup>>,
    stage: Stage<Arc<Report>>,
    /// The steps so far.
    known: Mutex<Report>,
    /// Turns that did not end in time.
    overdue: Mutex<Vec<Arc<Turn>>>,
    taken: Mutex<Option<Taken>>,
    #[cfg(feature = "tokio")]
    reserve: reserve::Reserve,
    #[cfg(feature = "tokio")]
    token: tokio_util::sync::CancellationToken,
}

impl Default for GracefulShutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Inner {
    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

impl GracefulShutdown {
    /// Returns a shutdown with the defaults: 30 s in all, `SIGTERM` and `SIGINT`, forced exit code 1.
    ///
    /// It takes no signal before [`install`](Self::install).
    #[must_use]
    #[allow(clippy::missing_panics_doc, reason = "the defaults are valid")]
    pub fn new() -> Self {
        Self::builder().build().expect("the defaults are valid")
    }

    /// Sets timeouts, signals and the like.
    pub fn builder() -> GracefulShutdownBuilder {
        GracefulShutdownBuilder::default()
    }

    fn with(plan: Plan, signals: Vec<Signal>, clock: Clock) -> Self {
        Self(Arc::new(Handle(Arc::new(Inner {
            plan,
            signals,
            clock,
            roster: Mutex::default(),
            stage: Stage::new(),
            known: Mutex::default(),
            overdue: Mutex::default(),
            taken: Mutex::default(),
            #[cfg(feature = "tokio")]
            reserve: reserve::Reserve::default(),
            #[cfg(feature = "tokio")]
            token: tokio_util::sync::CancellationToken::new(),
        }))))
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.0.0
    }

    /// Registers a callback with priority 100 and no timeout of its own. It returns nothing, or a `Result` whose error
    /// goes into the report. For an own priority or timeout: [`callback`](Self::callback).
    ///
    /// # Errors
    /// The name is taken, or the shutdown has begun.
    pub fn register<R: CallbackResult>(
        &self,
        name: &str,
        callback: impl FnOnce() -> R + Send + 'static,
    ) -> Result<(), ShutdownError> {
        self.callback(name).register(callback)
    }

    /// Registers an async callback with priority 100 and no timeout of its own; see
    /// [`Registration::register_async`].
    ///
    /// # Errors
    /// The name is taken, the shutdown has begun, or the system has no descriptors for the callback's runtime.
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

    /// Begins to register a callback: set its priority and timeout, end with
    /// [`register`](Registration::register) or [`register_async`](Registration::register_async).
    pub fn callback(&self, name: &str) -> Registration<'_> {
        Registration::new(self, name)
    }

    fn add(&self, entry: Entry<Cleanup>) -> Result<(), ShutdownError> {
        let name = Arc::clone(&entry.name);
        #[cfg(feature = "tokio")]
        // Once it has begun, nothing would give the descriptors back.
        if entry.callback.is_async() && !self.is_shutting_down() {
            let filled = self.inner().reserve.fill();
            filled.map_err(|source| ShutdownError::NoRuntime { name: Arc::clone(&name), source: Arc::new(source) })?;
        }
        let mut roster = self.inner().roster.lock();
        // Looked at under the lock that the run's last look for a callback takes too: what is added has its turn.
        if self.is_shutting_down() {
            drop(roster);
            return Err(ShutdownError::ShuttingDown { name });
        }
        let refused = roster.add(entry);
        drop(roster);
        refused.map_err(|_| ShutdownError::AlreadyRegistered { name })
    }

    /// Takes out a callback that has not had its turn; whether there was one of that name.
    #[allow(clippy::must_use_candidate)] // called for what it does
    pub fn unregister(&self, name: &str) -> bool {
        let removed = self.inner().roster.lock().remove(name);
        removed.is_some()
    }

    /// Begins the shutdown, or joins the one that is under way, and waits for its end. Everyone gets the same report.
    ///
    /// A callback that calls it gets back at once, with a report of the turns so far.
    ///
    /// On a multi-threaded tokio runtime the other tasks go on meanwhile. On a single-threaded one they cannot, so
    /// async callbacks then run on a runtime of their own, and one that has already begun on the blocked runtime will
    /// time out: await [`trigger_async`](Self::trigger_async) in tasks.
    #[allow(clippy::must_use_candidate)] // called for what it does
    pub fn trigger(&self) -> Arc<Report> {
        self.inner().begin(context::of_blocking_caller());
        self.wait()
    }

    /// [`trigger`](Self::trigger) for tasks, on any runtime.
    ///
    /// # Cancel safety
    /// Dropped once polled, the shutdown goes on to its end all the same.
    pub async fn trigger_async(&self) -> Arc<Report> {
        self.inner().begin(context::of_task());
        self.wait_async().await
    }

    /// Waits until the shutdown is over, however it begins, and returns its report. No polling.
    ///
    /// Called from a callback it returns at once, with a report of the turns so far.
    #[allow(clippy::must_use_candidate)] // called for what it does
    pub fn wait(&self) -> Arc<Report> {
        let inner = self.inner();
        if !turn::is_inside(inner.id()) {
            context::blocking(|| inner.stage.wait(Until::Over, &inner.clock, Moment::NEVER));
        }
        self.known()
    }

    /// [`wait`](Self::wait), but for `timeout` at most: `None` where the shutdown is not over by then.
    #[must_use]
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Arc<Report>> {
        let inner = self.inner();
        if !turn::is_inside(inner.id()) {
            let deadline = inner.clock.now() + timeout;
            context::blocking(|| inner.stage.wait(Until::Over, &inner.clock, deadline));
        }
        self.report()
    }

    /// [`wait`](Self::wait) for tasks, on any runtime.
    ///
    /// # Cancel safety
    /// May be dropped and called again at any time.
    pub async fn wait_async(&self) -> Arc<Report> {
        let inner = self.inner();
        if !turn::is_inside(inner.id()) {
            inner.stage.reached(Until::Over).await;
        }
        self.known()
    }

    /// Sleeps until the shutdown begins, `timeout` at most; whether it has begun. An interruptible sleep for the loops
    /// of workers:
    ///
    /// ```
    /// # use backstay::GracefulShutdown;
    /// # use std::time::Duration;
    /// # let shutdown = GracefulShutdown::new();
    /// # shutdown.trigger();
    /// while !shutdown.begun_within(Duration::from_secs(5)) {
    ///     // look for mail
    /// }
    /// # Ok::<(), backstay::BuildError>(())
    /// ```
    #[must_use]
    pub fn begun_within(&self, timeout: Duration) -> bool {
        let inner = self.inner();
        let deadline = inner.clock.now() + timeout;
        context::blocking(|| inner.stage.wait(Until::Begun, &inner.clock, deadline))
    }

    /// Waits in a task until the shutdown begins, on any runtime. With tokio there is also [`token`](Self::token).
    ///
    /// # Cancel safety
    /// May be dropped and called again at any time.
    pub async fn begun(&self) {
        self.inner().stage.reached(Until::Begun).await;
    }

    /// Whether the shutdown has begun: true before the first callback has its turn, by the drain delay at least, and
    /// for ever after.
    #[must_use]
    pub fn is_shutting_down(&self) -> bool {
        self.inner().stage.is_begun()
    }

    /// A token that is cancelled when the shutdown begins, `tokio_util`'s own. Cancelling it begins nothing.
    #[cfg(feature = "tokio")]
    #[must_use]
    pub fn token(&self) -> tokio_util::sync::CancellationToken {
        self.inner().token.child_token()
    }

    /// The report, once the shutdown is over.
    #[must_use]
    pub fn report(&self) -> Option<Arc<Report>> {
        self.inner().stage.result()
    }

    /// What all callbacks together may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.inner().plan.timeout()
    }

    /// The report, or what is known before it is complete.
    fn known(&self) -> Arc<Report> {
        self.report().unwrap_or_else(|| Arc::new(self.inner().known.lock().clone()))
    }

    /// Waits for callbacks that are having their turns, unless the caller is one.
    fn settle(inner: &Inner) {
        if inner.stage.is_running() && !turn::is_inside(inner.id()) {
            context::blocking(|| inner.stage.wait(Until::Over, &inner.clock, Moment::NEVER));
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // While it waits, a second signal must still be heard.
        GracefulShutdown::settle(&self.0);
        let taken = self.0.taken.lock().take();
        drop(taken);
        // A signal may have arrived last of all.
        GracefulShutdown::settle(&self.0);
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
