//! The state of a heartbeat in one process.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use backstay_core::heartbeat::{Host, Status};
use once_cell::race::OnceBox;
use serde_json::{Map, Value};

use super::conflict::ConflictDetector;
use super::file::StateFile;
use super::host;
use super::run::HeartbeatRun;
use crate::process::this_process;

/// The changing state of a heartbeat, one for each process.
///
/// In a forked child, locks of the parent may be held for ever. So the child uses none of the parent's state and starts
/// with a new one.
///
/// Locks: `writer` before `run_state` or `details`. Those two are held only to copy a value, and never together.
#[derive(Debug)]
pub(super) struct ProcessState {
    process: u32,
    pub(super) details: Mutex<ServiceDetails>,
    pub(super) run_state: Mutex<RunState>,
    /// Held while the file is written, which may hang.
    pub(super) writer: Mutex<WriterState>,
    /// For each target, whether it was dead at its last check.
    pub(super) dead: Vec<AtomicBool>,
    /// The state in a process forked from this one. It is set without a lock, because that process may fork as well.
    child: OnceBox<ProcessState>,
}

/// What each beat reports about the service.
#[derive(Clone, Debug)]
pub(super) struct ServiceDetails {
    pub(super) status: Status,
    pub(super) metadata: Map<String, Value>,
    pub(super) started_at: Option<SystemTime>,
}

#[derive(Debug)]
pub(super) enum RunState {
    /// Never started.
    Idle,
    /// Started and not stopped.
    Running(Arc<HeartbeatRun>),
    /// Stopped. The threads of the run may still be ending.
    Stopped(Arc<HeartbeatRun>),
}

/// State of the file's writer.
#[derive(Debug, Default)]
pub(super) struct WriterState {
    /// Number of beats written.
    pub(super) sequence: u64,
    /// Number of consecutive beats that were not written.
    pub(super) missed: u64,
    /// Set at the first beat. An incomplete one is looked up again at each beat.
    pub(super) destination: Option<Destination>,
    pub(super) conflicts: ConflictDetector,
}

/// The host from which, and the file to which, beats are written.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Destination {
    pub(super) host: Host,
    pub(super) file: Option<StateFile>,
}

impl Destination {
    /// Returns the destination, and whether it has changed since the last beat.
    ///
    /// A value that could not be looked up, for example because no descriptor was free, is looked up again at each beat.
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

    fn is_complete(&self) -> bool {
        let Host { boot_id, pid_namespace, time_namespace, .. } = &self.host;
        let host = [boot_id, pid_namespace, time_namespace].into_iter().all(Option::is_some);
        host && self.file.as_ref().is_none_or(StateFile::knows_its_owner)
    }
}

impl ProcessState {
    pub(super) fn new(details: ServiceDetails, targets: usize) -> Self {
        Self {
            process: this_process(),
            details: Mutex::new(details),
            run_state: Mutex::new(RunState::Idle),
            writer: Mutex::default(),
            dead: (0..targets).map(|_| AtomicBool::new(false)).collect(),
            child: OnceBox::new(),
        }
    }

    /// Returns the state of this process; `first` is that of the process which built the heartbeat.
    pub(super) fn current<'a>(first: &'a Self, built_with: &ServiceDetails) -> &'a Self {
        let process = this_process();
        let mut state = first;
        while state.process != process {
            let make = || {
                // The parent's details, unless another thread was setting them during the fork.
                let details = state.details.try_lock().map_or_else(|_| built_with.clone(), |details| details.clone());
                Box::new(Self::new(ServiceDetails { started_at: None, ..details }, state.dead.len()))
            };
            state = state.child.get_or_init(make);
        }
        state
    }

    /// Returns the run that was started and not stopped.
    pub(super) fn running(&self) -> Option<Arc<HeartbeatRun>> {
        match &*lock(&self.run_state) {
            RunState::Running(run) => Some(Arc::clone(run)),
            RunState::Idle | RunState::Stopped(_) => None,
        }
    }
}

/// Locks `mutex` and ignores poisoning: no user code runs under these locks, so their state is consistent.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
