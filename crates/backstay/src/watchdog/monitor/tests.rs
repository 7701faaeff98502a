//! Every order of what the monitor and its callers do, each one step under the lock.

use std::time::Duration;

use backstay_core::watchdog::SLOT;

use super::*;
use crate::Watchdog;

/// Four slots and two, where time goes by in single ones: the second watchdog's deadline may be the earlier one.
const TIMEOUTS: [Duration; 2] = [Duration::from_nanos(4 << 22), Duration::from_nanos(2 << 22)];
const STEPS: u32 = 6;
/// The shortest timeout that a builder does not clamp.
const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
enum Step {
    Start(usize),
    Stop(usize),
    /// The monitor goes as far as its next look at the lock.
    Monitor,
    Tick,
}

const ALL: [Step; 6] = [Step::Start(0), Step::Start(1), Step::Stop(0), Step::Stop(1), Step::Monitor, Step::Tick];

/// What the monitor's thread is doing.
enum Thread {
    None,
    /// Until then, or until it is woken.
    Sleeps(Moment),
    Looks(Vec<Entry>),
}

struct World {
    monitor: &'static Monitor,
    beats: [Arc<Beat>; 2],
    /// For each watchdog that is on: when it began.
    started: [Option<Moment>; 2],
    /// For each, how often an entry of its present run was found due.
    looks: [u32; 2],
    thread: Thread,
    /// A wake-up waits for the thread.
    woken: bool,
    now: Moment,
}

impl World {
    fn new() -> Self {
        let beat = |timeout| Arc::new(Beat::new(Clock::system(), timeout, false, None));
        Self {
            monitor: Box::leak(Box::default()),
            beats: TIMEOUTS.map(beat),
            started: [None; 2],
            looks: [0; 2],
            thread: Thread::None,
            woken: false,
            now: Moment::ORIGIN + SLOT,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Start(which) if self.started[which].is_none() => self.start(which),
            Step::Stop(which) => {
                assert_eq!(self.monitor.stop(&self.beats[which]), self.started[which].is_some());
                self.started[which] = None;
            }
            Step::Monitor => self.run_monitor(),
            Step::Tick => self.now = self.now + SLOT,
            Step::Start(_) => {}
        }
    }

    /// [`Monitor::start`] at a time of ours, with a thread that runs when we say so.
    fn start(&mut self, which: usize) {
        let beat = &self.beats[which];
        let mut state = self.monitor.state.lock();
        if state.thread.is_none() {
            assert!(matches!(self.thread, Thread::None), "two monitors");
            state.thread = Some(thread::current());
            self.thread = Thread::Sleeps(self.now);
        }
        let run = beat.run().next();
        beat.set_run(run);
        let look_at = self.now + TIMEOUTS[which];
        let entry = Entry { beat: Arc::clone(beat), inner: Weak::new(), run, looks: None, hand: None, look_at };
        self.woken |= state.add(entry);
        (self.started[which], self.looks[which]) = (Some(self.now), 0);
    }

    fn run_monitor(&mut self) {
        self.thread = match std::mem::replace(&mut self.thread, Thread::None) {
            Thread::None => Thread::None,
            Thread::Sleeps(until) if self.now < until && !std::mem::take(&mut self.woken) => Thread::Sleeps(until),
            Thread::Sleeps(_) => match self.monitor.take_due(self.now) {
                Some(due) => Thread::Looks(due),
                None => Thread::None,
            },
            Thread::Looks(mut due) => {
                due.retain_mut(|entry| {
                    let which = usize::from(Arc::ptr_eq(&entry.beat, &self.beats[1]));
                    assert!(entry.look_at <= self.now, "looked at too early");
                    self.looks[which] += u32::from(entry.is_on());
                    entry.look_at = self.now + TIMEOUTS[which];
                    entry.is_on()
                });
                Thread::Sleeps(self.monitor.put_back(due, self.now))
            }
        };
    }

    /// WD-1, WD-3, WD-4: whoever is on is found by its deadline: the monitor is awake, or will be by then.
    fn check(&self) {
        for (which, started) in self.started.iter().enumerate() {
            let Some(started) = *started else { continue };
            let due = started + TIMEOUTS[which] + SLOT;
            match self.thread {
                Thread::None => panic!("nobody watches {which}"),
                Thread::Sleeps(until) if !self.woken && self.looks[which] == 0 => {
                    assert!(until <= due, "{which} is due at {due:?}, and the monitor sleeps until {until:?}");
                }
                _ => {}
            }
        }
        let state = self.monitor.state.lock();
        assert_eq!(state.live, self.started.iter().flatten().count());
        assert_eq!(state.thread.is_some(), !matches!(self.thread, Thread::None));
    }
}

// WD-1, WD-3, WD-4: no order of starts, stops and looks leaves a watchdog that is on without a monitor that will look.
#[test]
fn every_order_of_starts_stops_and_looks_finds_who_is_on() {
    for number in 0..6_usize.pow(STEPS) {
        let mut world = World::new();
        let mut rest = number;
        for _ in 0..STEPS {
            world.step(ALL[rest % 6]);
            world.check();
            rest /= 6;
        }
    }
}

// WD-1: a stop that comes while the monitor holds the entry, before it reads the time, ends the run: nothing fires.
#[test]
fn a_watchdog_that_was_stopped_while_it_was_looked_at_does_not_fire() {
    let clock = ManualClock::new();
    let watchdog = Watchdog::builder().timeout(SECOND).clock(&clock).build().unwrap();
    // A monitor of our own, whose thread is this test.
    let monitor: &'static Monitor = Box::leak(Box::default());
    monitor.state.lock().thread = Some(thread::current());
    for is_restarted in [false, true] {
        assert!(monitor.start(&watchdog.inner).is_ok());
        let mut due = monitor.take_due(Clock::system().now()).unwrap();
        let held = due.iter_mut().find(|entry| entry.is_on()).unwrap();

        monitor.stop(&watchdog.beat);
        if is_restarted {
            assert!(monitor.start(&watchdog.inner).is_ok());
        }
        clock.advance(100 * SECOND);
        assert!(held.look(monitor, &Holes::default(), Moment::ORIGIN).is_none());
        assert!(!watchdog.is_triggered());
        assert_eq!(watchdog.stats().timeouts_triggered, 0);

        monitor.stop(&watchdog.beat);
    }
}
