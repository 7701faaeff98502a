//! The state of the supervisor as its reports and its shell see it.

use super::super::event::Standing;
use super::super::news::Exit;
use super::{Phase, Stage, Supervisor};

impl Supervisor {
    pub(crate) fn standing(&self) -> Standing {
        match &self.phase {
            Phase::Waiting { .. } => Standing::Waiting,
            Phase::Starting(_) => Standing::Starting,
            Phase::Done => Standing::Done,
            Phase::Child(child) => match child.stage {
                Stage::Dumping { .. } => Standing::Frozen,
                Stage::Ending { .. } => Standing::Ending,
                Stage::Running if child.suspended => Standing::Suspended,
                Stage::Running if child.ready => Standing::Running,
                Stage::Running => Standing::Starting,
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
    pub(crate) fn waits_for_family(&self) -> bool {
        matches!(&self.phase, Phase::Child(child) if child.exit.is_some())
    }

    /// Whether the program ended by itself with a failure.
    pub(crate) fn has_failed(&self) -> bool {
        !self.was_asked() && self.last_exit.is_some_and(|exit| !exit.is_success())
    }

    /// Whether the supervisor was asked to stop.
    pub(crate) fn was_asked(&self) -> bool {
        self.asked.is_some()
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
