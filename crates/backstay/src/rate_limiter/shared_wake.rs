//! The shared wake-up of a limiter, scheduled for the first waiter that does not wake itself.
//!
//! On the system's clock a task has no timer of its own: when a waiter leaves, all later ones are due earlier, and
//! rescheduling each would cost O(n). The shared wake-up runs on the timer's thread, so a task that is woken but not
//! polled delays no other waiter.
//!
//! Lock order: the wake-up is scheduled while the limiter's lock is *not* held, because the timer wakes at once if it
//! has no thread. One thread at a time schedules it (`scheduling`); another thread that needs a change lets that one
//! repeat.

use std::task::Waker;

use super::shared::{BATCH, Shared, StateGuard, wake_all};
use crate::clock::Moment;
use crate::sync::Arc;
use crate::timer::ScheduledWake;

#[derive(Debug)]
pub(super) struct SharedWake {
    /// The latest time at which the wake-up comes.
    at: Moment,
    wake: Option<ScheduledWake>,
    scheduling: Scheduling,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheduling {
    Idle,
    Running,
    /// Something has changed meanwhile.
    Repeat,
}

impl Default for SharedWake {
    fn default() -> Self {
        Self { at: Moment::NEVER, wake: None, scheduling: Scheduling::Idle }
    }
}

impl SharedWake {
    /// Whether it wakes at `due` or before. In a forked child the parent's wake-ups never come.
    fn wakes_by(&self, due: Moment) -> bool {
        self.at <= due
            && (self.scheduling != Scheduling::Idle || self.wake.as_ref().is_some_and(ScheduledWake::is_ours))
    }
}

impl Shared {
    /// Wakes waiters that are due after a change of the queue, and schedules the wake-up for the next one.
    pub(super) fn reschedule<'a>(this: &'a Arc<Self>, mut guard: StateGuard<'a>) {
        if !this.uses_shared_wake() {
            return;
        }
        loop {
            let Some(state) = guard.as_deref_mut() else { return };
            let scale = this.bucket.scale();
            let Some(due) = state.queue.next_wake(&scale) else {
                let unused = state.shared_wake.wake.take();
                drop(guard);
                drop(unused);
                return;
            };
            if state.shared_wake.wakes_by(due) {
                return;
            }
            let now = this.clock().now();
            if due <= now {
                let mut woken = Vec::new();
                state.queue.take_due(&scale, now, BATCH, &mut woken);
                drop(guard);
                wake_all(woken.drain(..));
                guard = this.lock();
                continue;
            }
            if state.shared_wake.scheduling != Scheduling::Idle {
                state.shared_wake.scheduling = Scheduling::Repeat;
                return;
            }
            guard = match Self::schedule(this, guard, due) {
                Some(guard) => guard,
                None => return,
            };
        }
    }

    /// Schedules the wake-up at `due`. Returns the lock if the queue must be checked again.
    fn schedule<'a>(this: &'a Arc<Self>, mut guard: StateGuard<'a>, due: Moment) -> Option<StateGuard<'a>> {
        let state = guard.as_deref_mut()?;
        (state.shared_wake.at, state.shared_wake.scheduling) = (due, Scheduling::Running);
        // No fork may come in between: the child would wait forever for a thread that schedules the wake-up.
        let inside_gate = crate::process::fork::InsideGate::enter();
        drop(guard);
        let wake = ScheduledWake::at(due, Waker::from(Arc::clone(this)));
        let mut guard = this.lock();
        drop(inside_gate);
        let state = guard.as_deref_mut()?;
        let again = std::mem::replace(&mut state.shared_wake.scheduling, Scheduling::Idle) == Scheduling::Repeat;
        // The wake-up may have come by now.
        let (keep, unused) = if state.shared_wake.at == due { (wake, None) } else { (None, wake) };
        let replaced = std::mem::replace(&mut state.shared_wake.wake, keep);
        let again = again || unused.is_some();
        drop(guard);
        drop((replaced, unused));
        again.then(|| this.lock())
    }
}

impl std::task::Wake for Shared {
    fn wake(self: Arc<Self>) {
        let mut guard = self.lock();
        let Some(state) = guard.as_deref_mut() else { return };
        state.shared_wake.at = Moment::NEVER;
        let done = state.shared_wake.wake.take();
        if state.shared_wake.scheduling == Scheduling::Idle {
            Self::reschedule(&self, guard);
        } else {
            // The wake-up comes while it is being scheduled: because `due` has passed, or because the timer has no
            // thread and wakes at once. Without a thread each waiter has to poll repeatedly.
            state.shared_wake.scheduling = Scheduling::Repeat;
            let (scale, now) = (self.bucket.scale(), self.clock().now());
            let mut woken = Vec::new();
            state.queue.take_due(&scale, now, BATCH, &mut woken);
            if woken.is_empty() {
                state.queue.take_after(None, 1, &mut woken);
            }
            drop(guard);
            wake_all(woken.drain(..));
        }
        drop(done);
    }
}
