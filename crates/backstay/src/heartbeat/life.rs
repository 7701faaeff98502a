//! What a heartbeat is in one process.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use backstay_core::heartbeat::{Host, Status};
use once_cell::race::OnceBox;
use serde_json::{Map, Value};

use super::file::StateFile;
use super::host;
use super::rival::Rivals;
use super::run::Run;
use crate::per_process::this_process;

/// What changes in a heartbeat, as one process knows it. A forked child inherits memory in which the parent's threads
/// may hold any lock for ever, so it touches none of the parent's state and begins a life of its own.
///
/// Locks: `writer` before `phase` or `details`; those two are held for a copy only and never together.
#[derive(Debug)]
pub(super) struct Life {
    process: u32,
    pub(super) details: Mutex<Details>,
    pub(super) phase: Mutex<Phase>,
    /// Held while the file is written, which on a bad day takes for ever.
    pub(super) writer: Mutex<Writer>,
    /// For each target, whether it was dead when last asked.
    pub(super) dead: Vec<AtomicBool>,
    /// The life in a process forked from this one. Set without a lock: that process may fork as well.
    child: OnceBox<Life>,
}

#[derive(Clone, Debug)]
pub(super) struct Details {
    pub(super) status: Status,
    pub(super) metadata: Map<String, Value>,
    pub(super) started_at: Option<SystemTime>,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// Never started.
    Idle,
    /// Started, and not stopped.
    Running(Arc<Run>),
    /// Stopped; that run may still be ending.
    Stopped(Arc<Run>),
}

/// What writes the file, one at a time.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) sequence: u64,
    /// How many beats in a row could not be written.
    pub(super) missed: u64,
    /// Found out at the first beat, or a later one where that could not.
    pub(super) place: Option<Place>,
    pub(super) rivals: Rivals,
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Place {
    pub(super) host: Host,
    pub(super) file: Option<StateFile>,
}

impl Place {
    /// The place, and whether it is another than at the beat before. What could not be found out (no descriptor was
    /// free, perhaps) is looked for again at each beat.
    pub(super) fn find(known: &mut Option<Self>, file: impl FnOnce(&Host) -> Option<StateFile>) -> (&Self, bool) {
        let is_new = !known.as_ref().is_some_and(Self::is_complete) && {
            let host = host::here();
            let found = Some(Self { file: file(&host), host });
            let differs = *known != found;
            *known = found;
            differs
        };
        (known.get_or_insert_default(), is_new)
    }

    /// Whether all was found out that can be.
    fn is_complete(&self) -> bool {
        let Host { boot_id, pid_namespace, time_namespace, .. } = &self.host;
        let host = [boot_id, pid_namespace, time_namespace].into_iter().all(Option::is_some);
        host && self.file.as_ref().is_none_or(StateFile::knows_its_writer)
    }
}

impl Life {
    pub(super) fn new(details: Details, targets: usize) -> Self {
        Self {
            process: this_process(),
            details: Mutex::new(details),
            phase: Mutex::new(Phase::Idle),
            writer: Mutex::default(),
            dead: (0..targets).map(|_| AtomicBool::new(false)).collect(),
            child: OnceBox::new(),
        }
    }

    /// The life in this process; `first` is the one in the process that built the heartbeat.
    pub(super) fn here<'a>(first: &'a Life, built_with: &Details) -> &'a Self {
        let process = this_process();
        let mut life = first;
        while life.process != process {
            let born = || {
                // What the parent had set, unless it was being set in the instant of the fork.
                let details = life.details.try_lock().map_or_else(|_| built_with.clone(), |details| details.clone());
                Box::new(Self::new(Details { started_at: None, ..details }, life.dead.len()))
            };
            life = life.child.get_or_init(born);
        }
        life
    }

    /// What is between `start` and `stop`, if anything is.
    pub(super) fn running(&self) -> Option<Arc<Run>> {
        match &*lock(&self.phase) {
            Phase::Running(run) => Some(Arc::clone(run)),
            Phase::Idle | Phase::Stopped(_) => None,
        }
    }
}

/// No foreign code runs under our locks, so a poisoned one holds nothing that is half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
