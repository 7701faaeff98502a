//! The last minutes of a service, in cells of equal length. Pure: time, since `serve` began, is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::Value;

use crate::heartbeats::{CheckResult, HeartbeatCheck, Severity};

/// The time that one cell stands for.
pub(super) const CELL: Duration = Duration::from_secs(10);
pub(super) const CELLS: usize = 60;

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    /// The worst severity in this time.
    severity: Option<Severity>,
    mark: Option<Mark>,
}

/// An event in the time of a cell; the more important one last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    Restart,
    Freeze,
}

/// The values that change with a restart or a freeze.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    pid: u32,
    restarts: u64,
    freezes: u64,
}

#[derive(Debug, Default)]
pub(super) struct History {
    /// The cells, the newest last.
    cells: VecDeque<Cell>,
    /// The number of the newest cell.
    newest: u64,
    counts: Option<Counts>,
    /// When the file last existed.
    file_existed: Duration,
}

impl History {
    pub(super) fn note(&mut self, now: Duration, check: &HeartbeatCheck) {
        self.advance(now);
        let mark = check.heartbeat.as_ref().and_then(|heartbeat| {
            let count = |key| heartbeat.metadata.get(key).and_then(Value::as_u64).unwrap_or(0);
            let counts = Counts { pid: heartbeat.pid, restarts: count("restarts"), freezes: count("freezes") };
            mark(self.counts.replace(counts)?, counts)
        });
        if check.result != CheckResult::Missing {
            self.file_existed = now;
        }
        if let Some(cell) = self.cells.back_mut() {
            cell.severity = cell.severity.max(Some(check.severity()));
            cell.mark = cell.mark.max(mark);
        }
    }

    /// Whether the file was removed before the oldest cell began, so that all cells are empty.
    pub(super) fn is_over(&self, now: Duration) -> bool {
        now.saturating_sub(self.file_existed) > CELL.saturating_mul(u32::try_from(CELLS).unwrap_or(u32::MAX))
    }

    /// A letter for each cell, the oldest first; `.` for a cell without a check.
    pub(super) fn strip(&self) -> String {
        let letter = |severity| match severity {
            Severity::Healthy => 'w',
            Severity::Unready => 'n',
            Severity::Stopped => 's',
            Severity::Unknown => 'u',
            Severity::Dead => 'd',
        };
        self.letters(|cell| cell.severity.map(letter))
    }

    /// A letter for each cell, the oldest first: `r` for a restart, `f` for a freeze, else `.`.
    pub(super) fn marks(&self) -> String {
        self.letters(|cell| {
            cell.mark.map(|mark| match mark {
                Mark::Restart => 'r',
                Mark::Freeze => 'f',
            })
        })
    }

    fn letters(&self, letter: impl Fn(&Cell) -> Option<char>) -> String {
        let before = std::iter::repeat_n('.', CELLS - self.cells.len());
        before.chain(self.cells.iter().map(|cell| letter(cell).unwrap_or('.'))).collect()
    }

    /// Adds cells until the newest one is that of `now`. Cells in between stay empty.
    fn advance(&mut self, now: Duration) {
        let number = now.as_secs() / CELL.as_secs();
        let new = if self.cells.is_empty() { 1 } else { number.saturating_sub(self.newest) };
        for _ in 0..usize::try_from(new).unwrap_or(CELLS).min(CELLS) {
            if self.cells.len() == CELLS {
                self.cells.pop_front();
            }
            self.cells.push_back(Cell::default());
        }
        self.newest = self.newest.max(number);
    }
}

/// Compares two values. A new process id is a restart too: a restarted supervisor begins its counts again.
fn mark(before: Counts, now: Counts) -> Option<Mark> {
    if before.pid != now.pid {
        Some(Mark::Restart)
    } else if now.freezes > before.freezes {
        Some(Mark::Freeze)
    } else {
        (now.restarts > before.restarts).then_some(Mark::Restart)
    }
}

#[cfg(test)]
mod tests {
    use backstay::heartbeat::HeartbeatState;
    use serde_json::json;

    use super::*;

    fn check(result: CheckResult, pid: u32, restarts: u64, freezes: u64) -> HeartbeatCheck {
        let metadata = json!({"restarts": restarts, "freezes": freezes});
        let state = json!({"timestamp": "2026-01-01T00:00:00Z", "pid": pid, "hostname": "h", "metadata": metadata});
        let heartbeat: HeartbeatState = serde_json::from_value(state).unwrap();
        let there = result != CheckResult::Missing;
        HeartbeatCheck {
            path: "x".into(),
            result,
            message: String::new(),
            age: None,
            heartbeat: Some(heartbeat).filter(|_| there),
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn tail(text: &str, length: usize) -> &str {
        assert_eq!(text.len(), CELLS);
        &text[CELLS - length..]
    }

    #[test]
    fn a_cell_shows_the_worst_severity_of_its_time() {
        let mut history = History::default();
        history.note(at(0), &check(CheckResult::Alive, 1, 0, 0));
        history.note(at(11), &check(CheckResult::Stale, 1, 0, 0));
        history.note(at(19), &check(CheckResult::Alive, 1, 0, 0));
        // There is no check in the third cell.
        history.note(at(30), &check(CheckResult::Stopped, 1, 0, 0));
        assert_eq!(tail(&history.strip(), 5), ".wd.s");
    }

    #[test]
    fn restarts_and_freezes_are_marked_once() {
        let mut history = History::default();
        for (second, pid, restarts, freezes) in
            [(0, 1, 3, 1), (10, 1, 4, 1), (20, 1, 5, 2), (30, 1, 5, 2), (40, 2, 0, 0), (50, 2, 0, 0)]
        {
            history.note(at(second), &check(CheckResult::Alive, pid, restarts, freezes));
        }
        assert_eq!(tail(&history.marks(), 6), ".rf.r.");
    }

    #[test]
    fn the_strip_is_bounded_and_ends() {
        let mut history = History::default();
        for second in 0..10_000 {
            history.note(at(second), &check(CheckResult::Alive, 1, 0, 0));
        }
        assert_eq!(history.strip(), "w".repeat(CELLS));
        history.note(at(10_010), &check(CheckResult::Missing, 1, 0, 0));
        assert!(!history.is_over(at(10_010)));
        assert!(history.is_over(at(10_700)));
        history.note(at(1_000_000_000), &check(CheckResult::Alive, 1, 0, 0));
        assert_eq!(tail(&history.strip(), 2), ".w");
        // A time in the past adds no cell.
        history.note(at(5), &check(CheckResult::Alive, 1, 0, 0));
        assert_eq!(tail(&history.strip(), 2), ".w");
    }
}
