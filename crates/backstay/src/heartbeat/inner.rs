//! Beats: scheduled ones on the heartbeat's thread, and those that `beat` makes on the caller's.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{mem, process, thread};

use backstay_core::heartbeat::{BeatSchedule, DegradedBy, Host, Status};
use backstay_core::time::Moment;
use serde_json::Value;

use super::callbacks::{Callbacks, HeartbeatEvent, run_callbacks, send_event};
use super::conflict::{FileClaim, OtherWriter, claimant};
use super::file::StateFile;
use super::process_state::{Destination, ProcessState, RunState, ServiceDetails, WriterState, lock};
use super::run::HeartbeatRun;
use super::target::FollowedTarget;
use super::{HeartbeatError, HeartbeatState};
use crate::alert::Alert;
use crate::callback::caught;
use crate::clock::{self, Clock, Source};
use crate::log::log_in_background;
use crate::sync::Wake;
use crate::threads;

/// Longest time that `start` waits for the first beat. A slow disk needs it; a disk that hangs must not block the
/// service.
const START_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest time that `stop` waits for the final beat and for callbacks.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A heartbeat, shared by its handles and its threads.
pub(super) struct HeartbeatInner {
    pub(super) state_file: Option<PathBuf>,
    #[cfg(unix)]
    pub(super) file_mode: u32,
    pub(super) interval: Duration,
    pub(super) clock: Clock,
    pub(super) exclusive: bool,
    pub(super) targets: Vec<FollowedTarget>,
    pub(super) callbacks: Callbacks,
    pub(super) built_with: ServiceDetails,
    pub(super) first_process: ProcessState,
}

