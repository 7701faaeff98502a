//! Interpolates Linux's monotonic clock with the processor's time stamp counter.
//!
//! Reading the clock costs twice as much as reading the counter, because the kernel's code waits for older
//! instructions and for a consistent set of its parameters. Each thread interpolates for itself ([`Interpolation`]),
//! so nothing is shared, and a forked child continues with the copy of its thread.
//!
//! The counter is used only if the kernel keeps time by it: then the kernel has found that it runs at a constant rate
//! and is the same on all processors. If that changes later (the kernel distrusts the counter, a virtual machine
//! moves), an anchor takes too long to read or two measurements disagree within a few milliseconds, and readings are
//! exact again.
//!
//! # Memory ordering
//! `TRUSTED` is a fact about the machine and relaxed: each thread may find it out again.
#![allow(unsafe_code)] // `rdtsc` and `cpuid` have no safe form

use std::arch::x86_64::{__cpuid, _rdtsc};
use std::cell::Cell;
use std::sync::atomic::{AtomicU8, Ordering};

use backstay_core::time::Interpolation;

use super::{Moment, Reading};

thread_local! { static INTERPOLATION: Cell<Interpolation> = const { Cell::new(Interpolation::NONE) } }

/// Returns the time by the counter if this thread has read the clock in the last milliseconds, otherwise exactly.
#[inline]
pub(super) fn read(now: impl Fn() -> Moment) -> Reading {
    let interpolated = || INTERPOLATION.with(|interpolation| interpolation.get().read(counter()));
    is_trusted().then(interpolated).flatten().unwrap_or_else(|| Reading::exact(anchor(now)))
}

/// Returns the exact time; this thread's readings then continue from it.
#[inline(never)]
pub(super) fn anchor(now: impl Fn() -> Moment) -> Moment {
    if !is_trusted() {
        return now();
    }
    let before = counter();
    let now = now();
    let after = counter();
    INTERPOLATION.with(|cell| {
        let mut interpolation = cell.get();
        interpolation.anchor(before, now, after);
        cell.set(interpolation);
    });
    now
}

#[inline]
fn counter() -> u64 {
    // SAFETY: every x86-64 processor has this instruction. If the process has forbidden it (`PR_SET_TSC`), the
    // kernel's clock, which this module supplements, can't be read either.
    unsafe { _rdtsc() }
}

/// Whether the counter can be used.
static TRUSTED: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const NO: u8 = 1;
const YES: u8 = 2;

#[inline]
fn is_trusted() -> bool {
    TRUSTED.load(Ordering::Relaxed) == YES
}

/// Finds out whether the counter can be used, unless that is known. Called when a handle is built, because it reads a
/// file: by its first call the process may no longer be permitted to open one.
pub(super) fn prepare() {
    if TRUSTED.load(Ordering::Relaxed) == UNKNOWN
        && let Some(trusted) = kernel_uses_counter()
    {
        TRUSTED.store(if trusted && is_invariant() { YES } else { NO }, Ordering::Relaxed);
    }
}

/// Whether the kernel keeps time by the counter; `None` if it can't be read.
fn kernel_uses_counter() -> Option<bool> {
    use rustix::fs::{Mode, OFlags, open};
    let path = c"/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let file = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut name = [0; 32];
    let length = rustix::io::read(&file, &mut name).ok()?;
    Some(name[..length].trim_ascii() == b"tsc")
}

/// Whether the processor promises a constant rate in all power states ("invariant TSC").
#[allow(unused_unsafe)] // `__cpuid` is safe in newer versions of Rust
fn is_invariant() -> bool {
    const POWER_MANAGEMENT: u32 = 0x8000_0007;
    // SAFETY: every x86-64 processor has the instruction.
    let leaves = unsafe { __cpuid(0x8000_0000) }.eax;
    // SAFETY: every x86-64 processor has the instruction.
    leaves >= POWER_MANAGEMENT && unsafe { __cpuid(POWER_MANAGEMENT) }.edx & 1 << 8 != 0
}

#[cfg(all(test, not(backstay_loom)))]
mod tests {
    use super::*;
    use crate::clock::Clock;

    // RL-2: the clock's time is in the range of each reading, also on suspended threads.
    #[test]
    fn the_time_is_in_the_range_of_each_reading() {
        let clock = Clock::system();
        prepare();
        let check = || {
            let mut interpolated = 0_u64;
            let start = clock.now();
            while clock.now().since(start).as_millis() < 100 {
                let before = clock.now();
                let reading = clock.fine();
                let after = clock.now();
                interpolated += u64::from(reading.staleness() > 0);
                assert!(reading.latest() >= before && reading.earliest <= after, "{before:?} {reading:?} {after:?}");
            }
            interpolated
        };
        let interpolated = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(check)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>()
        });
        assert_eq!(interpolated > 0, is_trusted(), "{interpolated}");
    }

    // ALL-5: building a handle finds out about the machine, and the result does not change.
    #[cfg(feature = "rate-limiter")]
    #[test]
    fn the_machine_is_known_after_the_first_handle() {
        let _limiter = crate::RateLimiter::builder(1).build().unwrap();
        let known = TRUSTED.load(Ordering::Relaxed);
        let expected = kernel_uses_counter().map(|trusted| if trusted && is_invariant() { YES } else { NO });
        assert_eq!(known, expected.unwrap_or(UNKNOWN));
    }
}
