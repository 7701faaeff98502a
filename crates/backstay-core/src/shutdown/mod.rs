//! Rules of the shutdown: whose turn it is, how long it may take, what a signal means, what the report says.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::ops::RangeInclusive;
use core::time::Duration;

use crate::InvalidArgument;
use crate::time::Moment;

mod report;
#[cfg(test)]
mod tests;

pub use report::{Outcome, Report, Step};

/// The callbacks' total time where nobody says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// What a total time from configuration or from Python is clamped to.
pub const TIMEOUT_BOUNDS: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(300);
/// How long the callbacks are held back after the shutdown began.
pub const DEFAULT_DRAIN_DELAY: Duration = Duration::ZERO;
/// With which code the process ends when a signal began the shutdown and callbacks still run at its end.
pub const DEFAULT_FORCE_EXIT_CODE: i32 = 1;
/// The exit codes there are.
pub const FORCE_EXIT_CODE_BOUNDS: RangeInclusive<i32> = 0..=255;
/// A callback's priority where nobody says otherwise.
pub const DEFAULT_PRIORITY: i32 = 100;
/// The turn that every callback gets, however little is left of the total.
pub const SHORT_TURN: Duration = Duration::from_millis(250);

/// The longest that the callbacks can be held back, and run: no supervisor waits for more than a day.
pub const DRAIN_DELAY_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How a shutdown is to go; a built one is a sensible one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    timeout: Duration,
    drain_delay: Duration,
    force_exit_code: i32,
}

impl Plan {
    /// A shutdown that begins its callbacks after `drain_delay` and gives them `timeout` in all.
    ///
    /// # Errors
    /// A time of more than a day, a `timeout` of zero, an exit code outside [`FORCE_EXIT_CODE_BOUNDS`].
    pub fn new(timeout: Duration, drain_delay: Duration, force_exit_code: i32) -> Result<Self, InvalidArgument> {
        if drain_delay > DRAIN_DELAY_MAX {
            let given = alloc::format!("{drain_delay:?}");
            return Err(InvalidArgument::new("drain_delay", given, "at most a day"));
        }
        if !FORCE_EXIT_CODE_BOUNDS.contains(&force_exit_code) {
            return Err(InvalidArgument::new("force_exit_code", force_exit_code, "0 to 255"));
        }
        Ok(Self { timeout: sensible_timeout(timeout)?, drain_delay, force_exit_code })
    }

    /// What all callbacks together may take, the drain delay not counted.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How long the callbacks are held back after the shutdown began.
    #[must_use]
    pub const fn drain_delay(&self) -> Duration {
        self.drain_delay
    }

    /// The code with which the process ends when a signal asked for it and callbacks do not end.
    #[must_use]
    pub const fn force_exit_code(&self) -> i32 {
        self.force_exit_code
    }
}

/// A timeout, a callback's or the total, that can be meant: more than nothing, at most a day.
///
/// # Errors
/// The others.
pub fn sensible_timeout(timeout: Duration) -> Result<Duration, InvalidArgument> {
    if timeout.is_zero() || timeout > DRAIN_DELAY_MAX {
        let given = alloc::format!("{timeout:?}");
        return Err(InvalidArgument::new("timeout", given, "more than zero and at most a day"));
    }
    Ok(timeout)
}

/// A callback that waits for its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<C> {
    /// Its name, unique among those that wait.
    pub name: Arc<str>,
    /// The lowest has its turn first.
    pub priority: i32,
    /// What it may take at most; without one, what is left of the total.
    pub timeout: Option<Duration>,
    /// What is to be called.
    pub callback: C,
}

/// The callbacks that wait for their turn, in that order: by priority, equal ones as they were registered.
///
/// ```
/// use backstay_core::shutdown::{Entry, Roster};
///
/// let mut roster = Roster::default();
/// for (name, priority) in [("logs", 100), ("orders", 10), ("database", 100)] {
///     roster.add(Entry { name: name.into(), priority, timeout: None, callback: () }).unwrap();
/// }
/// let order: Vec<_> = std::iter::from_fn(|| roster.next()).map(|entry| entry.name).collect();
/// assert_eq!(order, ["orders".into(), "logs".into(), "database".into()]);
/// ```
#[derive(Clone, Debug)]
pub struct Roster<C> {
    waiting: BTreeMap<Place, Entry<C>>,
    places: BTreeMap<Arc<str>, Place>,
    /// How many were added so far.
    added: u64,
}

