//! Every interleaving of pings, a firing and a raising.

use std::time::Duration;

use backstay_core::watchdog::{Holes, Patience, Verdict, judge};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use super::beat::SharedPulse;
use crate::clock::Moment;

const PATIENCE: Patience = Patience { timeout: Duration::from_nanos(10), staleness: Duration::ZERO };

fn at(nanos: u64) -> Moment {
    Moment::from_nanos(nanos)
}

/// What the monitor does at `now`: it looks until nothing happens in between.
fn look(pulse: &SharedPulse, now: u64) -> bool {
    loop {
        let seen = pulse.load();
        match judge(seen, PATIENCE, &Holes::default(), at(now)) {
            Verdict::Fire { inactive } if pulse.fire(seen, inactive, true) => return true,
            Verdict::Fire { .. } => loom::thread::yield_now(),
            Verdict::LookAgain(_) => return false,
        }
    }
}

// WD-3: a ping that happens before the look is never missed, and one that comes later sets back to watching.
#[test]
fn loom_a_ping_before_the_look_is_never_lost() {
    loom::model(|| {
        let pulse = Arc::new(SharedPulse::started(at(1)));
        let flag = Arc::new(AtomicU64::new(0));
        let pinger = {
            let (pulse, flag) = (Arc::clone(&pulse), Arc::clone(&flag));
            thread::spawn(move || {
                pulse.ping(at(12));
                flag.store(1, Ordering::Release);
            })
        };
        let before = flag.load(Ordering::Acquire) == 1;
        let fired = look(&pulse, 13);
        assert!(!(before && fired), "fired after a ping");
        pinger.join().unwrap();
        assert!(!pulse.load().is_triggered(), "the ping won or set it back");
        assert_eq!(pulse.load().last_ping(), at(12));
        assert_eq!(pulse.load().is_owed(), fired);
    });
}

// WD-5: what is owed is raised exactly once, whoever pings or asks for it.
#[test]
fn loom_what_is_owed_is_taken_once() {
    loom::model(|| {
        let pulse = Arc::new(SharedPulse::started(at(1)));
        let askers: Vec<_> = (0..2)
            .map(|i| {
                let pulse = Arc::clone(&pulse);
                thread::spawn(move || {
                    pulse.ping(at(14 + i));
                    pulse.take()
                })
            })
            .collect();
        let fired = look(&pulse, 13);
        let mut taken: Vec<Duration> = askers.into_iter().filter_map(|asker| asker.join().unwrap()).collect();
        taken.extend(pulse.take());
        assert_eq!(taken, if fired { vec![Duration::from_nanos(12)] } else { vec![] });
        assert!(!pulse.load().is_triggered());
        assert_eq!(pulse.load().last_ping(), at(15), "the latest reading stays");
    });
}

// WD-5: while one firing is owed, a second one does not change what the first one measured.
#[test]
fn loom_a_second_firing_owes_nothing_new() {
    loom::model(|| {
        let pulse = Arc::new(SharedPulse::started(at(1)));
        assert!(look(&pulse, 13));
        pulse.ping(at(14));
        let asker = {
            let pulse = Arc::clone(&pulse);
            thread::spawn(move || pulse.take())
        };
        assert!(look(&pulse, 40));
        let first = asker.join().unwrap().expect("the first firing was owed");
        let second = pulse.take();
        assert_eq!(first, Duration::from_nanos(12));
        assert!(second.is_none() || second == Some(Duration::from_nanos(26)));
        assert!(!look(&pulse, 50), "once per freeze");
    });
}