/// Why a beat is written. It decides in which state of the run the beat may be written.
enum BeatKind<'a> {
    /// The run's schedule.
    Scheduled(&'a Arc<HeartbeatRun>),
    /// The end of the run: the beat with the status `stopped`.
    Final(&'a Arc<HeartbeatRun>),
    /// A call of `beat`.
    Manual,
}

impl HeartbeatInner {
    /// Returns the state of this process.
    pub(super) fn local(&self) -> &ProcessState {
        ProcessState::current(&self.first_process, &self.built_with)
    }

    pub(super) fn start(self: &Arc<Self>) -> Result<(), HeartbeatError> {
        let local = self.local();
        let run = Arc::new(HeartbeatRun::default());
        let before;
        {
            let mut run_state = lock(&local.run_state);
            if matches!(*run_state, RunState::Running(_)) {
                return Err(HeartbeatError::AlreadyRunning);
            }
            self.spawn(&run).map_err(|error| HeartbeatError::NoThread(Arc::new(error)))?;
            before = mem::replace(&mut *run_state, RunState::Running(Arc::clone(&run)));
        }
        let started = run.wait_for_first_beat(START_TIMEOUT);
        if started.is_err() {
            run.wait_for_end(STOP_TIMEOUT);
            let mut run_state = lock(&local.run_state);
            if matches!(&*run_state, RunState::Running(current) if Arc::ptr_eq(current, &run)) {
                *run_state = before;
            }
        }
        started
    }

    /// Starts the threads of `run`. Call it with `run_state` locked: the threads wait until it names their run.
    fn spawn(self: &Arc<Self>, run: &Arc<HeartbeatRun>) -> std::io::Result<()> {
        let mut events = None;
        if self.callbacks.is_empty() {
            run.no_callbacks();
        } else {
            let (sender, receiver) = super::callbacks::channel();
            events = Some(sender);
            let (this, run) = (Arc::clone(self), Arc::clone(run));
            threads::named("heartbeat-calls").spawn(move || {
                let _registered = run.register_callback_thread();
                run_callbacks(&this.callbacks, &receiver, &run.beat_pending);
            })?;
        }
        let (this, run) = (Arc::clone(self), Arc::clone(run));
        threads::named("heartbeat").spawn(move || {
            let _registered = run.register_beat_thread();
            // Declared later and so dropped first: the callback thread ends after the last beat.
            let events = events;
            this.run_schedule(&run, |event| {
                if let Some(events) = &events {
                    send_event(events, event, &run.beat_pending);
                }
            });
        })?;
        Ok(())
    }

    pub(super) fn stop(&self) {
        if let Some(run) = self.stop_soon() {
            run.wait_for_end(STOP_TIMEOUT);
        }
    }

    /// Requests the end of the run, if there is one, and returns it.
    pub(super) fn stop_soon(&self) -> Option<Arc<HeartbeatRun>> {
        let local = self.local();
        let run = {
            let mut run_state = lock(&local.run_state);
            let run = match &*run_state {
                RunState::Idle => return None,
                RunState::Running(run) | RunState::Stopped(run) => Arc::clone(run),
            };
            *run_state = RunState::Stopped(Arc::clone(&run));
            run
        };
        run.request_stop();
        Some(run)
    }

    /// Beats on schedule until the run is stopped; then writes the final beat.
    fn run_schedule(&self, run: &Arc<HeartbeatRun>, mut notify: impl FnMut(HeartbeatEvent)) {
        lock(&self.local().details).started_at = Some(clock::wall());
        let _claim = self.state_file.as_ref().map(|path| FileClaim::new(claimant(self), path));
        let schedule = BeatSchedule::new(self.clock.now(), self.interval);
        while !run.is_stop_requested() {
            let due_after = self.clock.now();
            self.beat_catching_panics(&BeatKind::Scheduled(run), &mut notify);
            if run.start_failed() {
                return; // without a final beat: the file is another heartbeat's
            }
            run.first_beat_made();
            self.wait(schedule.next(due_after), run);
        }
        self.beat_catching_panics(&BeatKind::Final(run), |_| {});
    }

    /// Beats on the heartbeat's own thread, which must survive panics of user code, such as targets and log
    /// subscribers.
    fn beat_catching_panics(&self, kind: &BeatKind<'_>, notify: impl FnMut(HeartbeatEvent)) {
        if let Err(panic) = caught(|| self.beat(kind, notify)) {
            log_in_background(move || tracing::error!(target: "backstay", panic, "a heartbeat panicked; it continues"));
        }
    }

    /// Beats now, and runs the callbacks on this thread.
    pub(super) fn beat_now(&self) -> Result<(), HeartbeatError> {
        let mut events = Vec::new();
        let result = self.beat(&BeatKind::Manual, |event| events.push(event));
        for event in events {
            self.callbacks.run(&event);
        }
        result
    }

    fn beat(&self, kind: &BeatKind<'_>, mut notify: impl FnMut(HeartbeatEvent)) -> Result<(), HeartbeatError> {
        let local = self.local();
        let is_final = matches!(kind, BeatKind::Final(_));
        let dead = if is_final { None } else { self.check_targets(local, &mut notify) };

        let mut writer = lock(&local.writer);
        if !kind.may_write(&lock(&local.run_state)) {
            return Err(HeartbeatError::Stopped);
        }
        let details = {
            let mut details = lock(&local.details);
            details.started_at.get_or_insert_with(clock::wall);
            details.clone()
        };
        let status = if is_final { Status::Stopped } else { details.status }.with_dead_target(dead);
        let sequence = writer.sequence + 1;
        let WriterState { destination, conflicts, .. } = &mut *writer;
        let (destination, is_new) = Destination::find(destination, |host| self.file(host));
        let file = destination.file.as_ref();
        let other = file.and_then(|file| conflicts.check(file.path(), &destination.host, claimant(self), is_final));
        if is_final && other.as_ref().is_some_and(|other| other.is_certain || self.exclusive) {
            return Ok(()); // the other heartbeat has not stopped
        }
        let state = self.new_state(&destination.host, details, status, sequence);
        let written = match (file, &other) {
            (None, _) => Ok(()),
            (Some(file), Some(other)) if self.exclusive => Err(other.error(file.path())),
            (Some(file), _) => file.write(&state).map(|digest| conflicts.record_write(digest)),
        };
        if let (BeatKind::Scheduled(run), Err(error @ HeartbeatError::Taken { .. })) = (kind, &written)
            && run.fail_start(error)
        {
            return written;
        }
        if let (true, Some(file)) = (is_new, file) {
            file.sweep();
        }
        let missed_before = writer.missed;
        writer.missed = if written.is_ok() { 0 } else { missed_before + 1 };
        writer.sequence += u64::from(written.is_ok());
        drop(writer);

        if let Some(other) = other.filter(|other| other.is_new && !self.exclusive) {
            self.report_conflict(&other, &mut notify);
        }
        self.report(&written, state, missed_before, notify);
        written
    }

    fn file(&self, host: &Host) -> Option<StateFile> {
        let file = StateFile::new(self.state_file.clone()?, host);
        #[cfg(unix)]
        let file = file.with_mode(self.file_mode);
        Some(file)
    }

    fn new_state(
        &self,
        host: &Host,
        details: ServiceDetails,
        (status, degraded_by): (Status, Option<DegradedBy>),
        sequence: u64,
    ) -> HeartbeatState {
        let Host { hostname, boot_id, pid_namespace, time_namespace } = host.clone();
        HeartbeatState {
            timestamp: clock::wall(),
            pid: process::id(),
            hostname,
            metadata: details.metadata,
            sequence: Some(sequence),
            interval: Some(self.interval),
            status: Some(status),
            degraded_by,
            started_at: details.started_at,
            boot_id,
            boottime: clock::boottime(),
            pid_namespace,
            time_namespace,
        }
    }

    fn report_conflict(&self, other: &OtherWriter, notify: &mut impl FnMut(HeartbeatEvent)) {
        other.log(self.state_file.clone());
        let context = [("pid", other.pid.into()), ("hostname", other.hostname.clone().into())];
        notify(HeartbeatEvent::Alert(self.alert(format!("another heartbeat writes the same file: {other}"), context)));
    }

    fn report(
        &self,
        written: &Result<(), HeartbeatError>,
        state: HeartbeatState,
        missed_before: u64,
        mut notify: impl FnMut(HeartbeatEvent),
    ) {
        match written {
            Ok(()) => {
                if missed_before > 0 {
                    log_in_background(
                        move || tracing::info!(target: "backstay", missed = missed_before, "the heartbeat has recovered"),
                    );
                }
                let (sequence, status) = (state.sequence, state.status);
                log_in_background(move || tracing::trace!(target: "backstay", sequence, ?status, "beat"));
                notify(HeartbeatEvent::Beat(state));
            }
            Err(error) => {
                let why = error.clone();
                log_in_background(move || tracing::warn!(target: "backstay", error = %why, "missed a beat"));
                notify(HeartbeatEvent::Missed(error.clone()));
                // One alert for each outage.
                if missed_before == 0 {
                    notify(HeartbeatEvent::Alert(self.alert(format!("missed a beat: {error}"), [])));
                }
            }
        }
    }

    pub(super) fn alert<const N: usize>(&self, message: String, context: [(&str, Value); N]) -> Alert {
        let mut alert = Alert::new("heartbeat", message, context);
        if let Some(path) = &self.state_file {
            alert.context.insert("state_file".to_owned(), path.to_string_lossy().into());
        }
        alert
    }

    /// Waits until `due`, or until a beat or a stop is requested.
    fn wait(&self, due: Moment, run: &HeartbeatRun) {
        while !run.is_stop_requested() && !run.take_beat_request() {
            let now = self.clock.now();
            if now >= due {
                return;
            }
            match self.clock.source() {
                Source::Manual(manual) => {
                    manual.on_advance(Wake::this_thread());
                    // It may have been advanced before the waker was registered.
                    if manual.now() < due {
                        thread::park();
                    }
                }
                _ => thread::park_timeout(due.since(now)),
            }
        }
    }
}

impl BeatKind<'_> {
    /// Returns whether the beat may be written: none after the final one, and none for another run.
    fn may_write(&self, run_state: &RunState) -> bool {
        match (self, run_state) {
            (Self::Scheduled(own), RunState::Running(run)) | (Self::Final(own), RunState::Stopped(run)) => {
                Arc::ptr_eq(own, run)
            }
            (Self::Manual, RunState::Idle | RunState::Running(_)) => true,
            _ => false,
        }
    }
}

