//! Signals around a fork.
//!
//! CPython discards what arrived for a Python handler in a forked child before the child is ready: a SIGTERM with
//! which a pool ends its workers would be lost. So the forking thread blocks the signals of installed shutdowns until
//! the child has its own handlers, or the parent goes on. What arrives meanwhile stays pending in the kernel.
//!
//! # Memory ordering
//! `HELD` is relaxed: it is written and read by threads that hold the interpreter, or that find at worst the set of a
//! moment ago.

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;

/// The signals of installed shutdowns, number n as bit n - 1.
static HELD: AtomicU64 = AtomicU64::new(0);

/// Sets which signals are held back while this process forks.
#[pyfunction]
pub(crate) fn _hold_at_forks(numbers: Vec<u32>) {
    let bit = |number: u32| 1_u64.checked_shl(number.wrapping_sub(1)).unwrap_or(0);
    HELD.store(numbers.into_iter().map(bit).fold(0, std::ops::BitOr::bitor), Ordering::Relaxed);
}

/// Returns a number of this process that none of its ancestors has, unlike `os.getpid()`.
#[pyfunction]
pub(crate) fn _this_process() -> u32 {
    backstay::fork::this_process()
}

/// Whether a shutdown has handlers in place.
pub(crate) fn are_held() -> bool {
    HELD.load(Ordering::Relaxed) != 0
}

#[cfg(unix)]
pub(crate) use mask::{hold, release};

#[cfg(unix)]
#[allow(unsafe_code)]
mod mask {
    use super::{HELD, Ordering};
    use libc::{c_int, sigset_t};
    use std::cell::Cell;
    use std::mem::MaybeUninit;

    thread_local! {
        /// The signals that [`hold`] has blocked in this thread.
        static BLOCKED: Cell<u64> = const { Cell::new(0) };
    }

    /// Blocks the signals in this thread, before a fork.
    pub(crate) fn hold() {
        let held = HELD.load(Ordering::Relaxed);
        if held == 0 {
            return;
        }
        let before = change(libc::SIG_BLOCK, held);
        // What was blocked before stays blocked after.
        let is_new = |number: &c_int| before.is_some_and(|before| !contains(&before, *number));
        let blocked = numbers(held).filter(is_new).fold(0, |bits, number| bits | 1 << (number - 1));
        BLOCKED.set(BLOCKED.get() | blocked);
    }

    /// Undoes [`hold`]: what is pending is delivered now.
    pub(crate) fn release() {
        let blocked = BLOCKED.take();
        if blocked != 0 {
            change(libc::SIG_UNBLOCK, blocked);
        }
    }

    fn numbers(bits: u64) -> impl Iterator<Item = c_int> {
        (1..=64).filter(move |number| bits >> (number - 1) & 1 == 1)
    }

    /// Changes this thread's mask; the mask before, `None` where it could not be changed.
    fn change(how: c_int, bits: u64) -> Option<sigset_t> {
        let (mut set, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: `sigemptyset` initializes `set`; `sigaddset` takes any number and rejects invalid ones;
        // `pthread_sigmask` writes `before` where it succeeds, and all three are async-signal-safe.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for number in numbers(bits) {
                libc::sigaddset(set.as_mut_ptr(), number);
            }
            let failed = libc::pthread_sigmask(how, set.as_ptr(), before.as_mut_ptr()) != 0;
            if failed { None } else { Some(before.assume_init()) }
        }
    }

    fn contains(set: &sigset_t, number: c_int) -> bool {
        // SAFETY: `set` is initialized.
        unsafe { libc::sigismember(set, number) == 1 }
    }
}

#[cfg(not(unix))]
pub(crate) fn hold() {}
#[cfg(not(unix))]
pub(crate) fn release() {}
