//! Tokens that are taken and waited for: by a thread, a task, or a foreign event loop.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::shared::{Shared, Standing, Waiter};
use crate::clock::{Moment, Source};
use crate::error::RateLimitExceededError;
use crate::sync::{Arc, Wake, thread};

/// Tokens that belong to the holder, and are due at a certain moment. Await it, or [`wait`](Self::wait) for it.
///
/// It keeps its turn in the limiter's one queue whether it is polled or not, and holds up nobody. Its moment comes
/// nearer when someone before it gives up or the limiter is reset, and moves when the rate changes.
///
/// ```
/// # use backstay::RateLimiter;
/// let limiter = RateLimiter::builder(1000).burst(1.0).build()?;
/// limiter.acquire();
/// let mut reservation = limiter.reserve(1, None)?;
/// assert!(reservation.remaining() <= std::time::Duration::from_millis(1));
/// reservation.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Cancel safety
/// Dropped before it was awaited to its end, it gives its tokens back, and those behind it move up.
#[must_use = "dropped, it gives its tokens back"]
pub struct Reservation {
    shared: Arc<Shared>,
    waiter: Waiter,
    state: State,
    /// What wakes a task when it is due, on tokio's clock.
    #[cfg(feature = "tokio")]
    alarm: Option<Box<Alarm>>,
}

#[derive(Clone, Copy)]
enum State {
    Waiting,
    Served,
    /// So much longer it would have had to wait.
    Rejected(Duration),
}

#[cfg(feature = "tokio")]
enum Alarm {
    Runtime(Pin<Box<tokio::time::Sleep>>),
    /// Outside of tokio's runtime.
    Timer {
        due: Moment,
        waker: std::task::Waker,
        alarm: crate::timer::ScheduledWake,
    },
}

impl Reservation {
    pub(super) fn new(shared: Arc<Shared>, waiter: Waiter) -> Self {
        Self {
            shared,
            waiter,
            state: State::Waiting,
            #[cfg(feature = "tokio")]
            alarm: None,
        }
    }

    /// How long until the tokens are due; zero when they are.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.shared.due(&self.waiter).map_or(Duration::ZERO, |due| due.since(self.shared.clock().now()))
    }

    /// Blocks the thread until the tokens are due. Further calls return the same at once.
    ///
    /// # Errors
    /// [`RateLimitExceededError`] where [`set_rate`](super::RateLimiter::set_rate) made the wait longer than its
    /// timeout.
    pub fn wait(&mut self) -> Result<(), RateLimitExceededError> {
        loop {
            if let Some(outcome) = self.wait_until(Moment::NEVER) {
                return outcome;
            }
        }
    }

    /// Blocks the thread for at most `timeout`: `None` if the tokens were not due by then. The reservation stands; for
    /// callers who have to look after something else now and then.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Result<(), RateLimitExceededError>> {
        let end = self.shared.clock().now() + timeout;
        self.wait_until(end)
    }

    fn wait_until(&mut self, end: Moment) -> Option<Result<(), RateLimitExceededError>> {
        loop {
            let due = match self.look(Wake::this_thread) {
                Ok(outcome) => return Some(outcome),
                Err(due) => due.min(end),
            };
            let now = self.shared.clock().now();
            if now >= end {
                return None;
            }
            match self.shared.clock().source() {
                Source::Manual(clock) => {
                    clock.on_advance(Wake::this_thread());
                    // It may have advanced before it was asked.
                    if clock.now() < due {
                        thread::park();
                    }
                }
                #[cfg(not(backstay_loom))]
                _ => thread::park_timeout(due.since(now)),
                #[cfg(backstay_loom)]
                _ => thread::park(),
            }
        }
    }

    /// How it ended, or until when to wait.
    fn look(&mut self, wake: impl FnOnce() -> Wake) -> Result<Result<(), RateLimitExceededError>, Moment> {
        if let State::Waiting = self.state {
            self.state = match Shared::look(&self.shared, &self.waiter, wake()) {
                Standing::Served => State::Served,
                Standing::Rejected(retry_after) => State::Rejected(retry_after),
                Standing::Until(due) => return Err(due),
            };
            #[cfg(feature = "tokio")]
            drop(self.alarm.take());
        }
        Ok(match self.state {
            State::Rejected(retry_after) => Err(self.shared.error(retry_after)),
            State::Served | State::Waiting => Ok(()),
        })
    }

    /// Sees to it that the task is woken at `due`; ready if that has come already.
    fn arm(&mut self, due: Moment, task: &mut Context<'_>) -> Poll<()> {
        match self.shared.clock().source() {
            // The limiter's alarm will wake it.
            Source::System => Poll::Pending,
            Source::Manual(clock) => {
                clock.on_advance(Wake::Task(task.waker().clone()));
                // It may have advanced before it was asked.
                if clock.now() < due { Poll::Pending } else { Poll::Ready(()) }
            }
            #[cfg(feature = "tokio")]
            Source::Tokio(origin) if tokio::runtime::Handle::try_current().is_ok() => {
                let far = Duration::from_secs(30 * 365 * 24 * 3600);
                let at = *origin + due.since(Moment::ORIGIN).min(far);
                if !matches!(self.alarm.as_deref(), Some(Alarm::Runtime(_))) {
                    self.alarm = Some(Box::new(Alarm::Runtime(Box::pin(tokio::time::sleep_until(at)))));
                }
                let Some(Alarm::Runtime(sleep)) = self.alarm.as_deref_mut() else { return Poll::Pending };
                if sleep.deadline() != at {
                    sleep.as_mut().reset(at);
                }
                sleep.as_mut().poll(task)
            }
            #[cfg(feature = "tokio")]
            Source::Tokio(_) => {
                self.arm_timer(due, task.waker());
                Poll::Pending
            }
        }
    }

    #[cfg(feature = "tokio")]
    fn arm_timer(&mut self, due: Moment, waker: &std::task::Waker) {
        // Pending as well: in a forked child the parent's timer does not run, and an alarm may have gone off too early for
        // this clock.
        if let Some(Alarm::Timer { due: armed, waker: known, alarm }) = self.alarm.as_deref()
            && *armed == due
            && known.will_wake(waker)
            && alarm.is_pending()
        {
            return;
        }
        // Outside of tokio's runtime this is as far away as that clock says.
        let at = crate::clock::Clock::system().now() + due.since(self.shared.clock().now());
        // Without an alarm the task was woken, to ask again.
        let alarm = crate::timer::ScheduledWake::at(at, waker.clone());
        self.alarm = alarm.map(|alarm| Box::new(Alarm::Timer { due, waker: waker.clone(), alarm }));
    }
}

impl Future for Reservation {
    type Output = Result<(), RateLimitExceededError>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.look(|| Wake::Task(task.waker().clone())) {
                Ok(outcome) => return Poll::Ready(outcome),
                Err(due) => std::task::ready!(Self::arm(&mut self, due, task)),
            }
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let State::Waiting = self.state {
            Shared::leave(&self.shared, &self.waiter);
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("tokens", &self.waiter.tokens)
            .field("remaining", &self.remaining())
            .finish()
    }
}
