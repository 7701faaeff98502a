//! Watching another process by its heartbeat file.
//!
//! The monitor has the file looked at by a runner, because a file may sit on a network that does not answer. A look that
//! finds the service alive is a ping; any other fires at once.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backstay_core::heartbeat::Liveness;
use backstay_core::time::nanos;
use backstay_core::watchdog::{Holes, Patience, Verdict, judge};

use super::beat::Beat;
use super::monitor::{Entry, Monitor};
use super::report::Firing;
use crate::callback::caught;
use crate::clock::{Moment, boottime};
use crate::heartbeat::Heartbeat;
use crate::log::log_in_background;

#[derive(Debug)]
pub(super) struct StateFile {
    pub(super) path: PathBuf,
    pub(super) max_age: Duration,
    /// Somebody is looking: never two at once, so that a dead file system takes one thread and no more.
    pub(super) looking: AtomicBool,
}

/// When the monitor looked, in boot time: that goes on while the machine is suspended, as the age of a beat does.
#[derive(Clone, Debug, Default)]
pub(super) struct Looks {
    last: Option<Moment>,
    holes: Holes,
}

impl Looks {
    fn note(&mut self, now: Moment, interval: Duration) {
        if let Some(last) = self.last.replace(now) {
            self.holes.woke(last + interval, now);
        }
    }
}

/// Has the file looked at, unless the last look has not come back yet. Returns when to look again.
pub(super) fn look(monitor: &'static Monitor, entry: &mut Entry, holes: &Holes, now: Moment) -> Moment {
    let again = now + entry.beat.timeout;
    let (Some(file), Some(looks)) = (&entry.beat.file, &mut entry.looks) else { return again };
    if entry.beat.clock.in_hand().is_none()
        && let Some(now) = boot_moment()
    {
        looks.note(now, entry.beat.timeout);
    }
    let (beat, inner, run) = (Arc::clone(&entry.beat), entry.inner.clone(), entry.run);
    let report = move |firing: Option<Firing>| {
        if let (Some(firing), Some(inner)) = (firing, inner.upgrade()) {
            inner.report(&monitor.runners, firing);
        }
    };
    if file.looking.swap(true, Ordering::AcqRel) {
        let patience = Patience { timeout: file.max_age, staleness: Duration::ZERO };
        if let Verdict::Fire { inactive } = judge(beat.pulse.load(), patience, holes, now) {
            let reason = format!("{} gives no answer: reading it hangs", file.path.display());
            report(monitor.while_on(&beat, run, || fire(&beat, inactive, reason)).flatten());
        }
    } else {
        let holes = looks.holes.clone();
        monitor.runners.submit(move || {
            let Some(file) = &beat.file else { return };
            let verdict = file.verdict(&holes);
            // A watchdog that was stopped in the meantime neither fires nor recovers.
            let outcome = monitor.while_on(&beat, run, || apply(verdict, &beat)).flatten();
            file.looking.store(false, Ordering::Release);
            match outcome {
                Some(Outcome::Fired(firing)) => report(Some(firing)),
                Some(Outcome::Recovered) => say_back(file),
                None => {}
            }
        });
    }
    again
}

impl StateFile {
    /// Whether the service lives, as far as the file tells; otherwise what is wrong. `None` where that cannot be told
    /// yet, because this process did not run while the beats were due.
    fn verdict(&self, holes: &Holes) -> Option<Result<(), String>> {
        // Nothing in the file may stop the watching, a defect in reading it included.
        match caught(|| Heartbeat::liveness(&self.path, self.max_age)) {
            Ok(Ok(Liveness::Alive { .. })) => Some(Ok(())),
            Ok(Ok(Liveness::Stale { age })) if self.is_excused(age, holes) => None,
            Ok(Ok(dead)) => Some(Err(format!("{}: {dead}", self.path.display()))),
            Ok(Err(error)) => Some(Err(error.to_string())),
            Err(panic) => Some(Err(format!("{} cannot be read: {panic}", self.path.display()))),
        }
    }

    fn is_excused(&self, age: Duration, holes: &Holes) -> bool {
        let Some(now) = boot_moment() else { return false };
        // A beat from before this machine's boot is taken to be from its boot; what it is excused for comes later.
        let written = Moment::from_nanos(now.as_nanos().saturating_sub(nanos(age)));
        let excused = holes.excused(written, self.max_age).since(written);
        age.saturating_sub(excused) <= self.max_age
    }
}

fn boot_moment() -> Option<Moment> {
    boottime().map(|since_boot| Moment::ORIGIN + since_boot)
}

/// What a look at the file changed.
enum Outcome {
    Fired(Firing),
    Recovered,
}

fn apply(verdict: Option<Result<(), String>>, beat: &Beat) -> Option<Outcome> {
    match verdict? {
        Ok(()) => {
            let was_triggered = beat.pulse.load().is_triggered();
            beat.pulse.ping(beat.clock.now());
            was_triggered.then_some(Outcome::Recovered)
        }
        Err(reason) => fire(beat, beat.inactive(), reason).map(Outcome::Fired),
    }
}

fn say_back(file: &StateFile) {
    let state_file = file.path.clone();
    log_in_background(
        move || tracing::info!(target: "backstay", state_file = %state_file.display(), "a watched service is back"),
    );
}

/// Fires, once per outage.
fn fire(beat: &Beat, inactive: Duration, reason: String) -> Option<Firing> {
    loop {
        let pulse = beat.pulse.load();
        if pulse.is_triggered() {
            return None;
        }
        if let Some(count) = beat.fire(pulse, inactive) {
            return Some(Firing { inactive, count, reason: Some(reason) });
        }
    }
}

#[cfg(all(test, not(backstay_loom)))]
mod tests {
    use super::*;
    use crate::Watchdog;
    use crate::clock::ManualClock;
    use std::sync::mpsc::channel;

    const SECOND: Duration = Duration::from_secs(1);

    fn second(seconds: u64) -> Moment {
        Moment::ORIGIN + Duration::from_secs(seconds)
    }

    // WD-8: a look that hangs is not waited for, and not joined by another; in the end it counts as no answer.
    #[test]
    fn a_file_system_that_hangs_fires() {
        let clock = ManualClock::new();
        let (sender, reports) = channel();
        let watchdog = Watchdog::from_state_file("/nowhere/x.heartbeat")
            .max_age(30 * SECOND)
            .clock(&clock)
            .on_timeout(move |report| drop(sender.send(report.clone())))
            .build()
            .unwrap();
        // Somebody is looking, and does not come back.
        watchdog.beat.file.as_ref().unwrap().looking.store(true, Ordering::SeqCst);
        watchdog.start().unwrap();
        clock.advance(40 * SECOND);
        let report = reports.recv_timeout(60 * SECOND).unwrap();
        assert_eq!((report.firings, report.inactive), (1, 40 * SECOND));
        assert!(report.reason.unwrap().contains("hangs"));
    }

    // WD-7: who was away while the beats were due gives the service time for one.
    #[test]
    fn after_a_suspend_a_stale_beat_is_excused_for_a_while() {
        let mut looks = Looks::default();
        for at in [100, 115, 130] {
            looks.note(second(at), 15 * SECOND);
        }
        assert_eq!(looks.holes.excused(second(100), 30 * SECOND), second(100));
        looks.note(second(8000), 15 * SECOND);
        assert_eq!(looks.holes.excused(second(120), 30 * SECOND), second(8000));
    }
}
