//! Rules of a graceful shutdown: the order and timeouts of callbacks, the effect of signals, and the report.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::ops::RangeInclusive;
use core::time::Duration;

use crate::InvalidArgument;
use crate::time::Moment;

mod report;
#[cfg(test)]
mod tests;

pub use report::{CallbackOutcome, ShutdownReport, Step};

/// Default total timeout of all callbacks.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Bounds to which a total timeout from the configuration or from Python is clamped.
pub const TIMEOUT_BOUNDS: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(300);
/// Default delay between the start of the shutdown and the first callback.
pub const DEFAULT_DRAIN_DELAY: Duration = Duration::ZERO;
/// Default exit code if a signal has arrived and callbacks still run at the end of the shutdown.
pub const DEFAULT_FORCE_EXIT_CODE: i32 = 1;
/// Valid exit codes.
pub const FORCE_EXIT_CODE_BOUNDS: RangeInclusive<i32> = 0..=255;
/// Default priority of a callback.
pub const DEFAULT_PRIORITY: i32 = 100;
/// Time that each callback gets even if the total timeout is used up.
pub const MIN_CALLBACK_TIME: Duration = Duration::from_millis(250);

/// Longest drain delay and longest timeout: no supervisor waits for more than a day.
pub const DRAIN_DELAY_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Validated settings of a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownPlan {
    timeout: Duration,
    drain_delay: Duration,
    force_exit_code: i32,
}

impl ShutdownPlan {
    /// Creates the plan of a shutdown that waits for `drain_delay` and then runs its callbacks within `timeout`.
    ///
    /// # Errors
    /// `timeout` is zero, `timeout` or `drain_delay` is longer than a day, or `force_exit_code` is outside
    /// [`FORCE_EXIT_CODE_BOUNDS`].
    pub fn new(timeout: Duration, drain_delay: Duration, force_exit_code: i32) -> Result<Self, InvalidArgument> {
        if drain_delay > DRAIN_DELAY_MAX {
            let given = alloc::format!("{drain_delay:?}");
            return Err(InvalidArgument::new("drain_delay", given, "at most a day"));
        }
        if !FORCE_EXIT_CODE_BOUNDS.contains(&force_exit_code) {
            return Err(InvalidArgument::new("force_exit_code", force_exit_code, "0 to 255"));
        }
        Ok(Self { timeout: validate_timeout(timeout)?, drain_delay, force_exit_code })
    }

    /// Returns the total timeout of all callbacks, without the drain delay.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Returns the delay between the start of the shutdown and the first callback.
    #[must_use]
    pub const fn drain_delay(&self) -> Duration {
        self.drain_delay
    }

    /// Returns the exit code if a signal has arrived and callbacks still run at the end of the shutdown.
    #[must_use]
    pub const fn force_exit_code(&self) -> i32 {
        self.force_exit_code
    }
}

/// Checks the timeout of a callback or of the shutdown: above zero and at most a day.
///
/// # Errors
/// `timeout` is zero or longer than a day.
pub fn validate_timeout(timeout: Duration) -> Result<Duration, InvalidArgument> {
    if timeout.is_zero() || timeout > DRAIN_DELAY_MAX {
        let given = alloc::format!("{timeout:?}");
        return Err(InvalidArgument::new("timeout", given, "more than zero and at most a day"));
    }
    Ok(timeout)
}

/// A registered callback that has not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedCallback<C> {
    /// The callback's name, unique in the queue.
    pub name: Arc<str>,
    /// The callback with the lowest priority runs first.
    pub priority: i32,
    /// The callback's own timeout; `None`: what is left of the total timeout.
    pub timeout: Option<Duration>,
    /// The code to run.
    pub callback: C,
}

/// The callbacks that have not run, ordered by priority and then by registration.
///
/// ```
/// use backstay_core::shutdown::{CallbackQueue, QueuedCallback};
///
/// let mut queue = CallbackQueue::default();
/// for (name, priority) in [("logs", 100), ("orders", 10), ("database", 100)] {
///     queue.add(QueuedCallback { name: name.into(), priority, timeout: None, callback: () }).unwrap();
/// }
/// let order: Vec<_> = std::iter::from_fn(|| queue.next()).map(|entry| entry.name).collect();
/// assert_eq!(order, ["orders".into(), "logs".into(), "database".into()]);
/// ```
#[derive(Clone, Debug)]
pub struct CallbackQueue<C> {
    callbacks: BTreeMap<QueueKey, QueuedCallback<C>>,
    keys: BTreeMap<Arc<str>, QueueKey>,
    /// The number of callbacks added so far.
    added: u64,
}

