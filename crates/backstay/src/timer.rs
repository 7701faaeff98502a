//! One thread that wakes tasks when their moment has come, on the system's clock, whatever runtime they run on.
//!
//! It starts with the first alarm and sleeps until the earliest. A forked child, in which it does not run, starts
//! its own.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::callback::caught;
use crate::clock::{Clock, Moment};
use crate::log::say_aside;
use crate::per_process::PerProcess;

static TIMER: PerProcess<Timer> = PerProcess::new();

/// A wake-up to come; dropped, it does not.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: &'static Timer,
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
}

impl Alarm {
    /// Wakes `waker` at `due` of the system's clock.
    pub(crate) fn at(due: Moment, waker: Waker) -> Self {
        let timer = TIMER.get();
        let mut alarms = timer.lock();
        let key = (due, alarms.next);
        alarms.next += 1;
        alarms.pending.insert(key, waker);
        let first = alarms.pending.first_key_value().is_some_and(|(first, _)| *first == key);
        let start = !std::mem::replace(&mut alarms.running, true);
        drop(alarms);
        if start {
            timer.start();
        } else if first {
            timer.earlier.notify_one();
        }
        Self { timer, key }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // In a forked child nobody wakes the parent's tasks, and its lock stays as it was.
        if !std::ptr::eq(self.timer, TIMER.get()) {
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

    fn start(&'static self) {
        let thread = std::thread::Builder::new().name("backstay-timer".into());
        // However it is unwound, it goes on: nobody else would wake those who wait.
        if let Err(error) = thread.spawn(move || while caught(|| self.run()).is_err() {}) {
            // Without the thread the best that can be done is to let the tasks look for themselves, now.
            say_aside(
                move || tracing::error!(target: "backstay", %error, "no thread for the timer: waiting tasks are woken early"),
            );
            let pending = {
                let mut alarms = self.lock();
                alarms.running = false;
                std::mem::take(&mut alarms.pending)
            };
            pending.into_values().for_each(|waker| drop(caught(|| waker.wake())));
        }
    }

    fn run(&self) -> Infallible {
        let clock = Clock::system();
        let mut alarms = self.lock();
        loop {
            let now = clock.now();
            match alarms.pending.first_entry() {
                Some(first) if first.key().0 <= now => {
                    let waker = first.remove();
                    drop(alarms);
                    // A waker that panics must not take everybody's timer with it.
                    if let Err(message) = caught(|| waker.wake()) {
                        say_aside(move || tracing::error!(target: "backstay", message, "a waker panicked"));
                    }
                    alarms = self.lock();
                }
                Some(first) => {
                    let sleep = first.key().0.since(now);
                    alarms = match self.earlier.wait_timeout(alarms, sleep) {
                        Ok((alarms, _)) => alarms,
                        Err(poisoned) => poisoned.into_inner().0,
                    };
                }
                None => alarms = self.earlier.wait(alarms).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc;
    use std::task::Wake;
    use std::time::Duration;

    struct Report(mpsc::Sender<(u32, Moment)>, u32);

    impl Wake for Report {
        fn wake(self: Arc<Self>) {
            self.0.send((self.1, Clock::system().now())).unwrap();
        }
    }

    /// Holds up the timer's thread until it is released.
    struct Gate(mpsc::Sender<()>, std::sync::Mutex<mpsc::Receiver<()>>);

    impl Wake for Gate {
        fn wake(self: Arc<Self>) {
            self.0.send(()).unwrap();
            let _ = self.1.lock().unwrap().recv();
        }
    }

    #[test]
    fn alarms_go_off_in_order_and_never_early_and_dropped_ones_never() {
        let (sender, received) = mpsc::channel();
        let now = Clock::system().now();
        let (entered, held_up) = mpsc::channel();
        let (release, released) = mpsc::channel();
        let _gate = Alarm::at(now, Waker::from(Arc::new(Gate(entered, released.into()))));
        held_up.recv_timeout(Duration::from_secs(30)).unwrap();
        let alarm = |number, millis| {
            let due = now + Duration::from_millis(millis);
            Alarm::at(due, Waker::from(Arc::new(Report(sender.clone(), number))))
        };
        let _kept = [alarm(3, 60), alarm(1, 20), alarm(2, 40)];
        drop(alarm(9, 30));
        release.send(()).unwrap();
        for (number, millis) in [(1, 20), (2, 40), (3, 60)] {
            let (which, when) = received.recv_timeout(Duration::from_secs(30)).unwrap();
            assert_eq!(which, number);
            assert!(when >= now + Duration::from_millis(millis));
        }
        assert!(received.try_recv().is_err());
    }
}
