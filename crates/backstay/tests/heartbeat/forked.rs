//! After a fork.
#![allow(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backstay::Heartbeat;
use backstay::heartbeat::Status;

use super::{AGE, Folder, eventually};

/// Whether `f` returned true in a forked child.
pub(super) fn in_a_child(f: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child runs `f` and leaves by `_exit`. That `f` allocates and starts threads, which POSIX does not
    // promise to work in the child of a process with threads, is what glibc and musl provide for.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        let code = i32::from(!catch_unwind(AssertUnwindSafe(f)).unwrap_or(false));
        // SAFETY: ends the process, no more.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    let mut ended = false;
    for _ in 0..60_000 {
        // SAFETY: `child` is ours and not waited for yet, `status` is writable.
        ended = unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == child;
        if ended {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    if !ended {
        // SAFETY: `child` is ours and was not waited for.
        unsafe { libc::kill(child, libc::SIGKILL) };
        // SAFETY: as above.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
    }
    ended && libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

// HB-9: in the child it is not running; stopping or dropping it there says nothing in the parent's name.
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

// HB-9: it can be started there, whatever the parent's threads were doing in the moment of the fork.
#[test]
fn the_childs_heartbeat_can_be_started() {
    let folder = Folder::new();
    let heartbeat = Heartbeat::builder().state_file(folder.file()).interval(Duration::from_millis(1)).build().unwrap();
    heartbeat.set_metadata([("set", "before the fork")]).unwrap();
    folder.start(&heartbeat);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // The writer's lock is nearly always held.
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
                // And so on in its own child.
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
