//! One thread that wakes tasks at given times of the system clock, whatever runtime they run on.
//!
//! It is started for the first wake-up and sleeps until the earliest one. A forked child, in which it does not run,
//! starts another one.
//!
//! A wake-up is scheduled only while the thread runs. If the system cannot start a thread, [`ScheduledWake::at`]
//! returns `None` and wakes the task at once. The task is polled and schedules again, so a wait can be late, but it
//! ends. Each such call first sleeps for [`PAUSE`], at most once in that time, so that repeated polls do not keep a
//! processor busy.
//!
//! Locks: one, `state`. No user code runs under it. The thread is started under it, so that no wake-up relies on a
//! thread that could not be started.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::PoisonError;
use std::task::Waker;
use std::time::Duration;

#[cfg(backstay_loom)]
use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(backstay_loom))]
use std::sync::{Condvar, Mutex, MutexGuard};

use crate::callback::caught;
use crate::clock::{Clock, Moment};
use crate::log::log_in_background;
use crate::process::{PerProcess, this_process};

/// Longest time that a poll blocks, and the shortest time between two such polls, while there is no thread.
///
/// Short enough for an executor, and long enough to let other threads run.
const PAUSE: Duration = Duration::from_millis(1);

static TIMER: PerProcess<Timer> = PerProcess::new();

/// A scheduled wake-up; dropping it cancels it.
#[derive(Debug)]
pub(crate) struct ScheduledWake {
    timer: &'static Timer,
    process: u32,
    key: Key,
}

/// Wake-ups of the same time keep their order.
type Key = (Moment, u64);

#[derive(Debug, Default)]
struct Timer {
    state: Mutex<TimerState>,
    earlier_added: Condvar,
}

#[derive(Debug, Default)]
struct TimerState {
    pending: BTreeMap<Key, Waker>,
    next: u64,
    running: bool,
    /// Time until which the thread sleeps; the origin while it is awake, when it checks for new wake-ups by itself.
    wake_at: Moment,
    /// The last start of the thread failed.
    start_failed: bool,
    /// When a poll last paused because there was no thread.
    paused_at: Moment,
}

impl ScheduledWake {
    /// Schedules `waker` to be woken at `due` on the system clock.
    ///
    /// `None`: no thread could be started. `waker` was woken at once, so that its task can schedule again.
    pub(crate) fn at(due: Moment, waker: Waker) -> Option<Self> {
        TIMER.get().schedule(due, waker, Timer::start)
    }

    /// Returns whether it is still scheduled, in this process.
    #[cfg(any(feature = "tokio", test))]
    pub(crate) fn is_pending(&self) -> bool {
        self.is_ours() && self.timer.lock().pending.contains_key(&self.key)
    }

    /// Returns whether it was scheduled in this process. A forked child must not use the parent's lock.
    pub(crate) fn is_ours(&self) -> bool {
        self.process == this_process()
    }
}

impl Drop for ScheduledWake {
    fn drop(&mut self) {
        if !self.is_ours() {
            return;
        }
        // A waker's drop is user code, so it runs after the lock is released.
        let _waker = self.timer.lock().pending.remove(&self.key);
    }
}

