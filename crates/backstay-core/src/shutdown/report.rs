//! The report of a shutdown.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

/// The outcome of a callback.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallbackOutcome {
    /// The callback returned.
    Completed,
    /// The callback returned an error, panicked or could not be run, for this reason.
    Failed(String),
    /// The callback had not returned when its timeout was up.
    TimedOut,
}

impl fmt::Display for CallbackOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => f.write_str("completed"),
            // A row of the table is one line of the log, so line breaks are escaped.
            Self::Failed(why) => write!(f, "failed: {}", OneLine(why)),
            Self::TimedOut => f.write_str("timed out"),
        }
    }
}

/// The result of one callback.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// The callback's name.
    pub name: Arc<str>,
    /// The callback's priority.
    pub priority: i32,
    /// The outcome.
    pub outcome: CallbackOutcome,
    /// How long the callback ran; if it timed out, how long the shutdown waited for it.
    pub took: Duration,
}

impl Step {
    /// Creates the result of the callback `name`.
    #[must_use]
    pub const fn new(name: Arc<str>, priority: i32, outcome: CallbackOutcome, took: Duration) -> Self {
        Self { name, priority, outcome, took }
    }
}

/// The results of all callbacks, in the order in which they ran.
///
/// `Display` prints a table.
///
/// ```
/// use backstay_core::shutdown::{CallbackOutcome, ShutdownReport, Step};
/// use std::time::Duration;
///
/// let mut report = ShutdownReport::default();
/// report.steps.push(Step::new("orders".into(), 10, CallbackOutcome::Completed, Duration::from_millis(120)));
/// let failed = CallbackOutcome::Failed("no route".into());
/// report.steps.push(Step::new("db".into(), 100, failed, Duration::from_millis(3)));
/// report.took = Duration::from_millis(123);
/// assert_eq!(
///     report.to_string(),
///     "shutdown took 0.123 s: 1 completed, 1 failed, 0 timed out
/// priority  callback    took  outcome
///       10  orders    0.120s  completed
///      100  db        0.003s  failed: no route"
/// );
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// One entry for each callback that was started.
    pub steps: Vec<Step>,
    /// The time from the start of the shutdown to the end of the last callback, including the drain delay.
    pub took: Duration,
}

impl ShutdownReport {
    /// Returns whether every callback completed.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.steps.iter().all(|step| step.outcome == CallbackOutcome::Completed)
    }

    /// Returns the result of the callback called `name`.
    #[must_use]
    pub fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().find(|step| &*step.name == name)
    }

    fn count(&self, which: impl Fn(&CallbackOutcome) -> bool) -> usize {
        self.steps.iter().filter(|step| which(&step.outcome)).count()
    }
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "shutdown took {:.3} s: {} completed, {} failed, {} timed out",
            self.took.as_secs_f64(),
            self.count(|outcome| *outcome == CallbackOutcome::Completed),
            self.count(|outcome| matches!(outcome, CallbackOutcome::Failed(_))),
            self.count(|outcome| *outcome == CallbackOutcome::TimedOut),
        )?;
        if self.steps.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = self.steps.iter().map(|step| alloc::format!("{}", OneLine(&step.name))).collect();
        let width = names.iter().map(|name| name.chars().count()).fold("callback".len(), usize::max);
        write!(f, "\npriority  {:<width$}    took  outcome", "callback")?;
        for (step, name) in self.steps.iter().zip(&names) {
            let took = step.took.as_secs_f64();
            write!(f, "\n{:>8}  {name:<width$}  {took:>5.3}s  {}", step.priority, step.outcome)?;
        }
        Ok(())
    }
}

/// Text with its control characters escaped.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        self.0.chars().try_for_each(
            |c| {
                if c.is_control() { write!(f, "{}", c.escape_default()) } else { f.write_char(c) }
            },
        )
    }
}
