//! Watching another process by its heartbeat file.
//!
//! The callback pool checks the file, because a read from a network file system can hang. A check that finds the
//! service alive counts as a ping. Any other result fires the watchdog at once.
//!
//! # Memory ordering
//! `check_in_progress`: the swap (acquire) pairs with the store at the end of the previous check (release), so that
//! checks of one file happen one after another.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backstay_core::heartbeat::Liveness;
use backstay_core::time::nanos;
use backstay_core::watchdog::{self, CheckResult, ClockGaps, Tolerance};

use super::monitor::{Monitor, WatchEntry};
use super::report::Firing;
use super::shared::WatchdogShared;
use crate::callback::caught;
use crate::clock::{Moment, boottime};
use crate::heartbeat::Heartbeat;
use crate::log::log_in_background;

#[derive(Debug)]
pub(super) struct WatchedFile {
    pub(super) path: PathBuf,
    pub(super) max_age: Duration,
    /// At most one check runs at a time, so that a file system that hangs blocks only one thread.
    pub(super) check_in_progress: AtomicBool,
}

/// Clock gaps between checks, in boot time. Boot time includes suspensions, as the age of a beat does.
#[derive(Clone, Debug, Default)]
pub(super) struct BootClockGaps {
    last_check: Option<Moment>,
    gaps: ClockGaps,
}

impl BootClockGaps {
    fn record_check(&mut self, now: Moment, interval: Duration) {
        if let Some(last) = self.last_check.replace(now) {
            self.gaps.record_wakeup(last + interval, now);
        }
    }
}

/// Submits a check of the file, unless the previous one is still in progress. Returns the time of the next check.
pub(super) fn check(monitor: &'static Monitor, entry: &mut WatchEntry, gaps: &ClockGaps, now: Moment) -> Moment {
    let next = now + entry.shared.timeout;
    let (Some(file), Some(boot_gaps)) = (&entry.shared.file, &mut entry.boot_gaps) else { return next };
    if entry.shared.clock.as_manual().is_none()
        && let Some(now) = boot_moment()
    {
        boot_gaps.record_check(now, entry.shared.timeout);
    }
    let (shared, inner, run) = (Arc::clone(&entry.shared), entry.inner.clone(), entry.run);
    let report = move |firing: Option<Firing>| {
        if let (Some(firing), Some(inner)) = (firing, inner.upgrade()) {
            inner.report(&monitor.pool, firing);
        }
    };
    if file.check_in_progress.swap(true, Ordering::AcqRel) {
        let tolerance = Tolerance { timeout: file.max_age, staleness: Duration::ZERO };
        if let CheckResult::Fire { inactive } = watchdog::check(shared.state.load(), tolerance, gaps, now) {
            let reason = format!("reading {} hangs", file.path.display());
            report(monitor.if_current(&shared, run, || fire(&shared, inactive, reason)).flatten());
        }
    } else {
        let gaps = boot_gaps.gaps.clone();
        monitor.pool.submit(move || {
            let Some(file) = &shared.file else { return };
            let health = file.health(&gaps);
            // A watchdog that was stopped in the meantime neither fires nor recovers.
            let change = monitor.if_current(&shared, run, || apply(health, &shared)).flatten();
            file.check_in_progress.store(false, Ordering::Release);
            match change {
                Some(HealthChange::Failed(firing)) => report(Some(firing)),
                Some(HealthChange::Recovered) => log_recovery(file),
                None => {}
            }
        });
    }
    next
}

impl WatchedFile {
    /// Reads the file. Returns whether the service is alive, or else why not.
    ///
    /// `None`: not known yet, because this process did not run while beats were due.
    fn health(&self, gaps: &ClockGaps) -> Option<Result<(), String>> {
        // Nothing in the file may stop the watchdog, not even a defect in our parser.
        match caught(|| Heartbeat::liveness(&self.path, self.max_age)) {
            Ok(Ok(Liveness::Alive { .. })) => Some(Ok(())),
            Ok(Ok(Liveness::Stale { age })) if self.is_excused(age, gaps) => None,
            Ok(Ok(dead)) => Some(Err(format!("{}: {dead}", self.path.display()))),
            Ok(Err(error)) => Some(Err(error.to_string())),
            Err(panic) => Some(Err(format!("failed to read heartbeat {}: {panic}", self.path.display()))),
        }
    }

    /// Returns whether the beat is stale only because of clock gaps.
    fn is_excused(&self, age: Duration, gaps: &ClockGaps) -> bool {
        let Some(now) = boot_moment() else { return false };
        // A beat from before this boot counts as written at boot, because all recorded gaps are later.
        let written = Moment::from_nanos(now.as_nanos().saturating_sub(nanos(age)));
        let excused = gaps.inactive_since(written, self.max_age).since(written);
        age.saturating_sub(excused) <= self.max_age
    }
}

fn boot_moment() -> Option<Moment> {
    boottime().map(|since_boot| Moment::ORIGIN + since_boot)
}

/// How a check changed the watchdog.
enum HealthChange {
    Failed(Firing),
    Recovered,
}

fn apply(health: Option<Result<(), String>>, shared: &WatchdogShared) -> Option<HealthChange> {
    match health? {
        Ok(()) => {
            let was_triggered = shared.state.load().is_triggered();
            shared.state.ping(shared.clock.now());
            was_triggered.then_some(HealthChange::Recovered)
        }
        Err(reason) => fire(shared, shared.inactive(), reason).map(HealthChange::Failed),
    }
}

fn log_recovery(file: &WatchedFile) {
    let state_file = file.path.clone();
    log_in_background(
        move || tracing::info!(target: "backstay", state_file = %state_file.display(), "the watched service has recovered"),
    );
}

/// Fires, unless the watchdog has fired for this outage already.
fn fire(shared: &WatchdogShared, inactive: Duration, reason: String) -> Option<Firing> {
    loop {
        let state = shared.state.load();
        if state.is_triggered() {
            return None;
        }
        if let Some(count) = shared.fire(state, inactive) {
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

    // WD-8: a check that hangs delays nothing. The watchdog fires after `max_age`.
    #[test]
    fn a_file_system_that_hangs_fires_the_watchdog() {
        let clock = ManualClock::new();
        let (sender, reports) = channel();
        let watchdog = Watchdog::from_state_file("/nowhere/x.heartbeat")
            .max_age(30 * SECOND)
            .clock(&clock)
            .on_timeout(move |report| drop(sender.send(report.clone())))
            .build()
            .unwrap();
        // A check is in progress and never ends.
        watchdog.shared.file.as_ref().unwrap().check_in_progress.store(true, Ordering::SeqCst);
        watchdog.start().unwrap();
        clock.advance(40 * SECOND);
        let report = reports.recv_timeout(60 * SECOND).unwrap();
        assert_eq!((report.firings, report.inactive), (1, 40 * SECOND));
        assert!(report.reason.unwrap().contains("hangs"));
    }

    // WD-7: after a suspension the service gets time for another beat.
    #[test]
    fn a_stale_beat_is_excused_after_a_suspension() {
        let mut boot_gaps = BootClockGaps::default();
        for at in [100, 115, 130] {
            boot_gaps.record_check(second(at), 15 * SECOND);
        }
        assert_eq!(boot_gaps.gaps.inactive_since(second(100), 30 * SECOND), second(100));
        boot_gaps.record_check(second(8000), 15 * SECOND);
        assert_eq!(boot_gaps.gaps.inactive_since(second(120), 30 * SECOND), second(8000));
    }
}
