//! A ping allocates nothing and makes no system call.
#![cfg(feature = "watchdog")]
#![cfg(all(target_os = "linux", not(backstay_loom)))]
#![allow(clippy::unwrap_used, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use backstay::Watchdog;
use backstay::clock::ManualClock;

struct CountingAllocator;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is forwarded unchanged to the system's allocator.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller upholds the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the same contract.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn running() -> Watchdog {
    let watchdog = Watchdog::builder().timeout(Duration::from_secs(60)).raise_on_timeout(true).build().unwrap();
    watchdog.start().unwrap();
    watchdog
}

// WD-2: no ping allocates, not even a thread's first one.
#[test]
fn a_ping_allocates_nothing() {
    let watchdog = running();
    let allocations = std::thread::scope(|scope| {
        let pinging = scope.spawn(|| {
            let before = ALLOCATIONS.get();
            for _ in 0..100_000 {
                watchdog.ping();
                let _ = watchdog.try_ping();
            }
            ALLOCATIONS.get() - before
        });
        pinging.join().unwrap()
    });
    assert_eq!(allocations, 0);
}

// WD-2: a ping makes no system call, so it waits for no lock. Only a thread's first ping makes one.
#[test]
fn a_ping_makes_no_system_call() {
    let watchdog = running();
    // SAFETY: the child calls only `ping` and system calls, and ends with `exit`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        watchdog.ping();
        // SAFETY: from here on the kernel kills the process for any system call but `read`, `write` and `exit`.
        if unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT, 0, 0, 0) } != 0 {
            // SAFETY: `_exit` has no preconditions.
            unsafe { libc::_exit(77) };
        }
        for _ in 0..3_000_000 {
            watchdog.ping();
            let _ = watchdog.try_ping();
        }
        // SAFETY: it only ends the thread. `exit_group`, which `_exit` calls, is not allowed here.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
    assert!(pid > 0);
    let mut status = 0;
    // SAFETY: `pid` is our child and `status` is writable.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    // Without seccomp in the kernel the test proves nothing.
    let unsupported = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 77;
    assert!(status == 0 || unsupported, "killed for a system call: {status}");
}

// WD-2: a signal handler may ping.
#[test]
fn a_signal_handler_pings() {
    static WATCHDOG: std::sync::OnceLock<Watchdog> = std::sync::OnceLock::new();
    extern "C" fn ping(_: libc::c_int) {
        if let Some(watchdog) = WATCHDOG.get() {
            watchdog.ping();
        }
    }

    let clock = ManualClock::new();
    let watchdog = Watchdog::builder().timeout(Duration::from_secs(5)).clock(&clock).build().unwrap();
    WATCHDOG.set(watchdog.clone()).unwrap();
    let handler = ping as extern "C" fn(libc::c_int);
    // SAFETY: `ping` is async-signal-safe, which this test checks.
    unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
    for pings in 1..=1000 {
        clock.advance(Duration::from_secs(1));
        // SAFETY: a handler is installed for the signal.
        unsafe { libc::raise(libc::SIGUSR1) };
        assert_eq!(watchdog.inactive(), Duration::ZERO);
        assert_eq!(watchdog.stats().pings_total, pings);
    }
}