#[cfg(all(test, not(backstay_loom)))]
mod tests {
    use super::*;
    use crate::Heartbeat;

    // HB-4: a disk that hangs does not block the service. Delayed beats are written in order.
    #[test]
    fn a_disk_that_hangs_does_not_block_the_service() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bot.heartbeat");
        let heartbeat = Heartbeat::builder().state_file(&path).interval(Duration::from_secs(10)).build().unwrap();
        // The writer's lock is held while the file is written. Here the write hangs.
        let local = heartbeat.inner.local();
        let hanging = lock(&local.writer);
        heartbeat.start().unwrap();
        let first = local.running().unwrap();
        heartbeat.set_status(Status::Degraded);
        heartbeat.stop();
        assert!(!heartbeat.is_running());
        // A second run, while the first has not written its final beat.
        heartbeat.start().unwrap();
        let second = local.running().unwrap();
        assert!(!path.exists());

        drop(hanging);
        first.wait_for_end(Duration::from_secs(60));
        second.wait_for_first_beat(Duration::from_secs(60)).unwrap();
        let state = Heartbeat::read_state(&path).unwrap();
        let only_beat = (Some(Status::Degraded), Some(1));
        assert_eq!((state.status, state.sequence), only_beat, "the first run writes no final beat for the second");
        heartbeat.stop();
        let last = Heartbeat::read_state(&path).unwrap();
        assert_eq!((last.status, last.sequence), (Some(Status::Stopped), Some(2)));
    }
}