/// The priority, and the number of callbacks added before.
type QueueKey = (i32, u64);

impl<C> CallbackQueue<C> {
    /// Adds a callback.
    ///
    /// # Errors
    /// Returns the callback if the queue already holds one with its name.
    pub fn add(&mut self, entry: QueuedCallback<C>) -> Result<(), QueuedCallback<C>> {
        if self.keys.contains_key(&entry.name) {
            return Err(entry);
        }
        let key = (entry.priority, self.added);
        self.added += 1;
        self.keys.insert(Arc::clone(&entry.name), key);
        self.callbacks.insert(key, entry);
        Ok(())
    }

    /// Removes and returns the callback called `name`.
    pub fn remove(&mut self, name: &str) -> Option<QueuedCallback<C>> {
        let key = self.keys.remove(name)?;
        self.callbacks.remove(&key)
    }

    /// Removes and returns the callback that runs next.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<QueuedCallback<C>> {
        let (_, entry) = self.callbacks.pop_first()?;
        self.keys.remove(&entry.name);
        Some(entry)
    }

    /// Returns the number of callbacks in the queue.
    #[must_use]
    pub fn len(&self) -> usize {
        self.callbacks.len()
    }

    /// Returns whether the queue is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.callbacks.is_empty()
    }
}

impl<C> Default for CallbackQueue<C> {
    fn default() -> Self {
        Self { callbacks: BTreeMap::new(), keys: BTreeMap::new(), added: 0 }
    }
}

/// The end of the total timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    ends: Moment,
}

impl Deadline {
    /// Creates the deadline that is `total` after `now`.
    #[must_use]
    pub fn after(now: Moment, total: Duration) -> Self {
        Self { ends: now + total }
    }

    /// Returns the timeout of a callback that starts now: its own, but at most the time left.
    ///
    /// The time left counts as [`MIN_CALLBACK_TIME`] at least. Otherwise a callback that starts a millisecond before
    /// the deadline would get less time than each callback after it.
    #[must_use]
    pub fn callback_timeout(self, now: Moment, own: Option<Duration>) -> Duration {
        let left = self.ends.since(now).max(MIN_CALLBACK_TIME);
        own.map_or(left, |own| own.min(left))
    }
}

/// Returns how long to wait for a runtime to poll an async callback for the first time; then it runs elsewhere.
///
/// A runtime that is not driven would otherwise use up the whole timeout of the callback.
#[must_use]
pub fn first_poll_within(timeout: Duration) -> Duration {
    (timeout / 2).min(Duration::from_secs(1))
}

/// The phase of a shutdown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShutdownPhase {
    /// The shutdown has not begun.
    #[default]
    Idle,
    /// The drain delay or a callback is running.
    Running,
    /// Every callback has completed, failed or timed out.
    Finished,
}

/// The state machine of a shutdown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    phase: ShutdownPhase,
    signalled: bool,
}

/// What to do about a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalAction {
    /// Run the callbacks.
    Begin,
    /// Go on with the shutdown.
    Continue,
    /// End the process at once with 128 + the signal's number: this is the second signal.
    ExitNow,
    /// End the process with the forced exit code: the shutdown has finished, and callbacks still run.
    ForceExit,
}

impl Progress {
    /// Returns the phase of the shutdown.
    #[must_use]
    pub const fn phase(self) -> ShutdownPhase {
        self.phase
    }

    /// Returns whether a signal has arrived.
    #[must_use]
    pub const fn is_signalled(self) -> bool {
        self.signalled
    }

    /// Begins the shutdown, and returns whether the caller has to run the callbacks.
    pub fn begin(&mut self) -> bool {
        let first = self.phase == ShutdownPhase::Idle;
        if first {
            self.phase = ShutdownPhase::Running;
        }
        first
    }

    /// Handles a signal; `still_running`: the code of a callback that timed out is still running.
    ///
    /// A signal during a shutdown that no signal began is the first signal: from then on the shutdown counts as started
    /// by a signal.
    pub fn signal(&mut self, still_running: bool) -> SignalAction {
        if self.signalled {
            return SignalAction::ExitNow;
        }
        self.signalled = true;
        match self.phase {
            ShutdownPhase::Idle => {
                self.phase = ShutdownPhase::Running;
                SignalAction::Begin
            }
            ShutdownPhase::Finished if still_running => SignalAction::ForceExit,
            ShutdownPhase::Running | ShutdownPhase::Finished => SignalAction::Continue,
        }
    }

    /// Finishes the shutdown, and returns whether the process must be ended by force.
    pub fn finish(&mut self, still_running: bool) -> bool {
        self.phase = ShutdownPhase::Finished;
        self.signalled && still_running
    }
}
