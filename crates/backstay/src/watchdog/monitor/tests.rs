//! Every order of steps of the monitor and its callers, where each step takes the lock once.

use std::time::Duration;

use backstay_core::watchdog::SLOT_LENGTH;

use super::*;
use crate::Watchdog;

/// Four slots and two, while time advances by single slots: the second watchdog's deadline can be the earlier one.
const TIMEOUTS: [Duration; 2] = [Duration::from_nanos(4 << 22), Duration::from_nanos(2 << 22)];
const STEPS: u32 = 6;
/// The shortest timeout that a builder does not clamp.
const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
enum Step {
    Start(usize),
    Stop(usize),
    /// The monitor runs until it next takes the lock.
    Monitor,
    /// Time advances by one slot.
    Tick,
}

const ALL: [Step; 6] = [Step::Start(0), Step::Start(1), Step::Stop(0), Step::Stop(1), Step::Monitor, Step::Tick];

/// State of the simulated monitor thread.
enum MonitorThread {
    None,
    /// It sleeps until this time or until it is woken.
    Sleeping(Moment),
    Checking(Vec<WatchEntry>),
}

struct Simulation {
    monitor: &'static Monitor,
    shared: [Arc<WatchdogShared>; 2],
    /// Start time of each running watchdog.
    started: [Option<Moment>; 2],
    /// For each watchdog, how many checks its current run has had.
    checks: [u32; 2],
    thread: MonitorThread,
    /// The thread was woken and has not run since.
    woken: bool,
    now: Moment,
}

impl Simulation {
    fn new() -> Self {
        let shared = |timeout| Arc::new(WatchdogShared::new(Clock::system(), timeout, false, None));
        Self {
            monitor: Box::leak(Box::default()),
            shared: TIMEOUTS.map(shared),
            started: [None; 2],
            checks: [0; 2],
            thread: MonitorThread::None,
            woken: false,
            now: Moment::ORIGIN + SLOT_LENGTH,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Start(which) if self.started[which].is_none() => self.start(which),
            Step::Stop(which) => {
                assert_eq!(self.monitor.stop(&self.shared[which]), self.started[which].is_some());
                self.started[which] = None;
            }
            Step::Monitor => self.run_monitor(),
            Step::Tick => self.now = self.now + SLOT_LENGTH,
            Step::Start(_) => {}
        }
    }

    /// [`Monitor::start`] at the simulated time, without a real thread.
    fn start(&mut self, which: usize) {
        let shared = &self.shared[which];
        let mut state = self.monitor.state.lock();
        if state.thread.is_none() {
            assert!(matches!(self.thread, MonitorThread::None), "two monitors");
            state.thread = Some(thread::current());
            self.thread = MonitorThread::Sleeping(self.now);
        }
        let run = shared.run().next();
        shared.set_run(run);
        let check_at = self.now + TIMEOUTS[which];
        let entry = WatchEntry {
            shared: Arc::clone(shared),
            inner: Weak::new(),
            run,
            boot_gaps: None,
            advance_waker: None,
            check_at,
        };
        self.woken |= state.add(entry);
        (self.started[which], self.checks[which]) = (Some(self.now), 0);
    }

    fn run_monitor(&mut self) {
        self.thread = match std::mem::replace(&mut self.thread, MonitorThread::None) {
            MonitorThread::None => MonitorThread::None,
            MonitorThread::Sleeping(until) if self.now < until && !std::mem::take(&mut self.woken) => {
                MonitorThread::Sleeping(until)
            }
            MonitorThread::Sleeping(_) => match self.monitor.take_due(self.now) {
                Some(due) => MonitorThread::Checking(due),
                None => MonitorThread::None,
            },
            MonitorThread::Checking(mut due) => {
                due.retain_mut(|entry| {
                    let which = usize::from(Arc::ptr_eq(&entry.shared, &self.shared[1]));
                    assert!(entry.check_at <= self.now, "checked too early");
                    self.checks[which] += u32::from(entry.is_current());
                    entry.check_at = self.now + TIMEOUTS[which];
                    entry.is_current()
                });
                MonitorThread::Sleeping(self.monitor.put_back(due, self.now))
            }
        };
    }

    /// WD-1, WD-3, WD-4: the monitor is awake at each running watchdog's deadline, or wakes by then.
    fn check(&self) {
        for (which, started) in self.started.iter().enumerate() {
            let Some(started) = *started else { continue };
            let due = started + TIMEOUTS[which] + SLOT_LENGTH;
            match self.thread {
                MonitorThread::None => panic!("watchdog {which} is running without a monitor"),
                MonitorThread::Sleeping(until) if !self.woken && self.checks[which] == 0 => {
                    assert!(until <= due, "{which} is due at {due:?}, but the monitor sleeps until {until:?}");
                }
                _ => {}
            }
        }
        let state = self.monitor.state.lock();
        assert_eq!(state.running, self.started.iter().flatten().count());
        assert_eq!(state.thread.is_some(), !matches!(self.thread, MonitorThread::None));
    }
}

// WD-1, WD-3, WD-4: no order of starts, stops and checks leaves a running watchdog without a check.
#[test]
fn every_order_of_starts_stops_and_checks_watches_all_running_watchdogs() {
    for number in 0..6_usize.pow(STEPS) {
        let mut simulation = Simulation::new();
        let mut rest = number;
        for _ in 0..STEPS {
            simulation.step(ALL[rest % 6]);
            simulation.check();
            rest /= 6;
        }
    }
}

// WD-1: a watchdog that is stopped while the monitor holds its entry does not fire.
#[test]
fn a_watchdog_that_is_stopped_during_a_check_does_not_fire() {
    let clock = ManualClock::new();
    let watchdog = Watchdog::builder().timeout(SECOND).clock(&clock).build().unwrap();
    // A separate monitor. This test acts as its thread.
    let monitor: &'static Monitor = Box::leak(Box::default());
    monitor.state.lock().thread = Some(thread::current());
    for is_restarted in [false, true] {
        assert!(monitor.start(&watchdog.inner).is_ok());
        let mut due = monitor.take_due(Clock::system().now()).unwrap();
        let held = due.iter_mut().find(|entry| entry.is_current()).unwrap();

        monitor.stop(&watchdog.shared);
        if is_restarted {
            assert!(monitor.start(&watchdog.inner).is_ok());
        }
        clock.advance(100 * SECOND);
        assert!(held.check(monitor, &ClockGaps::default(), Moment::ORIGIN).is_none());
        assert!(!watchdog.is_triggered());
        assert_eq!(watchdog.stats().timeouts_triggered, 0);

        monitor.stop(&watchdog.shared);
    }
}