/// A priority, and how many had been added before.
type Place = (i32, u64);

impl<C> Roster<C> {
    /// Adds one.
    ///
    /// # Errors
    /// Gives it back where one of that name waits already.
    pub fn add(&mut self, entry: Entry<C>) -> Result<(), Entry<C>> {
        if self.places.contains_key(&entry.name) {
            return Err(entry);
        }
        let place = (entry.priority, self.added);
        self.added += 1;
        self.places.insert(Arc::clone(&entry.name), place);
        self.waiting.insert(place, entry);
        Ok(())
    }

    /// Takes out the one with that name.
    pub fn remove(&mut self, name: &str) -> Option<Entry<C>> {
        let place = self.places.remove(name)?;
        self.waiting.remove(&place)
    }

    /// Takes out the one whose turn it is.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Entry<C>> {
        let (_, entry) = self.waiting.pop_first()?;
        self.places.remove(&entry.name);
        Some(entry)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl<C> Default for Roster<C> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), places: BTreeMap::new(), added: 0 }
    }
}

/// The total time, running out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    ends: Moment,
}

impl Budget {
    /// `total`, from `now` on.
    #[must_use]
    pub fn start(now: Moment, total: Duration) -> Self {
        Self { ends: now + total }
    }

    /// How long a callback may take that has its turn now: its own timeout, at most what is left of the total.
    ///
    /// No turn is shorter than [`SHORT_TURN`] unless the callback's own timeout is. A turn that happens to come a
    /// millisecond before the total is used up would otherwise be worth less than all the turns after it.
    #[must_use]
    pub fn turn(self, now: Moment, own: Option<Duration>) -> Duration {
        let left = self.ends.since(now).max(SHORT_TURN);
        own.map_or(left, |own| own.min(left))
    }
}

/// How long a runtime that was given an async callback may leave it untouched before the callback goes elsewhere: a
/// runtime that nobody drives would otherwise eat the whole turn.
#[must_use]
pub fn first_poll_within(turn: Duration) -> Duration {
    (turn / 2).min(Duration::from_secs(1))
}

/// How far a shutdown has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Not begun.
    #[default]
    Idle,
    /// Draining, or callbacks have their turns.
    Running,
    /// Every callback has had its turn.
    Over,
}

/// Where a shutdown stands, and what has to follow from each thing that happens to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    phase: Phase,
    signalled: bool,
}

/// What a signal leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnSignal {
    /// Run the callbacks.
    Begin,
    /// Nothing more than is under way already.
    Note,
    /// End the process at once with 128 + the signal's number: it is the second one.
    Exit,
    /// End the process with the forced exit code: all is over, and still callbacks run.
    ForceExit,
}

impl Progress {
    /// How far it has come.
    #[must_use]
    pub const fn phase(self) -> Phase {
        self.phase
    }

    /// Whether a signal has asked for it.
    #[must_use]
    pub const fn is_signalled(self) -> bool {
        self.signalled
    }

    /// Somebody wants the shutdown: whether it is theirs to run the callbacks.
    pub fn begin(&mut self) -> bool {
        let first = self.phase == Phase::Idle;
        if first {
            self.phase = Phase::Running;
        }
        first
    }

    /// A signal arrived; `still_running` says whether a callback whose turn is over has not come back.
    ///
    /// A signal that arrives during a shutdown which no signal began is the first one, and what holds for a shutdown
    /// on a signal holds from then on.
    pub fn signal(&mut self, still_running: bool) -> OnSignal {
        if self.signalled {
            return OnSignal::Exit;
        }
        self.signalled = true;
        match self.phase {
            Phase::Idle => {
                self.phase = Phase::Running;
                OnSignal::Begin
            }
            Phase::Over if still_running => OnSignal::ForceExit,
            Phase::Running | Phase::Over => OnSignal::Note,
        }
    }

    /// Every callback has had its turn: whether the process has to be ended by force.
    pub fn finish(&mut self, still_running: bool) -> bool {
        self.phase = Phase::Over;
        self.signalled && still_running
    }
}
