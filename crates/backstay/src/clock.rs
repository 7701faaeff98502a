//! Clocks: the only module that reads the operating system's clocks.
//!
//! A component holds a [`Clock`] and reads a [`Moment`] from it or, where some uncertainty is acceptable, a
//! [`Reading`]: accurate to milliseconds at a fifth of the cost, or to microseconds at half the cost. Tests use a
//! [`ManualClock`].
//!
//! # Memory ordering
//! [`ManualClock`] is for tests and sequentially consistent throughout. The staleness of the coarse clock is relaxed:
//! each thread may compute it again.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod counter;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backstay_core::time::nanos;
pub use backstay_core::time::{Moment, Reading};

use crate::sync::{Mutex, Wake};

/// The source of a component's time. The default is the system's monotonic clock.
///
/// ```
/// use backstay::clock::{Clock, ManualClock};
/// use std::time::Duration;
///
/// let manual = ManualClock::new();
/// let clock = Clock::from(&manual);
/// let before = clock.now();
/// manual.advance(Duration::from_secs(5));
/// assert_eq!(clock.now().since(before), Duration::from_secs(5));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Clock(
    /// `None` is the system's clock, which nearly every component has, so a component needs only one word for it.
    Option<Box<Source>>,
);

#[derive(Clone, Debug)]
pub(crate) enum Source {
    System,
    Manual(ManualClock),
    #[cfg(feature = "tokio")]
    Tokio(tokio::time::Instant),
}

impl Clock {
    /// Returns the system's monotonic clock, the default of every builder.
    #[must_use]
    pub const fn system() -> Self {
        Self(None)
    }

    /// Returns tokio's clock, which `tokio::time::advance` controls in tests.
    ///
    /// # Panics
    /// Only if tokio's `Instant::now` panics: with the feature `test-util`, outside of a runtime, after a paused
    /// runtime was dropped.
    #[cfg(feature = "tokio")]
    #[must_use]
    pub fn tokio() -> Self {
        Self(Some(Box::new(Source::Tokio(tokio::time::Instant::now()))))
    }

    /// Returns the exact time.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Moment {
        match self.source() {
            Source::System => system::now(),
            Source::Manual(clock) => clock.now(),
            #[cfg(feature = "tokio")]
            Source::Tokio(origin) => Moment::from_nanos(nanos(origin.elapsed())),
        }
    }

    /// Returns the time at the lowest cost.
    ///
    /// It is never ahead of [`now`](Self::now), and behind it by a few ticks at most.
    #[inline]
    #[must_use]
    pub fn coarse(&self) -> Reading {
        // The other clocks are out of line, so that the hot paths stay small.
        if self.0.is_none() { system::coarse() } else { self.other_coarse() }
    }

    /// Returns the time to within microseconds, at half the cost of [`now`](Self::now).
    ///
    /// This requires that the thread reads it at least every few milliseconds, and that Linux keeps time by the
    /// processor's `tsc` (x86-64). Otherwise the reading is exact.
    #[inline]
    #[must_use]
    pub fn fine(&self) -> Reading {
        if self.0.is_none() { counter::read(system::now) } else { Reading::exact(self.now()) }
    }

    /// Returns the exact time, from which later [`fine`](Self::fine) readings of this thread continue.
    pub(crate) fn anchor(&self) -> Moment {
        if self.0.is_none() { counter::anchor(system::now) } else { self.now() }
    }

    /// Finds out what [`fine`](Self::fine) needs to know about the machine. May read a file.
    pub(crate) fn prepare(&self) {
        if self.0.is_none() {
            counter::prepare();
        }
    }

    #[cold]
    fn other_coarse(&self) -> Reading {
        match self.source() {
            Source::System => system::coarse(),
            Source::Manual(clock) => Reading::stale(clock.coarse(), clock.staleness()),
            #[cfg(feature = "tokio")]
            Source::Tokio(_) => Reading::exact(self.now()),
        }
    }

    /// Parks the calling thread until it is woken ([`Wake::this_thread`]) or `moment` has come.
    ///
    /// May return early, like every park. With tokio's clock outside of a runtime, the system's time counts.
    pub(crate) fn park_until(&self, moment: Moment) {
        if moment == Moment::NEVER {
            return crate::sync::park();
        }
        let left = moment.since(self.now());
        match self.source() {
            Source::System => std::thread::park_timeout(left),
            Source::Manual(clock) => {
                clock.on_advance(Wake::this_thread());
                if clock.now() < moment {
                    crate::sync::park();
                }
            }
            #[cfg(feature = "tokio")]
            Source::Tokio(_) => match tokio::runtime::Handle::try_current() {
                Ok(runtime) => {
                    // Wakes also when the runtime is dropped together with its timer.
                    let alarm = WakeOnDrop(Some(Wake::this_thread()));
                    let timer = runtime.spawn(async move {
                        let _alarm = alarm;
                        tokio::time::sleep(left).await;
                    });
                    crate::sync::park();
                    timer.abort();
                }
                Err(_) => std::thread::park_timeout(left),
            },
        }
    }

    #[inline]
    pub(crate) fn source(&self) -> &Source {
        static SYSTEM: Source = Source::System;
        self.0.as_deref().unwrap_or(&SYSTEM)
    }
}

#[cfg(feature = "tokio")]
struct WakeOnDrop(Option<Wake>);

#[cfg(feature = "tokio")]
impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        if let Some(wake) = self.0.take() {
            wake.wake();
        }
    }
}

/// A clock for tests that moves only when it is advanced.
///
/// Clones share one time. [`advance`](Self::advance) wakes the threads and tasks that wait on the clock.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<Manual>);

