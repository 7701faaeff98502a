//! State that a ping writes and the monitor reads, without a lock.
//!
//! # Memory ordering
//! [`AtomicPingState`]: `fire` stores `pending_inactivity`, then sets the error flag by a compare-and-swap (release).
//! `take_error` reads the flag (acquire) before it loads `pending_inactivity`. The inactivity is stored only while the
//! flag is clear, so a thread that sees the flag reads the value of the same firing. Pings publish nothing, and `load`
//! is relaxed.
//!
//! [`WatchdogShared`]: `run` is stored under the monitor's lock (release) and loaded without it (acquire), so that a
//! thread which sees a run also sees what `start` set up for it. All counters and times are relaxed: each is read
//! alone.

use std::cell::Cell;
use std::time::Duration;

use backstay_core::watchdog::{PingState, Tolerance};

use super::watched_file::WatchedFile;
use crate::clock::{Clock, Moment};
use crate::process::this_process;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A [`PingState`] shared between threads. Each change except `restart` is a compare-and-swap.
#[derive(Debug)]
pub(super) struct AtomicPingState {
    bits: AtomicU64,
    /// Inactivity that the pending error reports, in nanoseconds.
    pending_inactivity: AtomicU64,
}

impl AtomicPingState {
    pub(super) fn started(now: Moment) -> Self {
        Self { bits: AtomicU64::new(PingState::started(now).to_bits()), pending_inactivity: AtomicU64::new(0) }
    }

    #[inline]
    pub(super) fn load(&self) -> PingState {
        PingState::from_bits(self.bits.load(Ordering::Relaxed))
    }

    pub(super) fn restart(&self, now: Moment) {
        self.bits.store(PingState::started(now).to_bits(), Ordering::Relaxed);
    }

    /// Records a ping. Returns whether the state changed: only the first ping within a tick of the coarse clock does.
    #[inline]
    pub(super) fn ping(&self, now: Moment) -> bool {
        let mut seen = self.load();
        loop {
            let next = seen.pinged(now);
            if next == seen {
                return false;
            }
            match self.replace(seen, next) {
                Ok(()) => return true,
                Err(changed) => seen = changed,
            }
        }
    }

    /// Takes the pending error. Returns its inactivity to exactly one of several concurrent callers.
    #[cold]
    pub(super) fn take_error(&self) -> Option<Duration> {
        let mut seen = PingState::from_bits(self.bits.load(Ordering::Acquire));
        while seen.has_pending_error() {
            let inactive = self.pending_inactivity.load(Ordering::Relaxed);
            match self.replace(seen, seen.error_returned()) {
                Ok(()) => return Some(Duration::from_nanos(inactive)),
                Err(changed) => seen = changed,
            }
        }
        None
    }

    /// Fires if the state is still `seen`. Returns whether it did. Only one thread may call this at a time.
    pub(super) fn fire(&self, seen: PingState, inactive: Duration, raise: bool) -> bool {
        if raise && !seen.has_pending_error() {
            self.pending_inactivity.store(backstay_core::time::nanos(inactive), Ordering::Relaxed);
        }
        self.replace(seen, seen.fired(raise)).is_ok()
    }

    #[inline]
    fn replace(&self, seen: PingState, next: PingState) -> Result<(), PingState> {
        self.bits
            .compare_exchange(seen.to_bits(), next.to_bits(), Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
            .map_err(PingState::from_bits)
    }
}

/// The part of a watchdog that the monitor keeps alive.
///
/// It holds no user code, so the monitor may drop it anywhere.
#[derive(Debug)]
pub(super) struct WatchdogShared {
    pub(super) state: AtomicPingState,
    pings: AtomicU64,
    /// Number of pings at the last start or reset. Until another ping, `state` holds the time of that start or reset.
    pings_before: AtomicU64,
    /// The last ping before that start or reset, in nanoseconds; `u64::MAX` if there was none.
    last_before: AtomicU64,
    /// Operating system id of the thread that pinged last; 0 if unknown.
    pinger: AtomicU32,
    firings: AtomicU64,
    /// Time of the last start, in nanoseconds; `u64::MAX` if there was none.
    started: AtomicU64,
    /// The [`RunId`]. Written only under the monitor's lock.
    run: AtomicU64,
    pub(super) clock: Clock,
    pub(super) timeout: Duration,
    pub(super) raise: bool,
    /// The watched heartbeat file. Such a watchdog is not pinged by callers.
    pub(super) file: Option<WatchedFile>,
}

/// Identifies one run of a watchdog, from start to stop.
///
/// The upper half is the process, because a forked child inherits this word but not the monitor. The lower half counts
/// starts; its lowest bit is set until the run is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunId(u64);

impl RunId {
    pub(super) fn is_running(self) -> bool {
        self.0 & 1 == 1 && self.process() == u64::from(this_process())
    }

    fn process(self) -> u64 {
        self.0 >> 32
    }

    fn is_of_another_process(self) -> bool {
        self.process() != 0 && self.process() != u64::from(this_process())
    }

    pub(super) fn next(self) -> Self {
        let count = (self.0 & 0xffff_ffff).wrapping_add(2) & 0xffff_ffff;
        Self(u64::from(this_process()) << 32 | count | 1)
    }

