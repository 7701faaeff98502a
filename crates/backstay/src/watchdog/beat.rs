//! What a ping writes and the monitor reads: a few words, no lock.

use std::cell::Cell;
use std::time::Duration;

use backstay_core::watchdog::{Patience, Pulse};

use super::state_file::StateFile;
use crate::clock::{Clock, Moment};
use crate::per_process::this_process;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The pulse as threads share it. All that can happen to it is one step of [`Pulse`], by compare-and-swap.
#[derive(Debug)]
pub(super) struct SharedPulse {
    word: AtomicU64,
    /// The inactivity, in nanoseconds, of the firing that is owed. Written before the word says that something is
    /// owed, and only while it does not: so whoever sees it owed reads the right one.
    owed: AtomicU64,
}

impl SharedPulse {
    pub(super) fn started(now: Moment) -> Self {
        Self { word: AtomicU64::new(Pulse::started(now).to_bits()), owed: AtomicU64::new(0) }
    }

    #[inline]
    pub(super) fn load(&self) -> Pulse {
        Pulse::from_bits(self.word.load(Ordering::Relaxed))
    }

    pub(super) fn restart(&self, now: Moment) {
        self.word.store(Pulse::started(now).to_bits(), Ordering::Relaxed);
    }

    /// Whether the ping said something new: within one tick of the coarse clock only the first does.
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

    /// Takes what is owed. Of all who try, one gets it.
    #[cold]
    pub(super) fn take(&self) -> Option<Duration> {
        let mut seen = Pulse::from_bits(self.word.load(Ordering::Acquire));
        while seen.is_owed() {
            let inactive = self.owed.load(Ordering::Relaxed);
            match self.replace(seen, seen.raised()) {
                Ok(()) => return Some(Duration::from_nanos(inactive)),
                Err(changed) => seen = changed,
            }
        }
        None
    }

    /// Fires, unless something happened to the pulse since it was `seen`. Only one thread at a time may fire a pulse.
    pub(super) fn fire(&self, seen: Pulse, inactive: Duration, raise: bool) -> bool {
        if raise && !seen.is_owed() {
            self.owed.store(backstay_core::time::nanos(inactive), Ordering::Relaxed);
        }
        self.replace(seen, seen.fired(raise)).is_ok()
    }

    #[inline]
    fn replace(&self, seen: Pulse, next: Pulse) -> Result<(), Pulse> {
        // Release for `owed`, which the firing wrote before; a ping has nothing to publish and pays nothing for it.
        self.word
            .compare_exchange(seen.to_bits(), next.to_bits(), Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
            .map_err(Pulse::from_bits)
    }
}

/// The part of a watchdog that the monitor holds on to. Nothing foreign is in it, so that it may be dropped anywhere.
#[derive(Debug)]
pub(super) struct Beat {
    pub(super) pulse: SharedPulse,
    pings: AtomicU64,
    /// How many pings there were when it was last started or reset: the pulse then shows that moment, which is no ping.
    pings_before: AtomicU64,
    /// The last ping before that moment, in nanoseconds; `u64::MAX`: none.
    last_before: AtomicU64,
    /// The operating system's id of the thread that pinged last, or 0.
    pinger: AtomicU32,
    firings: AtomicU64,
    /// In nanoseconds.
    started: AtomicU64,
    run: AtomicU64,
    pub(super) clock: Clock,
    pub(super) timeout: Duration,
    pub(super) raise: bool,
    /// The heartbeat file, where that is watched and nobody pings.
    pub(super) file: Option<StateFile>,
}

/// One start of a watchdog: the process, how many starts there were before, and whether it still goes on.
///
/// The process is in it because a forked child inherits the word and not the monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run(u64);

impl Run {
    pub(super) fn is_on(self) -> bool {
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

    pub(super) fn ended(self) -> Self {
        Self(self.0 & !1)
    }
}

impl Beat {
    pub(super) fn new(clock: Clock, timeout: Duration, raise: bool, file: Option<StateFile>) -> Self {
        // The first coarse reading ever finds out how long a tick is: better here than in a signal handler's ping.
        let _ = clock.coarse();
        Self {
            pulse: SharedPulse::started(clock.now()),
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
        if self.pulse.ping(self.clock.coarse().earliest) {
            self.note_thread();
        }
    }

    #[inline]
    fn note_thread(&self) {
        self.pinger.store(thread_id(), Ordering::Relaxed);
    }

    pub(super) fn run(&self) -> Run {
        Run(self.run.load(Ordering::Acquire))
    }

    /// Only under the monitor's lock.
    pub(super) fn set_run(&self, run: Run) {
        self.run.store(run.0, Ordering::Release);
    }

    /// Watching from now on, and owing nothing.
    pub(super) fn restart(&self) {
        self.restart_at(self.clock.now());
    }

    fn restart_at(&self, now: Moment) {
        self.last_before.store(self.last_ping().map_or(u64::MAX, Moment::as_nanos), Ordering::Relaxed);
        self.pings_before.store(self.pings(), Ordering::Relaxed);
        self.pulse.restart(now);
    }

    /// Watching from now on, as a new run of the calling thread.
    pub(super) fn start(&self, before: Run) {
        if let Some(file) = &self.file
            && before.is_of_another_process()
        {
            // Whoever was looking did so in the parent.
            file.looking.store(false, std::sync::atomic::Ordering::Release);
        }
        let now = self.clock.now();
        self.restart_at(now);
        self.started.store(now.as_nanos(), Ordering::Relaxed);
        forget_thread_id();
        self.note_thread();
    }

    pub(super) fn patience(&self) -> Patience {
        Patience { timeout: self.timeout, staleness: Duration::from_nanos(self.clock.coarse().staleness()) }
    }

    /// Fires if nobody has pinged since it was `seen`; the count of firings then.
    pub(super) fn fire(&self, seen: Pulse, inactive: Duration) -> Option<u64> {
        self.pulse.fire(seen, inactive, self.raise).then(|| self.firings.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(super) fn inactive(&self) -> Duration {
        self.clock.now().since(self.pulse.load().last_ping())
    }

    pub(super) fn pings(&self) -> u64 {
        self.pings.load(Ordering::Relaxed)
    }

    /// When the last ping came, if one did; a start or a reset is none.
    pub(super) fn last_ping(&self) -> Option<Moment> {
        if self.pings() > self.pings_before.load(Ordering::Relaxed) {
            return Some(self.pulse.load().last_ping());
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
    /// Constant and without a destructor: reading it from a signal handler neither allocates nor registers anything.
    static THREAD_ID: Cell<u32> = const { Cell::new(0) };
}

/// The operating system's id of this thread. A thread asks for it once in its life.
#[inline]
fn thread_id() -> u32 {
    let known = THREAD_ID.get();
    if known != 0 {
        return known;
    }
    let id = ask_thread_id();
    THREAD_ID.set(id);
    id
}

/// The thread that forked has another id in the child, where whatever shall run is started again.
fn forget_thread_id() {
    THREAD_ID.set(0);
}

#[cfg(target_os = "linux")]
#[cold]
fn ask_thread_id() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()
}

#[cfg(not(target_os = "linux"))]
fn ask_thread_id() -> u32 {
    0
}

/// The name that a thread of this process has now.
#[cfg(target_os = "linux")]
pub(super) fn thread_name(id: u32) -> Option<String> {
    let name = std::fs::read(format!("/proc/self/task/{id}/comm")).ok()?;
    Some(String::from_utf8_lossy(&name).trim_end_matches('\n').to_owned())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn thread_name(_id: u32) -> Option<String> {
    None
}