impl Timer {
    fn lock(&self) -> MutexGuard<'_, TimerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Schedules a wake-up; `start` starts the thread if it does not run.
    fn schedule(
        &'static self,
        due: Moment,
        waker: Waker,
        start: impl FnOnce(&'static Self) -> io::Result<()>,
    ) -> Option<ScheduledWake> {
        let mut state = self.lock();
        let mut has_recovered = false;
        if !state.running {
            if let Err(error) = start(self) {
                self.wake_without_thread(state, error, due, waker);
                return None;
            }
            state.running = true;
            has_recovered = std::mem::take(&mut state.start_failed);
        }
        let key = self.insert(state, due, waker);
        if has_recovered {
            log_in_background(|| tracing::info!(target: "backstay", "the timer's thread was started"));
        }
        Some(ScheduledWake { timer: self, process: this_process(), key })
    }

    fn insert(&self, mut state: MutexGuard<'_, TimerState>, due: Moment, waker: Waker) -> Key {
        let key = (due, state.next);
        state.next += 1;
        state.pending.insert(key, waker);
        let sleeps_too_long = due < state.wake_at;
        drop(state);
        if sleeps_too_long {
            self.earlier_added.notify_one();
        }
        key
    }

    /// Handles a failed start of the thread: wakes the task, so that it polls.
    #[allow(clippy::disallowed_methods)] // nothing signals when the system can start a thread again
    fn wake_without_thread(&self, mut state: MutexGuard<'_, TimerState>, error: io::Error, due: Moment, waker: Waker) {
        let clock = Clock::system();
        let now = clock.now();
        let is_first = !std::mem::replace(&mut state.start_failed, true);
        let pauses = now.since(state.paused_at) >= PAUSE;
        drop(state);
        if is_first {
            log_in_background(
                move || tracing::error!(target: "backstay", %error, "failed to start the timer's thread: waiting tasks poll until it can be started"),
            );
        }
        if pauses {
            std::thread::sleep(PAUSE.min(due.since(now)));
            self.lock().paused_at = clock.now();
        }
        let _ = caught(|| waker.wake());
    }

    fn start(&'static self) -> io::Result<()> {
        let thread = std::thread::Builder::new().name("backstay-timer".into());
        // After a panic it continues, because nothing else wakes the waiting tasks.
        thread.spawn(move || while caught(|| self.run()).is_err() {}).map(drop)
    }

    fn run(&self) -> Infallible {
        let clock = Clock::system();
        loop {
            let waker = self.next(&clock);
            // A waker that panics must not stop the timer for other tasks.
            if let Err(message) = caught(|| waker.wake()) {
                log_in_background(move || tracing::error!(target: "backstay", message, "a waker panicked"));
            }
        }
    }

    /// Waits until a wake-up is due, and removes it.
    fn next(&self, clock: &Clock) -> Waker {
        let mut state = self.lock();
        loop {
            let now = clock.now();
            let wake_at = match state.pending.first_entry() {
                Some(first) if first.key().0 <= now => return first.remove(),
                Some(first) => first.key().0,
                None => Moment::NEVER,
            };
            state.wake_at = wake_at;
            state = if wake_at == Moment::NEVER {
                self.earlier_added.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.earlier_added.wait_timeout(state, wake_at.since(now)).unwrap_or_else(PoisonError::into_inner).0
            };
            state.wake_at = Moment::ORIGIN;
        }
    }
}

#[cfg(all(test, not(backstay_loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc;
    use std::task::Wake;

    const WAIT_LIMIT: Duration = Duration::from_secs(60);

    /// Sends its number and the time when it is woken.
    struct SendOnWake(mpsc::Sender<(u32, Moment)>, u32);

