//! Notifications of the program, and stops of it by signals.

use std::time::Duration;

use backstay::clock::Moment;

use super::super::news::News;
use super::{Phase, Stage, Supervisor};

impl Supervisor {
    pub(super) fn ready(&mut self, now: Moment) {
        let Phase::Child(child) = &mut self.phase else { return };
        child.ready = true;
        child.life.ready(now);
        if !std::mem::replace(&mut child.said_ready, true) {
            self.tell(News::Ready);
        }
    }

    pub(super) fn stopping(&mut self, now: Moment) {
        // A stop that the program announces before SIGTERM has at least the time between two signs of life.
        let time = self.policy.grace.max(self.policy.watch.timeout);
        let Phase::Child(child) = &mut self.phase else { return };
        if std::mem::replace(&mut child.said_stopping, true) {
            return;
        }
        if child.stage == Stage::Running {
            child.life.last_chance(now, time);
        }
        self.tell(News::Stopping);
    }

    pub(super) fn extend(&mut self, time: Duration, now: Moment) {
        let Phase::Child(child) = &mut self.phase else { return };
        match &mut child.stage {
            Stage::Running => child.life.extend(now, time),
            Stage::Ending { until, killed: false } => *until = (*until).max(now + time),
            _ => {}
        }
    }

    pub(super) fn suspended(&mut self, signal: i32) {
        let Phase::Child(child) = &mut self.phase else { return };
        if child.exit.is_none() && !std::mem::replace(&mut child.suspended, true) {
            self.tell(News::Suspended { signal });
        }
    }

    pub(super) fn continued(&mut self) {
        let Phase::Child(child) = &mut self.phase else { return };
        if std::mem::take(&mut child.suspended) {
            self.tell(News::Continued);
        }
    }

    pub(super) fn stood(&mut self, time: Duration) {
        let Phase::Child(child) = &mut self.phase else { return };
        child.life.skip(time);
        match &mut child.stage {
            Stage::Running => {}
            Stage::Dumping { until } | Stage::Ending { until, .. } => *until = *until + time,
        }
    }
}
