//! The health checks that are read only when one is due, so that a quiet program costs nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use backstay::clock::Moment;

use super::freeze_detector::Source;
use super::heartbeat_file::{FileState, HeartbeatPoller};
use super::supervisor::Supervisor;

/// The time of a last event. A background thread sets it; the supervisor's thread reads it.
///
/// # Memory ordering
///
/// Relaxed: the time is all that the threads exchange.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastSeen(Arc<AtomicU64>);

impl LastSeen {
    pub(crate) fn set(&self, now: Moment) {
        self.0.store(now.as_nanos(), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Moment {
        Moment::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// All health checks of the program except its notifications.
pub(crate) struct HealthChecks {
    pub(crate) heartbeat: HeartbeatPoller,
    /// Last output of the program.
    pub(crate) output: LastSeen,
    /// Last successful answer of each health URL.
    pub(crate) urls: Vec<LastSeen>,
}

impl HealthChecks {
    /// Reports the state of the checks to the supervisor. Returns false while the read of the heartbeat file is pending.
    pub(crate) fn report(&mut self, supervisor: &mut Supervisor, now: Moment) -> bool {
        let file = self.heartbeat.poll(now);
        match file {
            Poll::Ready(Some(FileState::Alive(at))) => supervisor.check_passed(Source::Heartbeat, at),
            Poll::Ready(Some(FileState::Frozen(at))) => supervisor.freeze_reported(Source::Heartbeat, at),
            Poll::Ready(None) | Poll::Pending => {}
        }
        supervisor.check_passed(Source::Output, self.output.get());
        // All URLs must pass: the one with the oldest answer counts.
        if let Some(at) = self.urls.iter().map(LastSeen::get).min() {
            supervisor.check_passed(Source::Http, at);
        }
        file.is_ready()
    }
}
