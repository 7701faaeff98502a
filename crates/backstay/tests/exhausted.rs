//! Processes without a free thread or file descriptor: waits still end, and a resource that was missing is requested
//! again.
//!
//! Each test runs `child` of this file in a process of its own.
#![cfg(all(feature = "rate-limiter", feature = "shutdown", feature = "watchdog"))]
#![cfg(all(target_os = "linux", feature = "tokio", not(backstay_loom)))]
#![allow(clippy::unwrap_used, unsafe_code)]

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{env, fs, thread};

use backstay::clock::Clock;
use backstay::shutdown::ShutdownError;
use backstay::{GracefulShutdown, Heartbeat, RateLimiter, Watchdog};
use tokio::io::AsyncReadExt;

const TIMEOUT: Duration = Duration::from_secs(60);

/// Runs `role` in a child process.
fn run(role: &str) {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env("BACKSTAY_TEST_ROLE", role)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{role}: {}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
#[ignore = "run by the other tests, as a child process"]
fn child() {
    match env::var("BACKSTAY_TEST_ROLE").as_deref() {
        Ok("no thread") => no_thread(),
        Ok("no descriptor for a callback") => no_descriptor_for_a_callback(),
        Ok("no descriptor for a first beat") => no_descriptor_for_a_first_beat(),
        _ => {}
    }
}

// RL-4, ALL-1, ALL-5: an async wait ends when its token is due, with or without a thread for the timer; the timer and
// the log start their threads as soon as the system has some.
#[test]
fn an_async_wait_ends_without_a_timer_thread_and_with_one_that_starts_later() {
    run("no thread");
}

fn no_thread() {
    // SAFETY: changes the user of this process, on which none of its code depends. The limit does not apply to root.
    unsafe {
        if libc::getuid() == 0 {
            assert_eq!((libc::setgid(65_437), libc::setuid(65_437)), (0, 0));
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limiter = RateLimiter::builder(5).burst(1.0).build().unwrap();
    let clock = Clock::system();

    let before = limit(libc::RLIMIT_NPROC, 0);
    assert!(thread::Builder::new().spawn(|| ()).is_err(), "the system has a free thread");
    limiter.acquire();
    let start = clock.now();
    runtime.block_on(async { tokio::time::timeout(TIMEOUT, limiter.acquire_async()).await }).unwrap();
    assert!(clock.now().since(start) >= Duration::from_millis(190));

    // A wait that began without a thread ends with one.
    let slow = RateLimiter::builder(1).per(Duration::from_secs(2)).burst(1.0).build().unwrap();
    slow.acquire();
    runtime.block_on(async {
        let wait = slow.acquire_async();
        tokio::pin!(wait);
        let polled = tokio::time::timeout(Duration::from_millis(50), &mut wait).await;
        assert!(polled.is_err() && !threads().contains(&"backstay-timer".to_owned()));
        limit(libc::RLIMIT_NPROC, before);
        tokio::time::timeout(TIMEOUT, wait).await.unwrap();
    });
    limiter.acquire();
    runtime.block_on(async { tokio::time::timeout(TIMEOUT, limiter.acquire_async()).await }).unwrap();
    assert!(threads().contains(&"backstay-timer".to_owned()), "{:?}", threads());
    assert!(threads().contains(&"backstay-log".to_owned()), "{:?}", threads());
}

fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map_while(Result::ok);
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
        .collect()
}

/// Sets the soft limit, and returns the one before.
fn limit(resource: libc::__rlimit_resource_t, soft: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for writing and reading.
    unsafe {
        assert_eq!(libc::getrlimit(resource, &raw mut limit), 0);
        let before = std::mem::replace(&mut limit.rlim_cur, soft);
        assert_eq!(libc::setrlimit(resource, &raw const limit), 0);
        before
    }
}

/// Opens files until no descriptor is free. Dropping them frees the descriptors.
fn all_descriptors() -> Vec<File> {
    limit(libc::RLIMIT_NOFILE, 64);
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

// GS-4, GS-9: a service that shuts down because no descriptor is free still cleans up.
#[test]
fn async_callbacks_run_without_a_free_descriptor() {
    run("no descriptor for a callback");
}

fn no_descriptor_for_a_callback() {
    let ran = Arc::new(AtomicU32::new(0));
    let shutdown = GracefulShutdown::new();
    for number in 0..3 {
        let ran = Arc::clone(&ran);
        // An open connection, as to a database: it needs the runtime's I/O, but no new descriptor.
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let callback = move || async move {
            let mut ours = tokio::net::UnixStream::from_std(ours).unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            drop(theirs);
            assert_eq!(ours.read(&mut [0]).await.unwrap(), 0);
            ran.fetch_add(1, Ordering::SeqCst);
        };
        shutdown.register_async(&format!("callback {number}"), callback).unwrap();
    }
    let late = GracefulShutdown::new();
    let fired = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&fired);
    let watchdog = Watchdog::builder()
        .timeout_unclamped(Duration::from_millis(20))
        .on_timeout_async(move |_| {
            let count = Arc::clone(&count);
            async move { _ = count.fetch_add(1, Ordering::SeqCst) }
        })
        .build()
        .unwrap();

    let _descriptors = all_descriptors();
    let error = late.register_async("late", || async {}).unwrap_err();
    assert!(matches!(&error, ShutdownError::NoRuntime { name, .. } if &**name == "late"), "{error}");
    late.register("plain", || ()).unwrap();
    watchdog.start().unwrap();
    let report = shutdown.trigger();
    assert!(report.is_clean(), "{report}");
    assert_eq!(ran.load(Ordering::SeqCst), 3);
    // The runtime of other async callbacks needs no descriptor.
    while fired.load(Ordering::SeqCst) == 0 {
        thread::yield_now();
    }
}

// HB-2, HB-7, ALL-5: facts about the machine that the first beat could not read, a later one reads.
#[test]
fn a_heartbeat_that_began_without_a_descriptor_reads_the_boot_id_later() {
    run("no descriptor for a first beat");
}

fn no_descriptor_for_a_first_beat() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bot.heartbeat");
    let heartbeat = Heartbeat::builder().state_file(&path).build().unwrap();
    let descriptors = all_descriptors();
    heartbeat.beat().unwrap_err();
    drop(descriptors);
    heartbeat.beat().unwrap();
    let state = Heartbeat::read_state(&path).unwrap();
    assert!(state.boot_id.is_some() && state.pid_namespace.is_some(), "{state:?}");
    assert!(Heartbeat::is_alive(&path, Duration::from_secs(60)));
}
