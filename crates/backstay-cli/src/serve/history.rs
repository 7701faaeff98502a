//! The last minutes of a service, in cells of equal length. Pure: time, since `serve` began, is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::Value;

use crate::verdict::{Look, Sighting, Verdict};

/// What one cell stands for.
pub(super) const CELL: Duration = Duration::from_secs(10);
pub(super) const CELLS: usize = 60;

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    /// The worst that was seen.
    look: Option<Look>,
    mark: Option<Mark>,
}

/// Something that happened at a moment; the weightier last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    Restart,
    Freeze,
}

/// What tells a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    pid: u32,
    restarts: u64,
    freezes: u64,
}

#[derive(Debug, Default)]
pub(super) struct History {
    /// The newest last.
    cells: VecDeque<Cell>,
    /// The number of the newest.
    newest: u64,
    counts: Option<Counts>,
    /// When its file was there last.
    there: Duration,
}

impl History {
    pub(super) fn note(&mut self, now: Duration, sighting: &Sighting) {
        self.advance(now);
        let mark = sighting.heartbeat.as_ref().and_then(|heartbeat| {
            let count = |key| heartbeat.metadata.get(key).and_then(Value::as_u64).unwrap_or(0);
            let counts = Counts { pid: heartbeat.pid, restarts: count("restarts"), freezes: count("freezes") };
            mark(self.counts.replace(counts)?, counts)
        });
        if sighting.verdict != Verdict::Missing {
            self.there = now;
        }
        if let Some(cell) = self.cells.back_mut() {
            cell.look = cell.look.max(Some(sighting.look()));
            cell.mark = cell.mark.max(mark);
        }
    }

    /// Nothing of it is to be seen any more: its file went before the oldest cell began.
    pub(super) fn is_over(&self, now: Duration) -> bool {
        now.saturating_sub(self.there) > CELL.saturating_mul(u32::try_from(CELLS).unwrap_or(u32::MAX))
    }

    /// A letter for each cell, the oldest first; `.` where nobody looked.
    pub(super) fn strip(&self) -> String {
        let letter = |look| match look {
            Look::Well => 'w',
            Look::Unready => 'n',
            Look::Stopped => 's',
            Look::Unknown => 'u',
            Look::Dead => 'd',
        };
        self.letters(|cell| cell.look.map(letter))
    }

    /// As the strip: `r` for a restart, `f` for a freeze.
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

    /// Makes the newest cell the one of `now`; nobody looked in those between.
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

/// Another process is a restart, too; a supervisor that began anew counts anew.
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

    fn sighting(verdict: Verdict, pid: u32, restarts: u64, freezes: u64) -> Sighting {
        let metadata = json!({"restarts": restarts, "freezes": freezes});
        let state = json!({"timestamp": "2026-01-01T00:00:00Z", "pid": pid, "hostname": "h", "metadata": metadata});
        let heartbeat: HeartbeatState = serde_json::from_value(state).unwrap();
        let there = verdict != Verdict::Missing;
        Sighting {
            path: "x".into(),
            verdict,
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
    fn a_cell_shows_the_worst_of_its_time() {
        let mut history = History::default();
        history.note(at(0), &sighting(Verdict::Alive, 1, 0, 0));
        history.note(at(11), &sighting(Verdict::Stale, 1, 0, 0));
        history.note(at(19), &sighting(Verdict::Alive, 1, 0, 0));
        // Nobody looked for a cell.
        history.note(at(30), &sighting(Verdict::Stopped, 1, 0, 0));
        assert_eq!(tail(&history.strip(), 5), ".wd.s");
    }

    #[test]
    fn restarts_and_freezes_are_marked_once() {
        let mut history = History::default();
        for (second, pid, restarts, freezes) in
            [(0, 1, 3, 1), (10, 1, 4, 1), (20, 1, 5, 2), (30, 1, 5, 2), (40, 2, 0, 0), (50, 2, 0, 0)]
        {
            history.note(at(second), &sighting(Verdict::Alive, pid, restarts, freezes));
        }
        assert_eq!(tail(&history.marks(), 6), ".rf.r.");
    }

    #[test]
    fn the_strip_is_bounded_and_ends() {
        let mut history = History::default();
        for second in 0..10_000 {
            history.note(at(second), &sighting(Verdict::Alive, 1, 0, 0));
        }
        assert_eq!(history.strip(), "w".repeat(CELLS));
        history.note(at(10_010), &sighting(Verdict::Missing, 1, 0, 0));
        assert!(!history.is_over(at(10_010)));
        assert!(history.is_over(at(10_700)));
        history.note(at(1_000_000_000), &sighting(Verdict::Alive, 1, 0, 0));
        assert_eq!(tail(&history.strip(), 2), ".w");
        // Time that stands still or goes back moves nothing.
        history.note(at(5), &sighting(Verdict::Alive, 1, 0, 0));
        assert_eq!(tail(&history.strip(), 2), ".w");
    }
}