    pub(super) fn stopped(self) -> Self {
        Self(self.0 & !1)
    }
}

impl WatchdogShared {
    pub(super) fn new(clock: Clock, timeout: Duration, raise: bool, file: Option<WatchedFile>) -> Self {
        // The first coarse reading measures the clock's tick. Do that here, not in a ping from a signal handler.
        let _ = clock.coarse();
        Self {
            state: AtomicPingState::started(clock.now()),
            pings: AtomicU64::new(0),
            pings_before: AtomicU64::new(0),
            last_before: AtomicU64::new(u64::MAX),
            pinger: AtomicU32::new(0),
            firings: AtomicU64::new(0),
            started: AtomicU64::new(u64::MAX),
            run: AtomicU64::new(0),
            clock,
            timeout,
            raise,
            file,
        }
    }

    #[inline]
    pub(super) fn ping(&self) {
        self.pings.fetch_add(1, Ordering::Relaxed);
        if self.state.ping(self.clock.coarse().earliest) {
            self.record_thread();
        }
    }

    #[inline]
    fn record_thread(&self) {
        self.pinger.store(thread_id(), Ordering::Relaxed);
    }

    pub(super) fn run(&self) -> RunId {
        RunId(self.run.load(Ordering::Acquire))
    }

    /// Sets the run. Call it only under the monitor's lock.
    pub(super) fn set_run(&self, run: RunId) {
        self.run.store(run.0, Ordering::Release);
    }

    /// Restarts the timeout now, without a pending error.
    pub(super) fn restart(&self) {
        self.restart_at(self.clock.now());
    }

    fn restart_at(&self, now: Moment) {
        self.last_before.store(self.last_ping().map_or(u64::MAX, Moment::as_nanos), Ordering::Relaxed);
        self.pings_before.store(self.pings(), Ordering::Relaxed);
        self.state.restart(now);
    }

    /// Prepares a new run, which the calling thread starts now; `before` is the run before it.
    pub(super) fn start(&self, before: RunId) {
        if let Some(file) = &self.file
            && before.is_of_another_process()
        {
            // A check that seems to be in progress was the parent's.
            file.check_in_progress.store(false, std::sync::atomic::Ordering::Release);
        }
        let now = self.clock.now();
        self.restart_at(now);
        self.started.store(now.as_nanos(), Ordering::Relaxed);
        forget_thread_id();
        self.record_thread();
    }

    pub(super) fn tolerance(&self) -> Tolerance {
        Tolerance { timeout: self.timeout, staleness: Duration::from_nanos(self.clock.coarse().staleness()) }
    }

    /// Fires if the state is still `seen`. Returns the total number of firings then.
    pub(super) fn fire(&self, seen: PingState, inactive: Duration) -> Option<u64> {
        self.state.fire(seen, inactive, self.raise).then(|| self.firings.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(super) fn inactive(&self) -> Duration {
        self.clock.now().since(self.state.load().last_ping())
    }

    pub(super) fn pings(&self) -> u64 {
        self.pings.load(Ordering::Relaxed)
    }

    /// Returns the time of the last ping, if any. A start or a reset is not a ping.
    pub(super) fn last_ping(&self) -> Option<Moment> {
        if self.pings() > self.pings_before.load(Ordering::Relaxed) {
            return Some(self.state.load().last_ping());
        }
        Some(self.last_before.load(Ordering::Relaxed)).filter(|&nanos| nanos != u64::MAX).map(Moment::from_nanos)
    }

    pub(super) fn firings(&self) -> u64 {
        self.firings.load(Ordering::Relaxed)
    }

    pub(super) fn pinger(&self) -> Option<u32> {
        Some(self.pinger.load(Ordering::Relaxed)).filter(|&id| id != 0)
    }

    pub(super) fn started(&self) -> Option<Moment> {
        Some(self.started.load(Ordering::Relaxed)).filter(|&nanos| nanos != u64::MAX).map(Moment::from_nanos)
    }
}

thread_local! {
    /// Const-initialised and without a destructor, so that a signal handler can read it without allocating.
    static THREAD_ID: Cell<u32> = const { Cell::new(0) };
}

/// Returns the operating system's id of this thread. The system call is made once per thread.
#[inline]
fn thread_id() -> u32 {
    let known = THREAD_ID.get();
    if known != 0 {
        return known;
    }
    let id = query_thread_id();
    THREAD_ID.set(id);
    id
}

/// Forgets this thread's id: in a forked child it is another one. Called by `start`, which each child has to call.
fn forget_thread_id() {
    THREAD_ID.set(0);
}

#[cfg(target_os = "linux")]
#[cold]
fn query_thread_id() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()
}

#[cfg(not(target_os = "linux"))]
fn query_thread_id() -> u32 {
    0
}

/// Returns the current name of a thread of this process.
#[cfg(target_os = "linux")]
pub(super) fn thread_name(id: u32) -> Option<String> {
    let name = std::fs::read(format!("/proc/self/task/{id}/comm")).ok()?;
    Some(String::from_utf8_lossy(&name).trim_end_matches('\n').to_owned())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn thread_name(_id: u32) -> Option<String> {
    None
}
