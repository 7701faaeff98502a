//! The only place that reads the operating system's clocks.
//!
//! A handle holds a [`Clock`] and asks it for a [`Moment`] or, where some uncertainty can be tolerated, for a
//! [`Reading`]: milliseconds at a fifth of the price, or microseconds at half of it. Tests hold the clock in their hand:
//! [`ManualClock`].

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod counter;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backstay_core::time::nanos;
pub use backstay_core::time::{Moment, Reading};

use crate::sync::{Mutex, Wake};

/// Where a component takes its time from. The default is the system's monotonic clock.
///
/// ```
/// use backstay::clock::{Clock, ManualClock};
/// use std::time::Duration;
///
/// let hand = ManualClock::new();
/// let clock = Clock::from(&hand);
/// let before = clock.now();
/// hand.advance(Duration::from_secs(5));
/// assert_eq!(clock.now().since(before), Duration::from_secs(5));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Clock(
    /// None: the system's, which nearly every component has. So a handle needs one word for it.
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
    /// The system's monotonic clock; what every builder takes by default.
    #[must_use]
    pub const fn system() -> Self {
        Self(None)
    }

    /// Tokio's clock, so that `#[tokio::test(start_paused = true)]` and `tokio::time::advance` hold for the component.
    ///
    /// # Panics
    /// Reading it outside a tokio runtime with time enabled panics only where tokio's own `Instant::now` does: with
    /// the feature `test-util` on a paused runtime that has gone.
    #[cfg(feature = "tokio")]
    #[must_use]
    pub fn tokio() -> Self {
        Self(Some(Box::new(Source::Tokio(tokio::time::Instant::now()))))
    }

    /// The time, exactly.
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

    /// The time as far as it is to be had cheaply: never ahead of [`now`](Self::now), behind it by a few ticks at most.
    #[inline]
    #[must_use]
    pub fn coarse(&self) -> Reading {
        // The other clocks out of line, so that the hot paths stay small.
        if self.0.is_none() { system::coarse() } else { self.coarse_of_others() }
    }

    /// The time to within microseconds, at half the price of [`now`](Self::now) where the thread asks at least every few
    /// milliseconds and the system keeps time by a counter that programs can read (Linux's `tsc`, on x86-64). Elsewhere
    /// exactly.
    #[inline]
    #[must_use]
    pub fn fine(&self) -> Reading {
        if self.0.is_none() { counter::read(system::now) } else { Reading::exact(self.now()) }
    }

    /// The time, exactly, for those who will ask for [`fine`](Self::fine) readings after it.
    pub(crate) fn anchor(&self) -> Moment {
        if self.0.is_none() { counter::anchor(system::now) } else { self.now() }
    }

    /// Prepares what [`fine`](Self::fine) needs to know about the machine. May read a file.
    pub(crate) fn prepare(&self) {
        if self.0.is_none() {
            counter::prepare();
        }
    }

    #[cold]
    fn coarse_of_others(&self) -> Reading {
        match self.source() {
            Source::System => system::coarse(),
            Source::Manual(clock) => Reading::stale(clock.coarse(), clock.staleness()),
            #[cfg(feature = "tokio")]
            Source::Tokio(_) => Reading::exact(self.now()),
        }
    }

    /// Parks the calling thread until it is woken ([`Wake::this_thread`]), and not for long after `moment`.
    ///
    /// May come back early, as every park may. With tokio's clock outside a runtime, the system's time counts.
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
                    // Wakes also when the runtime goes and takes the timer with it.
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

/// A clock that stands still until it is told to go on; for tests, one's own as well as ours.
///
/// Clones share one time. [`advance`](Self::advance) wakes whatever waits on it, threads and tasks.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<Manual>);

#[derive(Debug, Default)]
struct Manual {
    now: AtomicU64,
    /// How far coarse readings lag behind, to test what stale readings do.
    lag: AtomicU64,
    staleness: AtomicU64,
    sleepers: Mutex<Vec<Wake>>,
}

impl ManualClock {
    /// A clock that shows its origin.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A clock whose coarse readings claim to be up to `staleness` behind; [`lag`](Self::lag) sets how far they are.
    #[must_use]
    pub fn with_staleness(staleness: Duration) -> Self {
        let clock = Self::default();
        clock.0.staleness.store(nanos(staleness), Ordering::SeqCst);
        clock
    }

    /// Lets `duration` pass, and wakes all who wait on this clock.
    pub fn advance(&self, duration: Duration) {
        let later = self.now() + duration;
        self.0.now.store(later.as_nanos(), Ordering::SeqCst);
        let sleepers = std::mem::take(&mut *self.0.sleepers.lock());
        for sleeper in sleepers {
            sleeper.wake();
        }
    }

    /// Makes coarse readings lag by `behind`, at most the staleness that the clock was made with.
    pub fn lag(&self, behind: Duration) {
        self.0.lag.store(nanos(behind.min(self.staleness())), Ordering::SeqCst);
    }

    /// What the clock shows.
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

    /// Asks to be woken at the next `advance`.
    pub(crate) fn on_advance(&self, wake: Wake) {
        self.0.sleepers.lock().push(wake);
    }
}

impl From<&ManualClock> for Clock {
    fn from(clock: &ManualClock) -> Self {
        Self(Some(Box::new(Source::Manual(clock.clone()))))
    }
}

/// The wall clock. For time stamps that people and other machines read; never for measuring.
#[allow(clippy::disallowed_methods)]
pub(crate) fn wall() -> std::time::SystemTime {
    std::time::SystemTime::now()
}

/// Time since the machine was started, suspension included, where the system tells. It outlives processes.
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

    /// How many ticks a coarse reading may be behind. The kernel promises one; a virtual processor that is not run
    /// for a moment delays its tick, and granting too much is worse than reading the exact clock now and then.
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

    /// In nanoseconds; computed once, for this is on every hot path.
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

    /// The monotonic clock starts at boot: neither field is negative, and 64 bits of nanoseconds last.
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

/// Without a counter, what is not coarse is exact.
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
    fn a_manual_clock_lags_as_told_and_says_so() {
        let hand = ManualClock::with_staleness(Duration::from_millis(8));
        hand.advance(Duration::from_secs(1));
        hand.lag(Duration::from_secs(9));
        let reading = Clock::from(&hand).coarse();
        assert_eq!(hand.now().since(reading.earliest), Duration::from_millis(8));
        assert_eq!(reading.latest(), hand.now());
    }
}
