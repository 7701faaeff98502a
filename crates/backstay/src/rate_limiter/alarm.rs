//! The one alarm of a limiter: it rings for the first waiter that depends on being woken, and is set anew for the next.
//!
//! On the system's clock a task has no alarm of its own: when a waiter leaves, all behind it become due earlier, and telling
//! each would cost O(n). It rings on the timer's thread, so a task that is woken but not polled delays no other waiter.
//!
//! Lock order: the alarm is set while the limiter's lock is *not* held, since the timer wakes on the spot when it has no
//! thread. One thread at a time sets it (`setting`); a thread that finds another one setting it has that one look again.

use std::task::Waker;

use super::shared::{BATCH, Shared, StateGuard, wake_all};
use crate::clock::Moment;
use crate::sync::Arc;
use crate::timer::ScheduledWake;

#[derive(Debug)]
pub(super) struct SharedAlarm {
    /// When it rings, at the latest.
    at: Moment,
    set: Option<ScheduledWake>,
    setting: Setting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setting {
    No,
    Yes,
    /// Something has changed meanwhile.
    Again,
}

impl Default for SharedAlarm {
    fn default() -> Self {
        Self { at: Moment::NEVER, set: None, setting: Setting::No }
    }
}

impl SharedAlarm {
    /// Whether it rings at `due` or before. In a forked child the parent's never rings.
    fn rings_by(&self, due: Moment) -> bool {
        self.at <= due && (self.setting != Setting::No || self.set.as_ref().is_some_and(ScheduledWake::is_ours))
    }
}

impl Shared {
    /// After a change of the queue: wakes those who are due already, and sees to it that the alarm rings for the next.
    pub(super) fn settle<'a>(this: &'a Arc<Self>, mut guard: StateGuard<'a>) {
        if !this.shares_alarm() {
            return;
        }
        loop {
            let Some(state) = guard.as_deref_mut() else { return };
            let scale = this.bucket.scale();
            let Some(due) = state.queue.alarm_at(&scale) else {
                let unused = state.alarm.set.take();
                drop(guard);
                drop(unused);
                return;
            };
            if state.alarm.rings_by(due) {
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
            if state.alarm.setting != Setting::No {
                state.alarm.setting = Setting::Again;
                return;
            }
            guard = match Self::set_alarm(this, guard, due) {
                Some(guard) => guard,
                None => return,
            };
        }
    }

    /// Sets the alarm to `due`. Returns the lock if there is something to look at again.
    fn set_alarm<'a>(this: &'a Arc<Self>, mut guard: StateGuard<'a>, due: Moment) -> Option<StateGuard<'a>> {
        let state = guard.as_deref_mut()?;
        (state.alarm.at, state.alarm.setting) = (due, Setting::Yes);
        // No fork comes between: the child would wait for ever for a thread that is setting the alarm.
        let inside_gate = crate::process::fork::InsideGate::enter();
        drop(guard);
        let alarm = ScheduledWake::at(due, Waker::from(Arc::clone(this)));
        let mut guard = this.lock();
        drop(inside_gate);
        let state = guard.as_deref_mut()?;
        let again = std::mem::replace(&mut state.alarm.setting, Setting::No) == Setting::Again;
        // It may have rung by now.
        let (keep, unused) = if state.alarm.at == due { (alarm, None) } else { (None, alarm) };
        let replaced = std::mem::replace(&mut state.alarm.set, keep);
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
        state.alarm.at = Moment::NEVER;
        let rung = state.alarm.set.take();
        if state.alarm.setting == Setting::No {
            Self::settle(&self, guard);
        } else {
            // It rings while it is being set: at once, or because the timer has no thread, and then before anyone is due.
            // In that case each waiter has to look for itself, over and over.
            state.alarm.setting = Setting::Again;
            let (scale, now) = (self.bucket.scale(), self.clock().now());
            let mut woken = Vec::new();
            state.queue.take_due(&scale, now, BATCH, &mut woken);
            if woken.is_empty() {
                state.queue.take_behind(None, 1, &mut woken);
            }
            drop(guard);
            wake_all(woken.drain(..));
        }
        drop(rung);
    }
}
