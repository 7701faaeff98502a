//! Processes that are forked without a word to the library, at bad moments and into other namespaces.
#![cfg(all(feature = "rate-limiter", feature = "shutdown", feature = "watchdog"))]
#![cfg(all(target_os = "linux", not(backstay_loom)))]
#![allow(clippy::unwrap_used, unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use std::{env, hint, thread};

use backstay::{GracefulShutdown, RateLimiter, Watchdog};

/// Far more than anything here takes; a child that hangs is ended by then.
const PATIENCE: u32 = 60;

/// What a child that could not make its namespace ends with.
const NOT_ALLOWED: i32 = 77;

/// The exit code of a forked child that runs `f`; -1 where it hung or died.
fn in_a_child(f: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child runs `f` and leaves by `_exit`. That `f` allocates and starts threads, which POSIX does not
    // promise to work in the child of a process with threads, is what glibc and musl provide for.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        // SAFETY: ends the process if it hangs, no more.
        unsafe { libc::alarm(PATIENCE) };
        let code = catch_unwind(AssertUnwindSafe(f)).unwrap_or(1);
        // SAFETY: ends the process, no more.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: `child` is ours and not waited for yet, `status` is writable.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -1 }
}

/// Runs `role` of this file in a process of its own.
fn run(role: &str) {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env("BACKSTAY_TEST_ROLE", role)
        .output()
        .unwrap();
    assert!(output.status.success(), "{role}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "run by the others, as a process"]
fn child() {
    match env::var("BACKSTAY_TEST_ROLE").as_deref() {
        Ok("first handle") => first_handle(),
        Ok("pid namespaces") => pid_namespaces(),
        Ok("during a shutdown") => during_a_shutdown(),
        _ => {}
    }
}

// PY-10, ALL-1: what the first handle of a process finds out is not guarded by a lock that a child would wait for.
#[test]
fn a_fork_while_the_first_handle_is_built_does_not_hang_the_child() {
    run("first handle");
}

fn first_handle() {
    for delay in 0..150 {
        // Each try needs a process that has built nothing yet.
        let code = in_a_child(|| {
            let begins = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| {
                    begins.store(true, Ordering::SeqCst);
                    build()
                });
                while !begins.load(Ordering::SeqCst) {
                    hint::spin_loop();
                }
                (0..delay * 100).for_each(|_| hint::spin_loop());
                in_a_child(build)
            })
        });
        assert_eq!(code, 0, "the child of a process that was forked {delay} steps after its other thread began");
    }
}

fn build() -> i32 {
    let limiter = RateLimiter::builder(1).per(Duration::from_secs(1)).burst(1.0).build().unwrap();
    i32::from(!limiter.try_acquire())
}

// PY-10, WD-1, GS-2: process 1 of a new pid namespace is not its parent, which is process 1 of another.
#[test]
fn a_child_with_the_parents_process_id_is_not_the_parent() {
    run("pid namespaces");
}

fn pid_namespaces() {
    let code = in_a_child(|| {
        // SAFETY: concern this process alone, whose memory they leave as it is.
        let allowed = unsafe {
            libc::unshare(libc::CLONE_NEWPID) == 0 || libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWPID) == 0
        };
        if allowed { in_a_child(parent) } else { NOT_ALLOWED }
    });
    if code == NOT_ALLOWED {
        eprintln!("not tested: this system gives us no pid namespace");
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
    let shutdown = GracefulShutdown::new().unwrap();
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
        // Its monitor is one of its own.
        watchdog.start().unwrap();
        let before = FIRINGS.load(Ordering::SeqCst);
        while FIRINGS.load(Ordering::SeqCst) == before {
            thread::yield_now();
        }
        0
    })
}

// PY-10, GS-7: the run of a shutdown is the parent's, and has not begun in a child of which nothing has told.
#[test]
fn a_child_that_is_forked_during_a_shutdown_is_not_shutting_down() {
    run("during a shutdown");
}

fn during_a_shutdown() {
    let shutdown = GracefulShutdown::new().unwrap();
    let (release, released) = std::sync::mpsc::channel::<()>();
    shutdown.register("blocks", move || _ = released.recv()).unwrap();
    let running = shutdown.clone();
    let run = thread::spawn(move || running.trigger());
    assert!(shutdown.begun_within(Duration::from_secs(60)));
    let asks = || i32::from(shutdown.is_shutting_down());
    assert_eq!((in_a_child(asks), asks()), (0, 1));
    release.send(()).unwrap();
    run.join().unwrap();
    assert_eq!((in_a_child(asks), asks()), (1, 1), "what is over stays over");
}
