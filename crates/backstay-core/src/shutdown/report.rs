//! What became of each callback.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

/// How a callback's turn ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It came back.
    Completed,
    /// It returned an error, panicked or could not be run: why.
    Failed(String),
    /// It had not come back when its time was up.
    TimedOut,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => f.write_str("completed"),
            // One line of the table is one line of the log: what breaks lines is escaped.
            Self::Failed(why) => write!(f, "failed: {}", OneLine(why)),
            Self::TimedOut => f.write_str("timed out"),
        }
    }
}

/// One callback's turn.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// The callback's name.
    pub name: Arc<str>,
    /// The priority it was registered with.
    pub priority: i32,
    /// How its turn ended.
    pub outcome: Outcome,
    /// How long it took, for one that timed out how long it was waited for.
    pub took: Duration,
}

impl Step {
    /// `name`'s turn ended so, after that long.
    #[must_use]
    pub const fn new(name: Arc<str>, priority: i32, outcome: Outcome, took: Duration) -> Self {
        Self { name, priority, outcome, took }
    }
}

/// What became of each callback, in the order of their turns. `Display` prints a table.
///
/// ```
/// use backstay_core::shutdown::{Outcome, Report, Step};
/// use std::time::Duration;
///
/// let mut report = Report::default();
/// report.steps.push(Step::new("orders".into(), 10, Outcome::Completed, Duration::from_millis(120)));
/// report.steps.push(Step::new("db".into(), 100, Outcome::Failed("no route".into()), Duration::from_millis(3)));
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
pub struct Report {
    /// One for each callback that has had its turn.
    pub steps: Vec<Step>,
    /// From the beginning, drain delay included, to the end of the last turn.
    pub took: Duration,
}

impl Report {
    /// Whether every callback completed.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.steps.iter().all(|step| step.outcome == Outcome::Completed)
    }

    /// The step of the callback with that name.
    #[must_use]
    pub fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().find(|step| &*step.name == name)
    }

    fn count(&self, which: impl Fn(&Outcome) -> bool) -> usize {
        self.steps.iter().filter(|step| which(&step.outcome)).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "shutdown took {:.3} s: {} completed, {} failed, {} timed out",
            self.took.as_secs_f64(),
            self.count(|outcome| *outcome == Outcome::Completed),
            self.count(|outcome| matches!(outcome, Outcome::Failed(_))),
            self.count(|outcome| *outcome == Outcome::TimedOut),
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
