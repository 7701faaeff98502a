//! Beating: on a thread of its own, or by hand.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::{mem, process, thread};

use backstay_core::heartbeat::{DegradedBy, Host, Schedule, Status};
use backstay_core::time::Moment;
use serde_json::Value;

use super::callbacks::{Callbacks, Event, Inside, Outbox, TargetDeath, serve};
use super::file::StateFile;
use super::life::{Details, Life, Phase, Place, Writer, lock};
use super::rival::{Claim, claimant};
use super::run::Run;
use super::target::Followed;
use super::{HeartbeatError, HeartbeatState};
use crate::alert::Alert;
use crate::callback::caught;
use crate::clock::{self, Clock, Source};
use crate::log::log_in_background;
use crate::sync::Wake;
use crate::threads;

/// How long `start` waits for the file to be there. Longer on a bad disk than anyone should wait, shorter than forever.
const START_WAIT: Duration = Duration::from_secs(2);
/// How long `stop` waits for the farewell to be written and for callbacks to end.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// What a heartbeat was built with, and its lives.
pub(super) struct Beating {
    pub(super) state_file: Option<PathBuf>,
    #[cfg(unix)]
    pub(super) file_mode: u32,
    pub(super) interval: Duration,
    pub(super) clock: Clock,
    pub(super) exclusive: bool,
    pub(super) targets: Vec<Followed>,
    pub(super) callbacks: Callbacks,
    pub(super) built_with: Details,
    pub(super) first_life: Life,
}

