//! Heartbeats in forked children.
#![allow(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backstay::Heartbeat;
use backstay::heartbeat::Status;

use super::{AGE, Folder, eventually};

/// Runs `f` in a forked child. Returns whether it returned true.
pub(super) fn in_a_child(f: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child runs `f` and ends with `_exit`. POSIX does not allow `f` to allocate and to start threads in
    // the child of a process with threads, but glibc and musl support it.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        let code = i32::from(!catch_unwind(AssertUnwindSafe(f)).unwrap_or(false));
        // SAFETY: `_exit` only ends the process.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    let mut ended = false;
    for _ in 0..60_000 {
        // SAFETY: `child` is our child and has not been reaped; `status` is writable.
        ended = unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == child;
        if ended {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    if !ended {
        // SAFETY: `child` is our child and has not been reaped.
        unsafe { libc::kill(child, libc::SIGKILL) };
        // SAFETY: as above.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
    }
    ended && libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

// HB-9: in the child it is not running. Stopping or dropping it there writes nothing to the parent's file.
#[test]
fn the_childs_heartbeat_is_not_running() {
    let folder = Folder::new();
    let heartbeat = Heartbeat::builder().state_file(folder.file()).interval(AGE).build().unwrap();
    folder.start(&heartbeat);
    let written = folder.state();
    let mut handle = Some(heartbeat);
    assert!(in_a_child(|| {
        let heartbeat = handle.take().unwrap();
        let running = heartbeat.is_running();
        heartbeat.set_status(Status::Degraded);
        heartbeat.stop();
        drop(heartbeat);
        !running
    }));
    let heartbeat = handle.unwrap();
    assert!(heartbeat.is_running());
    assert_eq!(folder.state(), written);
}

// HB-9: it can be started in the child, whatever locks the parent's threads held at the fork.
#[test]
fn the_childs_heartbeat_can_be_started() {
    let folder = Folder::new();
    let heartbeat = Heartbeat::builder().state_file(folder.file()).interval(Duration::from_millis(1)).build().unwrap();
    heartbeat.set_metadata([("set", "before the fork")]).unwrap();
    folder.start(&heartbeat);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // This thread holds the writer's lock nearly all the time.
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                heartbeat.beat().unwrap();
            }
        });
        let started = (0..30).all(|_| {
            in_a_child(|| {
                let me = std::process::id();
                heartbeat.start().unwrap();
                assert!(heartbeat.is_running());
                eventually(|| Heartbeat::read_state(folder.file()).unwrap().pid == me);
                heartbeat.beat().unwrap();
                // The same in its own child.
                let grandchild = in_a_child(|| !heartbeat.is_running() && heartbeat.start().is_ok());
                heartbeat.stop();
                grandchild && !heartbeat.is_running()
            })
        });
        over.store(true, Ordering::Relaxed);
        assert!(started);
    });
    assert!(heartbeat.is_running());
    heartbeat.beat().unwrap();
    assert_eq!(folder.state().pid, std::process::id());
    assert_eq!(folder.state().metadata["set"], "before the fork");
}
