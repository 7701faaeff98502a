//! Linux's monotonic clock between two readings of it, by the processor's time stamp counter.
//!
//! Reading the clock exactly costs twice as much as reading the counter, because the kernel's own code waits for older
//! instructions and for a consistent set of its parameters. Each thread follows the clock for itself
//! ([`Interpolation`]), so nothing is shared, a forked child goes on with its thread's copy, and there is no protocol.
//!
//! Only where the kernel keeps time by this counter: then it has found it to run at a constant rate and to be the same
//! on all processors. Where that changes later (the kernel distrusts the counter, a virtual machine moves), an anchor
//! takes too long to read, or two measurements disagree, within a few milliseconds.
#![allow(unsafe_code)] // `rdtsc` and `cpuid` have no safe form

use std::arch::x86_64::{__cpuid, _rdtsc};
use std::cell::Cell;
use std::sync::atomic::{AtomicU8, Ordering};

use backstay_core::time::Interpolation;

use super::{Moment, Reading};

thread_local! { static FOLLOWS: Cell<Interpolation> = const { Cell::new(Interpolation::NONE) } }

/// The time: by the counter, if this thread has read the clock within the last milliseconds, otherwise exactly.
#[inline]
pub(super) fn read(now: impl Fn() -> Moment) -> Reading {
    let follow = || FOLLOWS.with(|follows| follows.get().read(counter()));
    is_trusted().then(follow).flatten().unwrap_or_else(|| Reading::exact(anchor(now)))
}

/// The time, exactly; from now on this thread follows it.
#[inline(never)]
pub(super) fn anchor(now: impl Fn() -> Moment) -> Moment {
    if !is_trusted() {
        return now();
    }
    let before = counter();
    let now = now();
    let after = counter();
    FOLLOWS.with(|cell| {
        let mut follows = cell.get();
        follows.anchor(before, now, after);
        cell.set(follows);
    });
    now
}

#[inline]
fn counter() -> u64 {
    // SAFETY: every x86-64 processor has it. Where the process forbade it (`PR_SET_TSC`), the kernel's clock, which this
    // module supplements, cannot be read either.
    unsafe { _rdtsc() }
}

/// Relaxed: a fact about the machine, which every thread may find out again.
static TRUSTED: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const NO: u8 = 1;
const YES: u8 = 2;

#[inline]
fn is_trusted() -> bool {
    TRUSTED.load(Ordering::Relaxed) == YES
}

/// Finds out whether the counter can be used, unless that is known. Called where a handle is built, because it reads a
/// file, and by the time of a call the process may have given up the right to open one.
pub(super) fn prepare() {
    if TRUSTED.load(Ordering::Relaxed) == UNKNOWN
        && let Some(trusted) = kernel_trusts_it()
    {
        TRUSTED.store(if trusted && is_invariant() { YES } else { NO }, Ordering::Relaxed);
    }
}

/// `None` where the kernel does not tell.
fn kernel_trusts_it() -> Option<bool> {
    use rustix::fs::{Mode, OFlags, open};
    let path = c"/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let file = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut name = [0; 32];
    let length = rustix::io::read(&file, &mut name).ok()?;
    Some(name[..length].trim_ascii() == b"tsc")
}

/// Whether the processor promises a constant rate in all states of power ("invariant TSC").
#[allow(unused_unsafe)] // `__cpuid` is safe in newer versions of Rust
fn is_invariant() -> bool {
    const POWER_MANAGEMENT: u32 = 0x8000_0007;
    // SAFETY: every x86-64 processor has the instruction.
    let leaves = unsafe { __cpuid(0x8000_0000) }.eax;
    // SAFETY: as above.
    leaves >= POWER_MANAGEMENT && unsafe { __cpuid(POWER_MANAGEMENT) }.edx & 1 << 8 != 0
}

#[cfg(all(test, not(backstay_loom)))]
mod tests {
    use super::*;
    use crate::clock::Clock;

    // RL-2: on this machine, the clock shows a time in the range of each reading; threads, suspended ones, too.
    #[test]
    fn the_clock_shows_a_time_in_the_range() {
        let clock = Clock::system();
        prepare();
        let check = || {
            let mut followed = 0_u64;
            let start = clock.now();
            while clock.now().since(start).as_millis() < 100 {
                let before = clock.now();
                let reading = clock.fine();
                let after = clock.now();
                followed += u64::from(reading.staleness() > 0);
                assert!(reading.latest() >= before && reading.earliest <= after, "{before:?} {reading:?} {after:?}");
            }
            followed
        };
        let followed = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(check)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>()
        });
        assert_eq!(followed > 0, is_trusted(), "{followed}");
    }

    // ALL-5: the kernel's word is asked for once it is known, and never contradicts itself.
    #[cfg(feature = "rate-limiter")]
    #[test]
    fn the_machine_is_known_after_the_first_handle() {
        let _limiter = crate::RateLimiter::builder(1).build().unwrap();
        let known = TRUSTED.load(Ordering::Relaxed);
        let told = kernel_trusts_it().map(|trusted| if trusted && is_invariant() { YES } else { NO });
        assert_eq!(known, told.unwrap_or(UNKNOWN));
    }
}
