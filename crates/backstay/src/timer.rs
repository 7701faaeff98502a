//! One thread that wakes tasks when their moment has come, on the system's clock, whatever runtime they run on.
//!
//! It starts with the first alarm and sleeps until the earliest. A forked child, in which it does not run, starts
//! its own.
//!
//! An alarm exists only while the thread runs. Where the system has no thread to give, [`Alarm::at`] returns none and
//! wakes the task instead: polled again, the task asks again, so that a wait may be late but ends. Before that the call
//! pauses for [`PAUSE`], now and then, so that many polls in a row do not keep a processor busy.
//!
//! Locks: one. No foreign code runs under it; the thread is started under it, so that no alarm counts on a thread that
//! then does not come.

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
use crate::per_process::{PerProcess, this_process};

/// How long a poll may block, and how often, while there is no thread: short enough for an executor, and long enough to
/// leave the processor to others.
const PAUSE: Duration = Duration::from_millis(1);

static TIMER: PerProcess<Timer> = PerProcess::new();

/// A scheduled wake-up; dropping it cancels it.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: &'static Timer,
    process: u32,
    key: Key,
}

/// Alarms of one moment keep their order.
type Key = (Moment, u64);

#[derive(Debug, Default)]
struct Timer {
    alarms: Mutex<Alarms>,
    earlier: Condvar,
}

#[derive(Debug, Default)]
struct Alarms {
    pending: BTreeMap<Key, Waker>,
    next: u64,
    running: bool,
    /// Until when the thread sleeps; the origin where it does not, and so will look at what is new.
    wake_at: Moment,
    /// The last start of the thread failed.
    refused: bool,
    /// When a poll paused last for want of a thread.
    paused: Moment,
}

impl Alarm {
    /// Wakes `waker` at `due` of the system's clock. `None`: no thread could be started. Then `waker` has been woken, so
    /// that the task can ask again.
    pub(crate) fn at(due: Moment, waker: Waker) -> Option<Self> {
        TIMER.get().schedule(due, waker, Timer::start)
    }

    /// Whether it will still go off, in this process.
    #[cfg(any(feature = "tokio", test))]
    pub(crate) fn is_pending(&self) -> bool {
        self.is_ours() && self.timer.lock().pending.contains_key(&self.key)
    }

    /// In a forked child nothing wakes the parent's tasks, and the parent's lock stays as it was.
    pub(crate) fn is_ours(&self) -> bool {
        self.process == this_process()
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if !self.is_ours() {
            return;
        }
        // The waker is foreign: it is dropped after the lock is released.
        let _waker = self.timer.lock().pending.remove(&self.key);
    }
}

impl Timer {
    fn lock(&self) -> MutexGuard<'_, Alarms> {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// [`Alarm::at`]; `start` starts the thread.
    fn schedule(
        &'static self,
        due: Moment,
        waker: Waker,
        start: impl FnOnce(&'static Self) -> io::Result<()>,
    ) -> Option<Alarm> {
        let mut alarms = self.lock();
        let mut is_back = false;
        if !alarms.running {
            if let Err(error) = start(self) {
                self.refuse(alarms, error, due, waker);
                return None;
            }
            alarms.running = true;
            is_back = std::mem::take(&mut alarms.refused);
        }
        let key = self.insert(alarms, due, waker);
        if is_back {
            log_in_background(|| tracing::info!(target: "backstay", "the timer has its thread"));
        }
        Some(Alarm { timer: self, process: this_process(), key })
    }

    fn insert(&self, mut alarms: MutexGuard<'_, Alarms>, due: Moment, waker: Waker) -> Key {
        let key = (due, alarms.next);
        alarms.next += 1;
        alarms.pending.insert(key, waker);
        let sleeps_too_long = due < alarms.wake_at;
        drop(alarms);
        if sleeps_too_long {
            self.earlier.notify_one();
        }
        key
    }

    /// There is no thread: has the task look for itself.
    #[allow(clippy::disallowed_methods)] // no clock and no condition tells when the system has a thread again
    fn refuse(&self, mut alarms: MutexGuard<'_, Alarms>, error: io::Error, due: Moment, waker: Waker) {
        let clock = Clock::system();
        let now = clock.now();
        let is_news = !std::mem::replace(&mut alarms.refused, true);
        let pauses = now.since(alarms.paused) >= PAUSE;
        drop(alarms);
        if is_news {
            log_in_background(
                move || tracing::error!(target: "backstay", %error, "no thread for the timer: waiting tasks poll until there is one"),
            );
        }
        if pauses {
            std::thread::sleep(PAUSE.min(due.since(now)));
            self.lock().paused = clock.now();
        }
        let _ = caught(|| waker.wake());
    }

    fn start(&'static self) -> io::Result<()> {
        let thread = std::thread::Builder::new().name("backstay-timer".into());
        // However it is unwound, it goes on: nothing else would wake those who wait.
        thread.spawn(move || while caught(|| self.run()).is_err() {}).map(drop)
    }

    fn run(&self) -> Infallible {
        let clock = Clock::system();
        loop {
            let waker = self.next(&clock);
            // A waker that panics must not stop the timer for the others.
            if let Err(message) = caught(|| waker.wake()) {
                log_in_background(move || tracing::error!(target: "backstay", message, "a waker panicked"));
            }
        }
    }

    /// Waits until an alarm is due, and takes it out.
    fn next(&self, clock: &Clock) -> Waker {
        let mut alarms = self.lock();
        loop {
            let now = clock.now();
            let wake_at = match alarms.pending.first_entry() {
                Some(first) if first.key().0 <= now => return first.remove(),
                Some(first) => first.key().0,
                None => Moment::NEVER,
            };
            alarms.wake_at = wake_at;
            alarms = if wake_at == Moment::NEVER {
                self.earlier.wait(alarms).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.earlier.wait_timeout(alarms, wake_at.since(now)).unwrap_or_else(PoisonError::into_inner).0
            };
            alarms.wake_at = Moment::ORIGIN;
        }
    }
}

#[cfg(all(test, not(backstay_loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc;
    use std::task::Wake;