/// On whose behalf the file is written; decides whether it still may be.
enum Hand<'a> {
    /// The run's own beat.
    Run(&'a Arc<Run>),
    /// The run's last word.
    Farewell(&'a Arc<Run>),
    /// `beat` was called.
    Caller,
}

impl Beating {
    pub(super) fn life(&self) -> &Life {
        Life::here(&self.first_life, &self.built_with)
    }

    pub(super) fn start(self: &Arc<Self>) -> Result<(), HeartbeatError> {
        let life = self.life();
        let run = Arc::new(Run::default());
        let before;
        {
            let mut phase = lock(&life.phase);
            if matches!(*phase, Phase::Running(_)) {
                return Err(HeartbeatError::AlreadyRunning);
            }
            self.spawn(&run).map_err(|error| HeartbeatError::NoThread(Arc::new(error)))?;
            before = mem::replace(&mut *phase, Phase::Running(Arc::clone(&run)));
        }
        let started = run.wait_for_first_beat(START_WAIT);
        if started.is_err() {
            run.wait_for_end(STOP_WAIT);
            let mut phase = lock(&life.phase);
            if matches!(&*phase, Phase::Running(current) if Arc::ptr_eq(current, &run)) {
                *phase = before;
            }
        }
        started
    }

    /// The threads find the phase locked until it is theirs.
    fn spawn(self: &Arc<Self>, run: &Arc<Run>) -> std::io::Result<()> {
        let mut outbox = None;
        if self.callbacks.is_empty() {
            run.no_callbacks();
        } else {
            let (to, inbox) = Outbox::new();
            outbox = Some(to);
            let (this, run) = (Arc::clone(self), Arc::clone(run));
            threads::named("heartbeat-calls").spawn(move || {
                let _here = run.call_back_here();
                serve(&this.callbacks, &inbox, &run.beat_waiting);
            })?;
        }
        let (this, run) = (Arc::clone(self), Arc::clone(run));
        threads::named("heartbeat").spawn(move || {
            let _here = run.beat_here();
            // Dropped first: the callbacks end when the beats have.
            let outbox = outbox;
            this.beat_until_stopped(&run, outbox.as_ref());
        })?;
        Ok(())
    }

    pub(super) fn stop(&self) {
        if let Some(run) = self.stop_soon() {
            run.wait_for_end(STOP_WAIT);
        }
    }

    /// The run that ends, where there was one.
    pub(super) fn stop_soon(&self) -> Option<Arc<Run>> {
        let life = self.life();
        let run = {
            let mut phase = lock(&life.phase);
            let run = match &*phase {
                Phase::Idle => return None,
                Phase::Running(run) | Phase::Stopped(run) => Arc::clone(run),
            };
            *phase = Phase::Stopped(Arc::clone(&run));
            run
        };
        run.ask_to_stop();
        Some(run)
    }

    fn beat_until_stopped(&self, run: &Arc<Run>, outbox: Option<&Outbox>) {
        lock(&self.life().details).started_at = Some(clock::wall());
        let _claim = self.state_file.as_ref().map(|path| Claim::new(claimant(self), path));
        let schedule = Schedule::new(self.clock.now(), self.interval);
        while !run.is_asked_to_stop() {
            let due_after = self.clock.now();
            self.beat_and_tell(&Hand::Run(run), |event| {
                if let Some(outbox) = outbox {
                    outbox.send(event, &run.beat_waiting);
                }
            });
            if run.is_refused() {
                return; // without a farewell: the file is another's
            }
            run.first_beat_made();
            self.wait(schedule.next(due_after), run);
        }
        self.beat_and_tell(&Hand::Farewell(run), |_| {});
    }

    /// A beat on the heartbeat's own thread: nothing foreign (a target, a log subscriber) may end that.
    fn beat_and_tell(&self, hand: &Hand<'_>, tell: impl FnMut(Event)) {
        if let Err(panic) = caught(|| self.beat(hand, tell)) {
            log_in_background(move || tracing::error!(target: "backstay", panic, "a heartbeat panicked; it goes on"));
        }
    }

    pub(super) fn beat_by_hand(&self) -> Result<(), HeartbeatError> {
        let mut events = Vec::new();
        let result = self.beat(&Hand::Caller, |event| events.push(event));
        for event in events {
            self.callbacks.run(&event);
        }
        result
    }

    fn beat(&self, hand: &Hand<'_>, mut tell: impl FnMut(Event)) -> Result<(), HeartbeatError> {
        let life = self.life();
        let farewell = matches!(hand, Hand::Farewell(_));
        let dead = if farewell { None } else { self.look_at_targets(life, &mut tell) };

        let mut writer = lock(&life.writer);
        if !hand.may_write(&lock(&life.phase)) {
            return Err(HeartbeatError::Stopped);
        }
        let details = {
            let mut details = lock(&life.details);
            details.started_at.get_or_insert_with(clock::wall);
            details.clone()
        };
        let status = if farewell { Status::Stopped } else { details.status }.with_dead_target(dead);
        let sequence = writer.sequence + 1;
        let Writer { place, rivals, .. } = &mut *writer;
        let (place, is_new) = Place::find(place, |host| self.file(host));
        let rival =
            place.file.as_ref().and_then(|file| rivals.look(file.path(), &place.host, claimant(self), farewell));
        if farewell && rival.as_ref().is_some_and(|rival| rival.is_certain || self.exclusive) {
            return Ok(()); // that one has not stopped
        }
        let state = self.state(place, details, status, sequence);
        let written = match (&place.file, &rival) {
            (None, _) => Ok(()),
            (Some(file), Some(rival)) if self.exclusive => Err(rival.error(file.path())),
            (Some(file), _) => file.write(&state).map(|digest| rivals.wrote(digest)),
        };
        if let (Hand::Run(run), Err(error @ HeartbeatError::Taken { .. })) = (hand, &written)
            && run.refuse(error)
        {
            return written;
        }
        if let (true, Some(file)) = (is_new, &place.file) {
            file.sweep();
        }
        let missed_before = writer.missed;
        writer.missed = if written.is_ok() { 0 } else { missed_before + 1 };
        writer.sequence += u64::from(written.is_ok());
        drop(writer);

        if let Some(rival) = rival.filter(|rival| rival.is_new && !self.exclusive) {
            rival.log(self.state_file.clone());
            let context = [("pid", rival.pid.into()), ("hostname", rival.hostname.clone().into())];
            tell(Event::Alert(self.alert(format!("another heartbeat writes the same file: {rival}"), context)));
        }
        self.report(&written, state, missed_before, tell);
        written
    }

    fn file(&self, host: &Host) -> Option<StateFile> {
        let file = StateFile::new(self.state_file.clone()?, host);
        #[cfg(unix)]
        let file = file.with_mode(self.file_mode);
        Some(file)
    }

    fn state(
        &self,
        place: &Place,
        details: Details,
        status: (Status, Option<DegradedBy>),
        sequence: u64,
    ) -> HeartbeatState {
        let (status, degraded_by) = status;
        let Host { hostname, boot_id, pid_namespace, time_namespace } = place.host.clone();
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

    /// The worst cause among the dead ones. One that panics is what it was when it last answered, as all are for a beat
    /// that a target makes while it is asked.
    fn look_at_targets(&self, life: &Life, tell: &mut impl FnMut(Event)) -> Option<DegradedBy> {
        if let Some(_asking) = Inside::asking() {
            self.ask_targets(life, tell);
        }
        let targets = self.targets.iter().zip(&life.dead);
        targets.filter(|(_, dead)| dead.load(Ordering::Acquire)).map(|(followed, _)| followed.cause).max()
    }

    fn ask_targets(&self, life: &Life, tell: &mut impl FnMut(Event)) {
        for (Followed { target, .. }, was_dead) in self.targets.iter().zip(&life.dead) {
            let before = was_dead.load(Ordering::Acquire);
            let dead = caught(|| target.is_dead()).unwrap_or_else(|panic| {
                log_in_background(
                    move || tracing::error!(target: "backstay", panic, "a heartbeat's target panicked when asked"),
                );
                before
            });
            if was_dead.swap(dead, Ordering::AcqRel) == dead {
                continue;
            }
            let name = caught(|| target.name()).ok().flatten();
            if dead {
                let target = name.clone();
                log_in_background(
                    move || tracing::warn!(target: "backstay", name = target, "a heartbeat's target is dead"),
                );
                let message = match &name {
                    Some(name) => format!("target {name:?} is dead"),
                    None => "a target is dead".to_owned(),
                };
                tell(Event::TargetDead(TargetDeath { name: name.clone() }));
                tell(Event::Alert(self.alert(message, [("target", name.into())])));
            } else {
                log_in_background(
                    move || tracing::info!(target: "backstay", name, "a heartbeat's target is alive again"),
                );
            }
        }
    }

    fn report(
        &self,
        written: &Result<(), HeartbeatError>,
        state: HeartbeatState,
        missed_before: u64,
        mut tell: impl FnMut(Event),
    ) {
        match written {
            Ok(()) => {
                if missed_before > 0 {
                    log_in_background(
                        move || tracing::info!(target: "backstay", missed = missed_before, "the heartbeat is written again"),
                    );
                }
                let (sequence, status) = (state.sequence, state.status);
                log_in_background(move || tracing::trace!(target: "backstay", sequence, ?status, "beat"));
                tell(Event::Beat(state));
            }
            Err(error) => {
                let why = error.clone();
                log_in_background(move || tracing::warn!(target: "backstay", error = %why, "missed a beat"));
                tell(Event::Missed(error.clone()));
                // Once an outage: it is for people.
                if missed_before == 0 {
                    tell(Event::Alert(self.alert(format!("missed a beat: {error}"), [])));
                }
            }
        }
    }

    fn alert<const N: usize>(&self, message: String, context: [(&str, Value); N]) -> Alert {
        let mut alert = Alert::new("heartbeat", message, context);
        if let Some(path) = &self.state_file {
            alert.context.insert("state_file".to_owned(), path.to_string_lossy().into());
        }
        alert
    }

    /// Until `due`, or until somebody asks for a beat or the end.
    fn wait(&self, due: Moment, run: &Run) {
        while !run.is_asked_to_stop() && !run.take_request() {
            let now = self.clock.now();
            if now >= due {
                return;
            }
            match self.clock.source() {
                Source::Manual(hand) => {
                    hand.on_advance(Wake::this_thread());
                    // It may have been advanced before it knew of us.
                    if hand.now() < due {
                        thread::park();
                    }
                }
                _ => thread::park_timeout(due.since(now)),
            }
        }
    }
}

impl Hand<'_> {
    /// Nothing follows a farewell, and no run says it for another.
    fn may_write(&self, phase: &Phase) -> bool {
        match (self, phase) {
            (Self::Run(mine), Phase::Running(run)) | (Self::Farewell(mine), Phase::Stopped(run)) => {
                Arc::ptr_eq(mine, run)
            }
            (Self::Caller, Phase::Idle | Phase::Running(_)) => true,
            _ => false,
        }
    }
}

#[cfg(all(test, not(backstay_loom)))]
mod tests {
    use super::*;
    use crate::Heartbeat;

    // HB-4: a disk that hangs blocks nobody, and what it held up comes out in order.
    #[test]
    fn a_disk_that_hangs_does_not_hang_the_service() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bot.heartbeat");
        let heartbeat = Heartbeat::builder().state_file(&path).interval(Duration::from_secs(10)).build().unwrap();
        // Whoever writes holds this; here nobody ever ends writing.
        let life = heartbeat.beating().life();
        let hanging = lock(&life.writer);
        heartbeat.start().unwrap();
        let first = life.running().unwrap();
        heartbeat.set_status(Status::Degraded);
        heartbeat.stop();
        assert!(!heartbeat.is_running());
        // Again, while the first run still wants to say its farewell.
        heartbeat.start().unwrap();
        let second = life.running().unwrap();
        assert!(!path.exists());

        drop(hanging);
        first.wait_for_end(Duration::from_secs(60));
        second.wait_for_first_beat(Duration::from_secs(60)).unwrap();
        let state = Heartbeat::read_state(&path).unwrap();
        let only_beat = (Some(Status::Degraded), Some(1));
        assert_eq!((state.status, state.sequence), only_beat, "the first run's farewell is not said for the second");
        heartbeat.stop();
        let farewell = Heartbeat::read_state(&path).unwrap();
        assert_eq!((farewell.status, farewell.sequence), (Some(Status::Stopped), Some(2)));
    }
}
