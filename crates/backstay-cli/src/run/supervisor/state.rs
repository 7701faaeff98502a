//! The state of the supervisor, for the reporter and the event loop.

use super::super::event::SupervisorState;
use super::super::log_event::Exit;
use super::{Phase, Stage, Supervisor};

impl Supervisor {
    pub(crate) fn state(&self) -> SupervisorState {
        match &self.phase {
            Phase::Waiting { .. } => SupervisorState::Waiting,
            Phase::Starting(_) => SupervisorState::Starting,
            Phase::Done => SupervisorState::Done,
            Phase::Child(child) => match child.stage {
                Stage::Dumping { .. } => SupervisorState::Frozen,
                Stage::Ending { .. } => SupervisorState::Ending,
                Stage::Running if child.suspended => SupervisorState::Suspended,
                Stage::Running if child.ready => SupervisorState::Running,
                Stage::Running => SupervisorState::Starting,
            },
        }
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.phase {
            Phase::Child(child) if child.exit.is_none() => Some(child.pid),
            _ => None,
        }
    }

    /// Whether processes of the program may be left.
    pub(crate) fn has_child(&self) -> bool {
        matches!(&self.phase, Phase::Child(_))
    }

    /// Whether the program has ended and its descendants may be left.
    pub(crate) fn waits_for_tree(&self) -> bool {
        matches!(&self.phase, Phase::Child(child) if child.exit.is_some())
    }

    /// Whether the program ended by itself with a failure.
    pub(crate) fn has_failed(&self) -> bool {
        !self.stop_was_requested() && self.last_exit.is_some_and(|exit| !exit.is_success())
    }

    /// Whether the supervisor was asked to stop, or a key of the terminal ended the program.
    pub(crate) fn stop_was_requested(&self) -> bool {
        self.stop_requested_at.is_some()
    }

    /// Number of starts of the program.
    pub(crate) fn starts(&self) -> u64 {
        self.starts
    }

    pub(crate) fn restarts(&self) -> u64 {
        self.starts.saturating_sub(1)
    }

    pub(crate) fn freezes(&self) -> u64 {
        self.freezes
    }

    pub(crate) fn last_exit(&self) -> Option<Exit> {
        self.last_exit
    }
}