#[derive(Debug, Default)]
struct Manual {
    now: AtomicU64,
    /// How far coarse readings are behind, to test stale readings.
    lag: AtomicU64,
    staleness: AtomicU64,
    sleepers: Mutex<Vec<Wake>>,
}

impl ManualClock {
    /// Creates a clock at [`Moment::ORIGIN`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a clock with coarse readings of the given staleness.
    ///
    /// [`lag`](Self::lag) sets how far they are behind.
    #[must_use]
    pub fn with_staleness(staleness: Duration) -> Self {
        let clock = Self::default();
        clock.0.staleness.store(nanos(staleness), Ordering::SeqCst);
        clock
    }

    /// Advances the time by `duration`, and wakes all that waits on this clock.
    pub fn advance(&self, duration: Duration) {
        let later = self.now() + duration;
        self.0.now.store(later.as_nanos(), Ordering::SeqCst);
        let sleepers = std::mem::take(&mut *self.0.sleepers.lock());
        for sleeper in sleepers {
            sleeper.wake();
        }
    }

    /// Sets how far coarse readings are behind, up to the clock's staleness.
    pub fn lag(&self, behind: Duration) {
        self.0.lag.store(nanos(behind.min(self.staleness())), Ordering::SeqCst);
    }

    /// Returns the clock's time.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment::from_nanos(self.0.now.load(Ordering::SeqCst))
    }

    fn coarse(&self) -> Moment {
        Moment::from_nanos(self.now().as_nanos().saturating_sub(self.0.lag.load(Ordering::SeqCst)))
    }

    fn staleness(&self) -> Duration {
        Duration::from_nanos(self.0.staleness.load(Ordering::SeqCst))
    }

    /// Registers `wake` for the next [`advance`](Self::advance).
    pub(crate) fn on_advance(&self, wake: Wake) {
        self.0.sleepers.lock().push(wake);
    }
}

impl From<&ManualClock> for Clock {
    fn from(clock: &ManualClock) -> Self {
        Self(Some(Box::new(Source::Manual(clock.clone()))))
    }
}

/// Returns the wall clock's time, for time stamps only; it is never used to measure time.
#[allow(clippy::disallowed_methods)]
pub(crate) fn wall() -> std::time::SystemTime {
    std::time::SystemTime::now()
}

/// Returns the time since the machine booted, including suspend, if the system provides it. Comparable between
/// processes.
#[cfg(target_os = "linux")]
pub(crate) fn boottime() -> Option<Duration> {
    use rustix::time::{ClockId, clock_gettime};

    let time = clock_gettime(ClockId::Boottime);
    Some(Duration::new(time.tv_sec.try_into().ok()?, time.tv_nsec.try_into().ok()?))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn boottime() -> Option<Duration> {
    None
}

#[cfg(target_os = "linux")]
mod system {
    use super::{Moment, Reading};
    use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};
    use std::sync::atomic::{AtomicU64, Ordering};

    /// How many ticks a coarse reading may be behind. The kernel promises one; a virtual processor that is paused
    /// delays its tick, and granting too many tokens is worse than sometimes reading the exact clock.
    const TICKS: u64 = 4;

    #[inline]
    pub(super) fn now() -> Moment {
        moment(clock_gettime(ClockId::Monotonic))
    }

    #[inline]
    pub(super) fn coarse() -> Reading {
        let earliest = moment(clock_gettime(ClockId::MonotonicCoarse));
        Reading::behind(earliest, staleness())
    }

    /// In nanoseconds; computed once, because it is on every hot path.
    #[inline]
    fn staleness() -> u64 {
        match STALENESS.load(Ordering::Relaxed) {
            0 => measured_staleness(),
            known => known,
        }
    }

    static STALENESS: AtomicU64 = AtomicU64::new(0);

    #[cold]
    fn measured_staleness() -> u64 {
        let tick = moment(clock_getres(ClockId::MonotonicCoarse));
        let staleness = tick.as_nanos().saturating_mul(TICKS);
        STALENESS.store(staleness, Ordering::Relaxed);
        staleness
    }

    /// The monotonic clock starts at boot: neither field is negative, and 64 bits of nanoseconds suffice.
    #[inline]
    #[allow(clippy::cast_sign_loss)]
    fn moment(time: Timespec) -> Moment {
        Moment::from_nanos((time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::{Moment, Reading, nanos};
    use std::sync::OnceLock;
    use std::time::Instant;

    #[allow(clippy::disallowed_methods)]
    pub(super) fn now() -> Moment {
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        Moment::from_nanos(nanos(ORIGIN.get_or_init(Instant::now).elapsed()))
    }

    pub(super) fn coarse() -> Reading {
        Reading::exact(now())
    }
}

/// Without a counter, fine readings are exact.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
mod counter {
    use super::{Moment, Reading};

    pub(super) fn read(now: impl Fn() -> Moment) -> Reading {
        Reading::exact(now())
    }

    pub(super) fn anchor(now: impl Fn() -> Moment) -> Moment {
        now()
    }

    pub(super) fn prepare() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarse_clock_is_never_ahead_of_the_exact_one() {
        let clock = Clock::system();
        for _ in 0..100_000 {
            let coarse = clock.coarse();
            assert!(coarse.earliest <= clock.now());
        }
    }

    #[test]
    fn a_manual_clock_lags_as_set_and_reports_it() {
        let manual = ManualClock::with_staleness(Duration::from_millis(8));
        manual.advance(Duration::from_secs(1));
        manual.lag(Duration::from_secs(9));
        let reading = Clock::from(&manual).coarse();
        assert_eq!(manual.now().since(reading.earliest), Duration::from_millis(8));
        assert_eq!(reading.latest(), manual.now());
    }
}
