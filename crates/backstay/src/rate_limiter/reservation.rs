//! Reserved tokens, awaited by a thread, a task or a foreign event loop.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::shared::{Shared, WaitStatus, Waiter};
use crate::clock::{Moment, Source};
use crate::error::RateLimitExceededError;
use crate::sync::{Arc, Wake, thread};

/// Reserved tokens that are due at a certain time.
///
/// Await the reservation, or call [`wait`](Self::wait).
///
/// It keeps its position in the limiter's FIFO queue whether it is polled or not, and delays no other waiter. Its
/// tokens are due earlier when a reservation before it is dropped or the limiter is reset, and earlier or later when
/// the rate changes.
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
/// Dropping it before it completes refunds its tokens, and later waiters move up.
#[must_use = "dropping a reservation refunds its tokens"]
pub struct Reservation {
    shared: Arc<Shared>,
    waiter: Waiter,
    state: ReservationState,
    /// Wakes a task when it is due, on tokio's clock.
    #[cfg(feature = "tokio")]
    timer: Option<Box<TaskTimer>>,
}

#[derive(Clone, Copy)]
enum ReservationState {
    Waiting,
    Served,
    /// Carries the wait that remained when it was rejected.
    Rejected(Duration),
}

#[cfg(feature = "tokio")]
enum TaskTimer {
    Sleep(Pin<Box<tokio::time::Sleep>>),
    /// Used outside of a tokio runtime.
    Scheduled {
        due: Moment,
        waker: std::task::Waker,
        wake: crate::timer::ScheduledWake,
    },
}

impl Reservation {
    pub(super) fn new(shared: Arc<Shared>, waiter: Waiter) -> Self {
        Self {
            shared,
            waiter,
            state: ReservationState::Waiting,
            #[cfg(feature = "tokio")]
            timer: None,
        }
    }

    /// Returns the time until the tokens are due; zero if they are.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.shared.due(&self.waiter).map_or(Duration::ZERO, |due| due.since(self.shared.clock().now()))
    }

    /// Blocks the thread until the tokens are due.
    ///
    /// Further calls return the same result at once.
    ///
    /// # Errors
    /// [`RateLimitExceededError`] if [`set_rate`](super::RateLimiter::set_rate) made the wait longer than its timeout.
    pub fn wait(&mut self) -> Result<(), RateLimitExceededError> {
        loop {
            if let Some(outcome) = self.wait_until(Moment::NEVER) {
                return outcome;
            }
        }
    }

    /// Blocks the thread for at most `timeout`.
    ///
    /// Returns `None` if the tokens were not due by then.
    ///
    /// The reservation stays in the queue. For callers that have other work to do now and then.
    ///
    /// # Errors
    /// `Some` of a [`RateLimitExceededError`] if [`set_rate`](super::RateLimiter::set_rate) made the wait longer than
    /// the reservation's own timeout.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Result<(), RateLimitExceededError>> {
        let end = self.shared.clock().now() + timeout;
        self.wait_until(end)
    }

    fn wait_until(&mut self, end: Moment) -> Option<Result<(), RateLimitExceededError>> {
        loop {
            let due = match self.status(Wake::this_thread) {
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
                    // The clock may have advanced before this registration.
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

    /// Returns the result, or as an error the time until which to wait.
    fn status(&mut self, wake: impl FnOnce() -> Wake) -> Result<Result<(), RateLimitExceededError>, Moment> {
        if let ReservationState::Waiting = self.state {
            self.state = match Shared::poll_waiter(&self.shared, &self.waiter, wake()) {
                WaitStatus::Served => ReservationState::Served,
                WaitStatus::Rejected(retry_after) => ReservationState::Rejected(retry_after),
                WaitStatus::Pending(due) => return Err(due),
            };
            #[cfg(feature = "tokio")]
            drop(self.timer.take());
        }
        Ok(match self.state {
            ReservationState::Rejected(retry_after) => Err(self.shared.error(retry_after)),
            ReservationState::Served | ReservationState::Waiting => Ok(()),
        })
    }

    /// Schedules a wake-up of the task at `due`; ready if that time has come.
    fn arm(&mut self, due: Moment, task: &mut Context<'_>) -> Poll<()> {
        match self.shared.clock().source() {
            // The limiter's shared wake-up wakes the task.
            Source::System => Poll::Pending,
            Source::Manual(clock) => {
                clock.on_advance(Wake::Task(task.waker().clone()));
                // The clock may have advanced before this registration.
                if clock.now() < due { Poll::Pending } else { Poll::Ready(()) }
            }
            #[cfg(feature = "tokio")]
            Source::Tokio(origin) if tokio::runtime::Handle::try_current().is_ok() => {
                let far = Duration::from_secs(30 * 365 * 24 * 3600);
                let at = *origin + due.since(Moment::ORIGIN).min(far);
                if !matches!(self.timer.as_deref(), Some(TaskTimer::Sleep(_))) {
                    self.timer = Some(Box::new(TaskTimer::Sleep(Box::pin(tokio::time::sleep_until(at)))));
                }
                let Some(TaskTimer::Sleep(sleep)) = self.timer.as_deref_mut() else { return Poll::Pending };
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
        // Checks that it is pending, too: in a forked child the parent's timer does not run, and a wake-up may have
        // come too early for this clock.
        if let Some(TaskTimer::Scheduled { due: armed, waker: known, wake }) = self.timer.as_deref()
            && *armed == due
            && known.will_wake(waker)
            && wake.is_pending()
        {
            return;
        }
        // Outside of a tokio runtime, tokio's clock runs like the system's.
        let at = crate::clock::Clock::system().now() + due.since(self.shared.clock().now());
        // Without a wake-up the task has been woken, and polls again.
        let wake = crate::timer::ScheduledWake::at(at, waker.clone());
        self.timer = wake.map(|wake| Box::new(TaskTimer::Scheduled { due, waker: waker.clone(), wake }));
    }
}

impl Future for Reservation {
    type Output = Result<(), RateLimitExceededError>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.status(|| Wake::Task(task.waker().clone())) {
                Ok(outcome) => return Poll::Ready(outcome),
                Err(due) => std::task::ready!(Self::arm(&mut self, due, task)),
            }
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let ReservationState::Waiting = self.state {
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
