//! Forks that are not announced to the library, at critical moments and into other namespaces.
#![cfg(all(feature = "rate-limiter", feature = "shutdown", feature = "watchdog"))]
#![cfg(all(target_os = "linux", not(backstay_loom)))]
#![allow(clippy::unwrap_used, unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use std::{env, hint, thread};

use backstay::{GracefulShutdown, RateLimiter, Watchdog};

/// Seconds after which a child that hangs is killed. No test takes nearly as long.
const CHILD_TIMEOUT: u32 = 60;

/// Exit code of a child that may not create a namespace.
const NOT_ALLOWED: i32 = 77;

/// Runs `f` in a forked child. Returns its exit code, -1 if it was killed.
fn in_a_child(f: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child runs `f` and ends with `_exit`. POSIX does not allow `f` to allocate and to start threads in
    // the child of a process with threads, but glibc and musl support it.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        // SAFETY: `alarm` only kills the process if it hangs.
        unsafe { libc::alarm(CHILD_TIMEOUT) };
        let code = catch_unwind(AssertUnwindSafe(f)).unwrap_or(1);
        // SAFETY: `_exit` only ends the process.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: `child` is our child and has not been reaped; `status` is writable.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -1 }
}

/// Runs `role` of this file in another process.
fn run(role: &str) {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env("BACKSTAY_TEST_ROLE", role)
        .output()
        .unwrap();
    assert!(output.status.success(), "{role}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "run by the other tests, as a process"]
fn child() {
    match env::var("BACKSTAY_TEST_ROLE").as_deref() {
        Ok("first handle") => first_handle(),
        Ok("pid namespaces") => pid_namespaces(),
        Ok("during a shutdown") => during_a_shutdown(),
        _ => {}
    }
}

// PY-10, ALL-1: no lock that a forked child would wait for guards what the first handle of a process looks up.
#[test]
fn a_fork_while_the_first_handle_is_built_does_not_hang_the_child() {
    run("first handle");
}

fn first_handle() {
    for delay in 0..150 {
        // Each attempt needs a process that has built nothing yet.
        let code = in_a_child(|| {
            let started = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| {
                    started.store(true, Ordering::SeqCst);
                    build()
                });
                while !started.load(Ordering::SeqCst) {
                    hint::spin_loop();
                }
                (0..delay * 100).for_each(|_| hint::spin_loop());
                in_a_child(build)
            })
        });
        assert_eq!(code, 0, "a child that was forked {delay} steps after the other thread had started");
    }
}

fn build() -> i32 {
    let limiter = RateLimiter::builder(1).per(Duration::from_secs(1)).burst(1.0).build().unwrap();
    i32::from(!limiter.try_acquire())
}

// PY-10, WD-1, GS-2: process 1 of a new pid namespace is not taken for its parent, which is process 1 of another one.
#[test]
fn a_child_with_the_parents_process_id_is_not_the_parent() {
    run("pid namespaces");
}

fn pid_namespaces() {
    let code = in_a_child(|| {
        // SAFETY: these calls affect only this process, and not its memory.
        let allowed = unsafe {
            libc::unshare(libc::CLONE_NEWPID) == 0 || libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWPID) == 0
        };
        if allowed { in_a_child(parent) } else { NOT_ALLOWED }
    });
    if code == NOT_ALLOWED {
        eprintln!("NOT TESTED: this system does not allow a pid namespace");
    } else {
        assert_eq!(code, 0);
    }
}

static FIRINGS: AtomicU32 = AtomicU32::new(0);

fn parent() -> i32 {
    assert_eq!(std::process::id(), 1);
    let number = backstay::fork::this_process();
    let timeout = Duration::from_millis(50);
    let count = |_: &_| _ = FIRINGS.fetch_add(1, Ordering::SeqCst);
    let watchdog = Watchdog::builder().timeout_unclamped(timeout).on_timeout(count).build().unwrap();
    watchdog.start().unwrap();
    let shutdown = GracefulShutdown::new();
    shutdown.install().unwrap();
    while FIRINGS.load(Ordering::SeqCst) == 0 {
        thread::yield_now();
    }
    // SAFETY: as above.
    if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
        return NOT_ALLOWED;
    }
    in_a_child(|| {
        assert_eq!(std::process::id(), 1);
        assert_ne!(backstay::fork::this_process(), number);
        assert!(!shutdown.is_installed());
        assert!(!watchdog.is_running());
        // The child has its own monitor.
        watchdog.start().unwrap();
        let before = FIRINGS.load(Ordering::SeqCst);
        while FIRINGS.load(Ordering::SeqCst) == before {
            thread::yield_now();
        }
        0
    })
}

// PY-10, GS-7: a shutdown that runs in the parent has not begun in a child, even if the fork was not announced.
#[test]
fn a_child_that_is_forked_during_a_shutdown_is_not_shutting_down() {
    run("during a shutdown");
}

fn during_a_shutdown() {
    let shutdown = GracefulShutdown::new();
    let (release, released) = std::sync::mpsc::channel::<()>();
    shutdown.register("blocks", move || _ = released.recv()).unwrap();
    let running = shutdown.clone();
    let run = thread::spawn(move || running.trigger());
    assert!(shutdown.begun_within(Duration::from_secs(60)));
    let asks = || i32::from(shutdown.is_shutting_down());
    assert_eq!((in_a_child(asks), asks()), (0, 1));
    release.send(()).unwrap();
    run.join().unwrap();
    assert_eq!((in_a_child(asks), asks()), (1, 1), "a finished shutdown stays finished");
}