    const PATIENCE: Duration = Duration::from_secs(60);

    struct Report(mpsc::Sender<(u32, Moment)>, u32);

    impl Wake for Report {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send((self.1, Clock::system().now()));
        }
    }

    /// Holds up the timer's thread until it is released.
    struct Gate(mpsc::Sender<()>, std::sync::Mutex<mpsc::Receiver<()>>);

    impl Wake for Gate {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send(());
            let _ = self.1.lock().unwrap_or_else(PoisonError::into_inner).recv();
        }
    }

    fn timer() -> &'static Timer {
        Box::leak(Box::default())
    }

    // RL-4
    #[test]
    fn alarms_go_off_in_order_and_never_early_and_dropped_ones_never() {
        let timer = timer();
        let (sender, received) = mpsc::channel();
        let now = Clock::system().now();
        let (entered, held_up) = mpsc::channel();
        let (release, released) = mpsc::channel();
        let gate = Waker::from(Arc::new(Gate(entered, released.into())));
        let _gate = timer.schedule(now, gate, Timer::start).unwrap();
        held_up.recv_timeout(PATIENCE).unwrap();
        let alarm = |number, millis| {
            let due = now + Duration::from_millis(millis);
            timer.schedule(due, Waker::from(Arc::new(Report(sender.clone(), number))), Timer::start).unwrap()
        };
        let kept = [alarm(3, 60), alarm(1, 20), alarm(2, 40)];
        drop(alarm(9, 30));
        assert!(kept.iter().all(Alarm::is_pending));
        release.send(()).unwrap();
        for (number, millis) in [(1, 20), (2, 40), (3, 60)] {
            let (which, when) = received.recv_timeout(PATIENCE).unwrap();
            assert_eq!(which, number);
            assert!(when >= now + Duration::from_millis(millis));
        }
        assert!(received.try_recv().is_err());
        assert!(!kept.iter().any(Alarm::is_pending), "what went off is not armed");
    }

    // RL-4: an earlier alarm wakes the thread that sleeps until a later one.
    #[test]
    fn an_earlier_alarm_does_not_wait_for_a_later_one() {
        let timer = timer();
        let (sender, received) = mpsc::channel();
        let alarm = |number, due| {
            timer.schedule(due, Waker::from(Arc::new(Report(sender.clone(), number))), Timer::start).unwrap()
        };
        let (now, hour) = (Clock::system().now(), Duration::from_secs(3600));
        let mut later = Vec::new();
        for (number, due) in [(1, now + 2 * hour), (2, now + hour)] {
            later.push(alarm(number, due));
            let patience = Clock::system().now() + PATIENCE;
            while timer.lock().wake_at != due {
                assert!(Clock::system().now() < patience, "it sleeps past alarm {number}");
                std::thread::yield_now();
            }
        }
        let _now = alarm(3, now);
        assert_eq!(received.recv_timeout(PATIENCE).unwrap().0, 3);
    }

    // RL-4, ALL-1: a task that could not be given an alarm is polled again, and the alarm that it gets later is good.
    #[test]
    fn without_a_thread_the_task_is_woken_to_ask_again() {
        let timer = timer();
        let (sender, received) = mpsc::channel();
        let waker = || Waker::from(Arc::new(Report(sender.clone(), 1)));
        let due = Clock::system().now() + Duration::from_secs(3600);
        for _ in 0..3 {
            assert!(timer.schedule(due, waker(), |_| Err(io::ErrorKind::WouldBlock.into())).is_none());
            assert_eq!(received.try_recv().unwrap().0, 1, "woken within the call");
            assert!(timer.lock().pending.is_empty());
        }
        let now = Clock::system().now();
        let alarm = timer.schedule(now, waker(), Timer::start).unwrap();
        assert!(received.recv_timeout(PATIENCE).unwrap().1 >= now);
        assert!(!alarm.is_pending());
    }
}

#[cfg(all(test, backstay_loom))]
mod loom_tests {
    use super::*;
    use crate::clock::ManualClock;
    use loom::sync::Arc;
    use loom::thread;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Count(AtomicU32);

    impl std::task::Wake for Count {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    // RL-4: whatever the thread is about when alarms come in, in any order, it sleeps past none that is due. Under loom
    // no sleep ends by itself.
    #[test]
    fn loom_an_alarm_that_is_due_is_never_slept_past() {
        loom::model(|| {
            let timer = Arc::new(Timer::default());
            let hand = ManualClock::new();
            let clock = Clock::from(&hand);
            let due = std::sync::Arc::new(Count(AtomicU32::new(0)));
            let theirs = Arc::clone(&timer);
            let thread = thread::spawn(move || theirs.next(&clock).wake());
            let other = Arc::clone(&timer);
            let later = thread::spawn(move || {
                let alarms = other.lock();
                other.insert(alarms, Moment::ORIGIN + Duration::from_secs(1), Waker::noop().clone());
            });
            timer.insert(timer.lock(), Moment::ORIGIN, Waker::from(std::sync::Arc::clone(&due)));
            thread.join().unwrap();
            later.join().unwrap();
            assert_eq!(due.0.load(Ordering::SeqCst), 1);
        });
    }
}