    impl Wake for SendOnWake {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send((self.1, Clock::system().now()));
        }
    }

    /// Blocks the timer's thread when it is woken, until it is released.
    struct BlockOnWake(mpsc::Sender<()>, std::sync::Mutex<mpsc::Receiver<()>>);

    impl Wake for BlockOnWake {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send(());
            let _ = self.1.lock().unwrap_or_else(PoisonError::into_inner).recv();
        }
    }

    fn timer() -> &'static Timer {
        Box::leak(Box::default())
    }

    // RL-4: wake-ups come in order and never early. A dropped one does not come.
    #[test]
    fn wake_ups_come_in_order_never_early_and_not_after_a_drop() {
        let timer = timer();
        let (sender, received) = mpsc::channel();
        let now = Clock::system().now();
        let (entered, blocked) = mpsc::channel();
        let (release, released) = mpsc::channel();
        let blocker = Waker::from(Arc::new(BlockOnWake(entered, released.into())));
        let _blocker = timer.schedule(now, blocker, Timer::start).unwrap();
        blocked.recv_timeout(WAIT_LIMIT).unwrap();
        let wake_up = |number, millis| {
            let due = now + Duration::from_millis(millis);
            timer.schedule(due, Waker::from(Arc::new(SendOnWake(sender.clone(), number))), Timer::start).unwrap()
        };
        let kept = [wake_up(3, 60), wake_up(1, 20), wake_up(2, 40)];
        drop(wake_up(9, 30));
        assert!(kept.iter().all(ScheduledWake::is_pending));
        release.send(()).unwrap();
        for (number, millis) in [(1, 20), (2, 40), (3, 60)] {
            let (which, when) = received.recv_timeout(WAIT_LIMIT).unwrap();
            assert_eq!(which, number);
            assert!(when >= now + Duration::from_millis(millis));
        }
        assert!(received.try_recv().is_err());
        assert!(!kept.iter().any(ScheduledWake::is_pending), "a wake-up that has come is not pending");
    }

    // RL-4: an earlier wake-up wakes the thread that sleeps until a later one.
    #[test]
    fn an_earlier_wake_up_does_not_wait_for_a_later_one() {
        let timer = timer();
        let (sender, received) = mpsc::channel();
        let wake_up = |number, due| {
            timer.schedule(due, Waker::from(Arc::new(SendOnWake(sender.clone(), number))), Timer::start).unwrap()
        };
        let (now, hour) = (Clock::system().now(), Duration::from_secs(3600));
        let mut later = Vec::new();
        for (number, due) in [(1, now + 2 * hour), (2, now + hour)] {
            later.push(wake_up(number, due));
            let deadline = Clock::system().now() + WAIT_LIMIT;
            while timer.lock().wake_at != due {
                assert!(Clock::system().now() < deadline, "the thread sleeps past wake-up {number}");
                std::thread::yield_now();
            }
        }
        let _now = wake_up(3, now);
        assert_eq!(received.recv_timeout(WAIT_LIMIT).unwrap().0, 3);
    }

    // RL-4, ALL-1: without a thread the task is woken at once, and a later attempt works.
    #[test]
    fn without_a_thread_the_task_is_woken_at_once() {
        let timer = timer();
        let (sender, received) = mpsc::channel();
        let waker = || Waker::from(Arc::new(SendOnWake(sender.clone(), 1)));
        let due = Clock::system().now() + Duration::from_secs(3600);
        for _ in 0..3 {
            assert!(timer.schedule(due, waker(), |_| Err(io::ErrorKind::WouldBlock.into())).is_none());
            assert_eq!(received.try_recv().unwrap().0, 1, "woken during the call");
            assert!(timer.lock().pending.is_empty());
        }
        let now = Clock::system().now();
        let wake_up = timer.schedule(now, waker(), Timer::start).unwrap();
        assert!(received.recv_timeout(WAIT_LIMIT).unwrap().1 >= now);
        assert!(!wake_up.is_pending());
    }
}

#[cfg(all(test, backstay_loom))]
mod loom_tests {
    use super::*;
    use crate::clock::ManualClock;
    use loom::sync::Arc;
    use loom::thread;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct CountWakes(AtomicU32);

    impl std::task::Wake for CountWakes {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    // RL-4: the thread sleeps past no due wake-up, in whatever order they are scheduled. Under loom no sleep ends by
    // itself.
    #[test]
    fn loom_the_thread_sleeps_past_no_due_wake_up() {
        loom::model(|| {
            let timer = Arc::new(Timer::default());
            let manual = ManualClock::new();
            let clock = Clock::from(&manual);
            let due = std::sync::Arc::new(CountWakes(AtomicU32::new(0)));
            let timer_thread = Arc::clone(&timer);
            let thread = thread::spawn(move || timer_thread.next(&clock).wake());
            let other = Arc::clone(&timer);
            let later = thread::spawn(move || {
                let state = other.lock();
                other.insert(state, Moment::ORIGIN + Duration::from_secs(1), Waker::noop().clone());
            });
            timer.insert(timer.lock(), Moment::ORIGIN, Waker::from(std::sync::Arc::clone(&due)));
            thread.join().unwrap();
            later.join().unwrap();
            assert_eq!(due.0.load(Ordering::SeqCst), 1);
        });
    }
}
