//! Watchdogs in a process that is stopped, that forks, or that has 100,000 of them.
//!
//! Each test runs `child` of this file in another process and exchanges lines with it.
#![cfg(feature = "watchdog")]
#![cfg(all(target_os = "linux", not(backstay_loom)))]
#![allow(clippy::unwrap_used, unsafe_code)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use std::{env, fs, io, thread};

use backstay::clock::Clock;
use backstay::{Watchdog, WatchdogError};
use rustix::process::{Pid, Signal, kill_process};

const WAIT_LIMIT: Duration = Duration::from_secs(60);
/// Longer than a busy machine takes from "pinged" to the signal that stops the process.
const TIMEOUT: Duration = Duration::from_secs(5);
const FORKS: u32 = 40;
/// Largest CPU share of the monitor, in percent. An optimised build on an idle machine needs 1 %.
const MAX_SHARE: f64 = if cfg!(debug_assertions) { 20.0 } else { 4.0 };

struct Process {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Process {
    fn run(role: &str) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env("BACKSTAY_TEST_ROLE", role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Output of the test harness may precede it in the same line.
                if let Some((_, said)) = line.split_once("child: ") {
                    let _ = sender.send(said.to_owned());
                }
            }
        });
        Self { child, stdin, lines }
    }

    fn send(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    fn receive(&self) -> String {
        self.lines.recv_timeout(WAIT_LIMIT).expect("a line from the child")
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn print_line(line: &str) {
    println!("child: {line}");
}

fn pause(duration: Duration) {
    let (_sender, never) = channel::<()>();
    let _ = never.recv_timeout(duration);
}

#[test]
#[ignore = "run by the other tests, as a process"]
fn child() {
    match env::var("BACKSTAY_TEST_ROLE").as_deref() {
        Ok("stopped") => stopped(),
        Ok("forks") => forks(),
        Ok("many") => many(),
        _ => {}
    }
}

// WD-7: time in which the process is stopped does not count as inactivity; time after it does.
#[test]
fn a_stopped_process_is_not_frozen() {
    let clock = Clock::system();
    let mut process = Process::run("stopped");
    for _ in 0..2 {
        process.send("ping");
        assert_eq!(process.receive(), "pinged");
        process.signal(Signal::STOP);
        pause(Duration::from_secs(2));
        let before = clock.now();
        process.signal(Signal::CONT);
        assert_eq!(process.receive(), "fired", "a freeze after the stop fires");
        let ran = clock.now().since(before);
        assert!(ran >= TIMEOUT - Duration::from_millis(100), "fired {ran:?} after the process was continued");
    }
}

fn stopped() {
    let watchdog = Watchdog::builder().timeout(TIMEOUT).on_timeout(|_| print_line("fired")).build().unwrap();
    watchdog.start().unwrap();
    for _ in io::stdin().lines() {
        watchdog.ping();
        print_line("pinged");
    }
}

// WD-1, PY-10: in a forked child no watchdog is running and each can be started, whatever locks the parent held.
#[test]
fn a_forked_child_can_start_watchdogs() {
    let process = Process::run("forks");
    for _ in 0..FORKS {
        assert_eq!(process.receive(), "child ok");
    }
    assert_eq!(process.receive(), "all ok");
}

/// Checks in a forked child that a watchdog of the parent is not running and can be started. Returns 0 if so.
fn check_in_child(watchdog: &Watchdog, fired: fn() -> bool) -> i32 {
    if watchdog.is_running() {
        2
    } else if watchdog.start().is_err() || !watchdog.is_running() {
        3
    } else if !matches!(watchdog.start(), Err(WatchdogError::AlreadyRunning { .. })) {
        4
    } else if !fired() {
        5
    } else {
        0
    }
}

fn forks() {
    // The process in which the callback last ran. A channel does not serve: the child may inherit its lock locked.
    static FIRED_IN: AtomicU32 = AtomicU32::new(0);
    fn fired() -> bool {
        let deadline = Clock::system().now() + WAIT_LIMIT / 2;
        while FIRED_IN.load(Ordering::SeqCst) != std::process::id() {
            if Clock::system().now() > deadline {
                return false;
            }
            pause(Duration::from_millis(1));
        }
        true
    }

    let build = || {
        Watchdog::builder()
            .timeout_unclamped(Duration::from_millis(50))
            .on_timeout(|_| FIRED_IN.store(std::process::id(), Ordering::SeqCst))
            .build()
            .unwrap()
    };
    let running = build();
    running.start().unwrap();
    assert!(fired());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // Another thread holds the monitor's lock nearly all the time.
        scope.spawn(|| {
            let other = build();
            while !done.load(Ordering::Relaxed) {
                other.start().unwrap();
                other.stop();
            }
        });
        for _ in 0..FORKS {
            // SAFETY: the child calls only what this test checks, and ends with `_exit`.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                let code = check_in_child(&running, fired);
                // SAFETY: `_exit` has no preconditions.
                unsafe { libc::_exit(code) };
            }
            assert!(pid > 0);
            let mut status = 0;
            // SAFETY: `pid` is our child and `status` is writable.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            assert_eq!(status, 0, "the child's status");
            print_line("child ok");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(running.is_running());
    print_line("all ok");
}

// WD-4: one thread serves 100,000 watchdogs and needs little processor time.
#[test]
fn very_many_watchdogs_need_little_processor_time() {
    let process = Process::run("many");
    while process.receive() != "measured" {}
    let line = process.receive();
    let (threads, percent) = line.split_once(' ').unwrap();
    assert_eq!(threads, "1", "one monitor thread");
    let percent: f64 = percent.parse().unwrap();
    assert!(percent <= MAX_SHARE, "{percent} % of a processor");
}

fn many() {
    let watchdogs: Vec<_> = (0..100_000)
        .map(|i| {
            let watchdog = Watchdog::builder().timeout(Duration::from_millis(2000 + i % 30_000)).build().unwrap();
            watchdog.start().unwrap();
            watchdog
        })
        .collect();
    let monitors = || {
        fs::read_dir("/proc/self/task")
            .unwrap()
            .map_while(Result::ok)
            .map(|task| task.path())
            .filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm == "backstay-watch\n"))
    };
    // Processor time of the monitor thread, in nanoseconds.
    let cpu_time = || -> u64 {
        let schedstat = fs::read_to_string(monitors().next().unwrap().join("schedstat")).unwrap();
        schedstat.split(' ').next().unwrap().parse().unwrap()
    };
    let ping_for = |rounds| {
        for _ in 0..rounds {
            watchdogs.iter().for_each(Watchdog::ping);
            print_line("pinged");
            pause(Duration::from_millis(200));
        }
    };
    ping_for(10);
    let (clock, threads) = (Clock::system(), monitors().count());
    // The best of several runs counts: on a busy machine the same work takes longer.
    let mut percent = f64::MAX;
    for _ in 0..10 {
        let (from, before) = (clock.now(), cpu_time());
        ping_for(5);
        let (ran, took) = (cpu_time() - before, clock.now().since(from));
        #[allow(clippy::cast_precision_loss)]
        let share = ran as f64 / took.as_nanos() as f64 * 100.0;
        percent = percent.min(share);
        if percent <= MAX_SHARE {
            break;
        }
    }
    print_line("measured");
    print_line(&format!("{threads} {percent:.3}"));
}
