//! What a ping does not do.
#![cfg(feature = "watchdog")]
#![cfg(all(target_os = "linux", not(backstay_loom)))]
#![allow(clippy::unwrap_used, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use backstay::Watchdog;
use backstay::clock::ManualClock;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the system's.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn running() -> Watchdog {
    let watchdog = Watchdog::builder().timeout(Duration::from_secs(60)).raise_on_timeout(true).build().unwrap();
    watchdog.start().unwrap();
    watchdog
}

// WD-2: allocates nothing, a thread's first ping included.
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

// WD-2: makes no system call, and so waits for no lock, but for a thread's very first ping.
#[test]
fn a_ping_makes_no_system_call() {
    let watchdog = running();
    // SAFETY: the child has this one thread; it makes its calls, and leaves by `exit`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        watchdog.ping();
        // SAFETY: from here on the kernel kills the process for any call but reading, writing and leaving.
        if unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT, 0, 0, 0) } != 0 {
            // SAFETY: always is.
            unsafe { libc::_exit(77) };
        }
        for _ in 0..3_000_000 {
            watchdog.ping();
            let _ = watchdog.try_ping();
        }
        // SAFETY: `exit` is allowed, and `exit_group` is not.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
    assert!(pid > 0);
    let mut status = 0;
    // SAFETY: `pid` is our child, `status` a place to write to.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    // A kernel without seccomp cannot tell.
    let untold = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 77;
    assert!(status == 0 || untold, "killed for a system call: {status}");
}

// WD-2: from a signal handler, of whatever thread it comes upon.
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
    // SAFETY: the handler does what this test says may be done in one.
    unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
    for pings in 1..=1000 {
        clock.advance(Duration::from_secs(1));
        // SAFETY: the signal is handled.
        unsafe { libc::raise(libc::SIGUSR1) };
        assert_eq!(watchdog.inactive(), Duration::ZERO);
        assert_eq!(watchdog.stats().pings_total, pings);
    }
}
