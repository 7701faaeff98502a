//! Targets that a heartbeat follows.
//!
//! # Memory ordering
//! `ProcessState::dead`: the swap (release) in a check pairs with the loads (acquire) of other threads' beats, so that
//! a thread that sees a target dead also sees what the check saw.

use std::sync::atomic::{AtomicBool, Ordering};

use backstay_core::heartbeat::DegradedBy;

use super::callbacks::{HeartbeatEvent, ReentryGuard, TargetDeath};
use super::inner::HeartbeatInner;
use super::process_state::ProcessState;
use crate::callback::caught;
use crate::log::log_in_background;

/// A part of the service that can fail while the process runs.
///
/// Examples are a watchdog, a worker and a connection.
///
/// ```
/// use backstay::heartbeat::Target;
///
/// let queue_stalled = || false;
/// assert!(!queue_stalled.is_dead());
/// ```
pub trait Target: Send + Sync {
    /// Returns whether it is dead now.
    ///
    /// It is called at every beat, on the heartbeat's thread, and must not block.
    fn is_dead(&self) -> bool;

    /// Returns its name for the log and for alerts. Default: none.
    fn name(&self) -> Option<String> {
        None
    }

    /// Returns the cause that the state file names while this target is dead. Default: [`DegradedBy::Target`].
    ///
    /// It is called once, when the target is passed to the builder. A type that wraps a watchdog returns
    /// [`DegradedBy::Watchdog`], so that readers can tell a frozen service from one that has lost a part.
    fn degraded_by(&self) -> DegradedBy {
        DegradedBy::Target
    }
}

/// A target and its cause.
pub(super) struct FollowedTarget {
    pub(super) target: Box<dyn Target>,
    pub(super) cause: DegradedBy,
}

impl FollowedTarget {
    pub(super) fn new(target: impl Target + 'static) -> Self {
        let cause = target.degraded_by();
        Self { target: Box::new(target), cause }
    }
}

impl<F: Fn() -> bool + Send + Sync> Target for F {
    fn is_dead(&self) -> bool {
        self()
    }
}

impl HeartbeatInner {
    /// Checks the targets. Returns the worst cause among the dead ones.
    ///
    /// A target that panics keeps its last state. So do all targets in a beat that one of them makes while it is
    /// checked.
    pub(super) fn check_targets(
        &self,
        local: &ProcessState,
        notify: &mut impl FnMut(HeartbeatEvent),
    ) -> Option<DegradedBy> {
        if let Some(_guard) = ReentryGuard::for_targets() {
            for (index, followed) in self.targets.iter().enumerate() {
                self.check_target(&*followed.target, &local.dead[index], notify);
            }
        }
        let targets = self.targets.iter().zip(&local.dead);
        targets.filter(|(_, dead)| dead.load(Ordering::Acquire)).map(|(followed, _)| followed.cause).max()
    }

    fn check_target(&self, target: &dyn Target, was_dead: &AtomicBool, notify: &mut impl FnMut(HeartbeatEvent)) {
        let before = was_dead.load(Ordering::Acquire);
        let dead = caught(|| target.is_dead()).unwrap_or_else(|panic| {
            log_in_background(move || tracing::error!(target: "backstay", panic, "a heartbeat's target panicked"));
            before
        });
        if was_dead.swap(dead, Ordering::AcqRel) == dead {
            return;
        }
        let name = caught(|| target.name()).ok().flatten();
        if !dead {
            log_in_background(move || tracing::info!(target: "backstay", name, "a heartbeat's target has recovered"));
            return;
        }
        let logged = name.clone();
        log_in_background(move || tracing::warn!(target: "backstay", name = logged, "a heartbeat's target is dead"));
        let message = match &name {
            Some(name) => format!("target {name:?} is dead"),
            None => "an unnamed target is dead".to_owned(),
        };
        notify(HeartbeatEvent::TargetDead(TargetDeath { name: name.clone() }));
        notify(HeartbeatEvent::Alert(self.alert(message, [("target", name.into())])));
    }
}
