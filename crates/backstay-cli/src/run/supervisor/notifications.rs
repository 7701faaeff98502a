//! How the supervisor handles notifications of the program, and stops of the program by signals.

use std::time::Duration;

use backstay::clock::Moment;

use super::super::log_event::LogEvent;
use super::{Phase, Stage, Supervisor};

impl Supervisor {
    pub(super) fn ready(&mut self, now: Moment) {
        let Phase::Child(child) = &mut self.phase else { return };
        child.ready = true;
        child.detector.ready(now);
        if !std::mem::replace(&mut child.ready_logged, true) {
            self.log(LogEvent::Ready);
        }
    }

    pub(super) fn stopping(&mut self, now: Moment) {
        // A program that announces its stop before SIGTERM gets at least the time between two health checks.
        let time = self.policy.grace.max(self.policy.watch.timeout);
        let Phase::Child(child) = &mut self.phase else { return };
        if std::mem::replace(&mut child.stopping_logged, true) {
            return;
        }
        if child.stage == Stage::Running {
            child.detector.begin_stop(now, time);
        }
        self.log(LogEvent::Stopping);
    }

    pub(super) fn extend(&mut self, time: Duration, now: Moment) {
        let Phase::Child(child) = &mut self.phase else { return };
        match &mut child.stage {
            Stage::Running => child.detector.extend(now, time),
            Stage::Ending { until, killed: false } => *until = (*until).max(now + time),
            _ => {}
        }
    }

    pub(super) fn suspended(&mut self, signal: i32) {
        let Phase::Child(child) = &mut self.phase else { return };
        if child.exit.is_none() && !std::mem::replace(&mut child.suspended, true) {
            self.log(LogEvent::Suspended { signal });
        }
    }

    pub(super) fn continued(&mut self) {
        let Phase::Child(child) = &mut self.phase else { return };
        if std::mem::take(&mut child.suspended) {
            self.log(LogEvent::Continued);
        }
    }

    pub(super) fn paused(&mut self, time: Duration) {
        let Phase::Child(child) = &mut self.phase else { return };
        child.detector.skip(time);
        match &mut child.stage {
            Stage::Running => {}
            Stage::Dumping { until } | Stage::Ending { until, .. } => *until = *until + time,
        }
    }
}
