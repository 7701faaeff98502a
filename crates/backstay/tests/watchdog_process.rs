//! The watchdog and its process: stopped, forked, and with very many watchdogs in it.
//!
//! Each test runs `child` of this file in a process of its own and talks to it by lines.
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

const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than a busy machine stalls between "pinged" and the signal that stops the process.
const FREEZE: Duration = Duration::from_secs(5);
const FORKS: u32 = 40;
/// 1 % is what an optimised build keeps to on an idle machine.
const SHARE: f64 = if cfg!(debug_assertions) { 20.0 } else { 4.0 };

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
                // What the test harness prints may stand before it in the same line.
                if let Some((_, said)) = line.split_once("child: ") {
                    let _ = sender.send(said.to_owned());
                }
            }
        });
        Self { child, stdin, lines }
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    fn hear(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("the child speaks")
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

fn say(line: &str) {
    println!("child: {line}");
}

fn pause(duration: Duration) {
    let (_sender, never) = channel::<()>();
    let _ = never.recv_timeout(duration);
}

#[test]
#[ignore = "run by the others, as a process"]
fn child() {
    match env::var("BACKSTAY_TEST_ROLE").as_deref() {
        Ok("stopped") => stopped(),
        Ok("forks") => forks(),
        Ok("many") => many(),
        _ => {}
    }
}

// WD-7: the time for which the process was stopped is nobody's freeze; the time after it is.
#[test]
fn a_stopped_process_has_not_frozen() {
    let clock = Clock::system();
    let mut process = Process::run("stopped");
    for _ in 0..2 {
        process.tell("ping");
        assert_eq!(process.hear(), "pinged");
        process.signal(Signal::STOP);
        pause(Duration::from_secs(2));
        let before = clock.now();
        process.signal(Signal::CONT);
        assert_eq!(process.hear(), "fired", "a real freeze is seen all the same");
        let ran = clock.now().since(before);
        assert!(ran >= FREEZE - Duration::from_millis(100), "fired {ran:?} after the process went on");
    }
}

fn stopped() {
    let watchdog = Watchdog::builder().timeout(FREEZE).on_timeout(|_| say("fired")).build().unwrap();
    watchdog.start().unwrap();
    for _ in io::stdin().lines() {
        watchdog.ping();
        say("pinged");
    }
}

// WD-1, PY-10: in a forked child no watchdog runs, whatever the parent's threads held; each can be started there.
#[test]
fn a_forked_child_starts_its_own() {
    let process = Process::run("forks");
    for _ in 0..FORKS {
        assert_eq!(process.hear(), "well");
    }
    assert_eq!(process.hear(), "all well");
}

fn forks() {
    // In which process the callback ran last. A channel would not do: it has a lock that the child may inherit locked.
    static FIRED_IN: AtomicU32 = AtomicU32::new(0);
    fn fired() -> bool {
        let deadline = Clock::system().now() + PATIENCE / 2;
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
        // Somebody is nearly always within the monitor's lock.
        scope.spawn(|| {
            let other = build();
            while !done.load(Ordering::Relaxed) {
                other.start().unwrap();
                other.stop();
            }
        });
        for _ in 0..FORKS {
            // SAFETY: the child leaves by `_exit`, and what it calls in between is what is being tested.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                let code = if running.is_running() {
                    2
                } else if running.start().is_err() || !running.is_running() {
                    3
                } else if !matches!(running.start(), Err(WatchdogError::AlreadyRunning { .. })) {
                    4
                } else if !fired() {
                    5
                } else {
                    0
                };
                // SAFETY: always is.
                unsafe { libc::_exit(code) };
            }
            assert!(pid > 0);
            let mut status = 0;
            // SAFETY: `pid` is our child, `status` a place to write to.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            assert_eq!(status, 0, "the child's status");
            say("well");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(running.is_running());
    say("all well");
}

// WD-4: one thread serves 100,000, and has next to nothing to do.
#[test]
fn very_many_watchdogs_cost_next_to_nothing() {
    let process = Process::run("many");
    while process.hear() != "measured" {}
    let said = process.hear();
    let (threads, percent) = said.split_once(' ').unwrap();
    assert_eq!(threads, "1", "one monitor thread");
    let percent: f64 = percent.parse().unwrap();
    assert!(percent <= SHARE, "{percent} % of a processor");
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
    // How long the thread has run, in nanoseconds.
    let spent = || -> u64 {
        let schedstat = fs::read_to_string(monitors().next().unwrap().join("schedstat")).unwrap();
        schedstat.split(' ').next().unwrap().parse().unwrap()
    };
    let ping_for = |rounds| {
        for _ in 0..rounds {
            watchdogs.iter().for_each(Watchdog::ping);
            say("pinged");
            pause(Duration::from_millis(200));
        }
    };
    ping_for(10);
    let (clock, threads) = (Clock::system(), monitors().count());
    // The best of several: on a busy machine the same work takes longer.
    let mut percent = f64::MAX;
    for _ in 0..10 {
        let (from, before) = (clock.now(), spent());
        ping_for(5);
        let (ran, took) = (spent() - before, clock.now().since(from));
        #[allow(clippy::cast_precision_loss)]
        let share = ran as f64 / took.as_nanos() as f64 * 100.0;
        percent = percent.min(share);
        if percent <= SHARE {
            break;
        }
    }
    say("measured");
    say(&format!("{threads} {percent:.3}"));
}
