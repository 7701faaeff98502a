//! Shutdowns with real signals. Each scenario runs in a child process: this test binary, started again.
#![cfg(feature = "shutdown")]
#![cfg(all(unix, not(backstay_loom)))]
#![allow(clippy::unwrap_used)]
#![allow(unsafe_code)] // foreign handlers, and forks, in the children

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use backstay::clock::ManualClock;
use backstay::shutdown::{CallbackOutcome, GracefulShutdown, Signal};
use libc::{SIGINT, SIGTERM, SIGUSR1, c_int};

const SCENARIO: &str = "BACKSTAY_TEST_SCENARIO";

/// The process of a scenario. If it does not end in time, it is killed and the test fails.
struct Scenario {
    child: Child,
    output: BufReader<ChildStdout>,
    _ended: Sender<()>,
}

impl Scenario {
    fn start(name: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(SCENARIO, name)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (ended, end) = channel();
        let pid = child.id();
        thread::spawn(move || {
            if end.recv_timeout(Duration::from_secs(60)) == Err(RecvTimeoutError::Timeout) {
                kill(pid, libc::SIGKILL);
            }
        });
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output, _ended: ended }
    }

    /// Reads up to the line that ends with `word`.
    fn until(mut self, word: &str) -> Self {
        let mut line = String::new();
        while !line.trim_end().ends_with(word) {
            line.clear();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "ended before it printed {word:?}");
        }
        self
    }

    fn send(self, signal: c_int) -> Self {
        kill(self.child.id(), signal);
        self
    }

    fn end(mut self) -> (ExitStatus, String) {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap(), rest)
    }
}

fn kill(pid: u32, signal: c_int) {
    // SAFETY: no preconditions.
    unsafe { libc::kill(pid.cast_signed(), signal) };
}

fn raise(signal: c_int) {
    // SAFETY: no preconditions.
    unsafe { libc::raise(signal) };
}

fn say(word: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{word}").unwrap();
    out.flush().unwrap();
}

fn hang() {
    loop {
        thread::park();
    }
}

#[test]
#[ignore = "run by the other tests, as a child process"]
fn child() {
    let Ok(scenario) = std::env::var(SCENARIO) else { return };
    match scenario.as_str() {
        "clean" => clean(),
        "leaves" => leaves(),
        "hangs" => hangs(),
        "hangs forever" => hangs_forever(),
        "holds the output" => holds_the_output(),
        "triggered" => triggered(),
        "triggered and done" => triggered_and_done(),
        "lock" => lock(),
        "uninstalled" => uninstalled(),
        "foreign after" => foreign_after(),
        "foreign before" => foreign_before(),
        "over and over" => over_and_over(),
        "too many" => too_many(),
        "left behind" => left_behind(),
        "closes descriptors" => closes_descriptors(),
        "two" => two(),
        "registers" => registers(),
        "errno" => errno(),
        "forks" => forks(),
        #[cfg(feature = "tokio")]
        "tokio" => tokio_signal(),
        other => panic!("no scenario {other:?}"),
    }
}

// GS-2, GS-3: SIGTERM and SIGINT by default.
#[test]
fn a_signal_runs_the_callbacks_and_does_not_end_the_process() {
    for signal in [SIGTERM, SIGINT] {
        let (status, output) = Scenario::start("clean").until("ready").send(signal).end();
        assert!(status.success(), "{status}");
        let words: Vec<_> = output.lines().take(3).collect();
        assert_eq!(words, ["first", "second", "over"]);
    }
}

fn clean() {
    let shutdown = GracefulShutdown::new();
    shutdown.register("second", || say("second")).unwrap();
    shutdown.callback("first").priority(1).register_async(|| async { say("first") }).unwrap();
    shutdown.install().unwrap();
    say("ready");
    assert!(shutdown.wait().is_clean());
    say("over");
}

// GS-7: returning from `main` does not cut callbacks off.
#[test]
fn a_main_that_returns_at_once_waits_for_the_callbacks() {
    let (status, output) = Scenario::start("leaves").until("ready").send(SIGTERM).until("left").end();
    assert!(status.success(), "{status}");
    assert!(output.starts_with("late\n"), "{output}");
}

fn leaves() {
    let shutdown = GracefulShutdown::new();
    let (leave, left) = channel();
    shutdown
        .register("late", move || {
            left.recv().unwrap();
            thread::park_timeout(Duration::from_millis(100));
            say("late");
        })
        .unwrap();
    shutdown.install().unwrap();
    say("ready");
    while !shutdown.begun_within(Duration::from_secs(60)) {}
    say("left");
    leave.send(()).unwrap();
}

// GS-5: a second signal, the same or another one, exits with 128 + its number.
#[test]
fn a_second_signal_exits_at_once() {
    for second in [SIGTERM, SIGINT] {
        let scenario = Scenario::start("hangs forever").until("ready").send(SIGTERM).until("hangs");
        let (status, _) = scenario.send(second).end();
        assert_eq!(status.code(), Some(128 + second));
    }
}

fn hangs_forever() {
    let shutdown = GracefulShutdown::new();
    shutdown.register("hangs", || (say("hangs"), hang()).1).unwrap();
    shutdown.install().unwrap();
    say("ready");
    shutdown.wait();
}

// GS-4, GS-5: the other callbacks run, then the process ends with the forced exit code.
#[test]
fn the_process_ends_by_force_if_a_callback_still_hangs() {
    for scenario in ["hangs", "holds the output"] {
        let (status, output) = Scenario::start(scenario).until("ready").send(SIGTERM).end();
        assert_eq!(status.code(), Some(7), "{scenario}");
        if scenario == "hangs" {
            assert_eq!(output, "hangs\nafter\n");
        }
    }
}

fn forced() -> GracefulShutdown {
    GracefulShutdown::builder().timeout(Duration::from_millis(300)).force_exit_code(7).build().unwrap()
}

fn hangs() {
    // Uses up the total timeout on a manual clock, so that a busy machine does not matter.
    let hand = ManualClock::new();
    let builder = GracefulShutdown::builder().force_exit_code(7).clock(&hand);
    let shutdown = builder.build().unwrap();
    let hangs = move || {
        say("hangs");
        hand.advance(Duration::from_secs(30));
        hang();
    };
    shutdown.callback("hangs").priority(1).register(hangs).unwrap();
    shutdown.callback("panics").priority(2).register(|| -> () { panic!("lost") }).unwrap();
    shutdown.register("after", || say("after")).unwrap();
    shutdown.install().unwrap();
    say("ready");
    shutdown.wait();
    say("a waiter was woken, although the process ends by force");
}

fn holds_the_output() {
    let shutdown = forced();
    shutdown
        .register("hangs", || {
            let _held = std::io::stdout().lock();
            hang();
        })
        .unwrap();
    shutdown.install().unwrap();
    say("ready");
    shutdown.wait();
}

// GS-5: `trigger()` alone does not end the process; a signal during the shutdown is the first signal.
#[test]
fn a_triggered_shutdown_ends_the_process_only_after_signals() {
    let (status, output) = Scenario::start("triggered and done").end();
    assert!(status.success(), "{status}");
    assert!(output.contains("still here"), "{output}");

    let scenario = Scenario::start("triggered").until("hangs").send(SIGTERM);
    let (status, _) = scenario.until("counted").send(SIGINT).end();
    // The dispatcher may handle both at once, in either order.
    assert!(matches!(status.code(), Some(130 | 143)), "{status}");
}

fn triggered_and_done() {
    let shutdown = forced();
    shutdown.register("hangs", hang).unwrap();
    shutdown.install().unwrap();
    assert_eq!(shutdown.trigger().steps[0].outcome, CallbackOutcome::TimedOut);
    say("still here");
}

fn triggered() {
    count_with(SIGTERM, false);
    let shutdown = GracefulShutdown::new();
    shutdown
        .register("hangs", || {
            say("hangs");
            while CALLS.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
            thread::park_timeout(Duration::from_millis(100));
            say("counted");
            hang();
        })
        .unwrap();
    shutdown.install().unwrap();
    shutdown.trigger();
}

// GS-3: the interrupted thread holds a lock that the callback needs.
#[test]
fn a_lock_of_the_interrupted_thread_causes_no_deadlock() {
    let (status, _) = Scenario::start("lock").end();
    assert!(status.success(), "{status}");
}

fn lock() {
    let shutdown = GracefulShutdown::new();
    let lock = Arc::new(Mutex::new(0));
    let theirs = Arc::clone(&lock);
    shutdown.register("needs", move || *theirs.lock().unwrap() += 1).unwrap();
    shutdown.install().unwrap();
    let held = lock.lock().unwrap();
    raise(SIGTERM);
    assert!(shutdown.begun_within(Duration::from_secs(60)));
    assert!(shutdown.wait_timeout(Duration::from_millis(50)).is_none());
    drop(held);
    assert!(shutdown.wait().is_clean());
    assert_eq!(*lock.lock().unwrap(), 1);
}

// GS-2
#[test]
fn after_uninstall_the_signal_ends_the_process() {
    let (status, _) = Scenario::start("uninstalled").until("ready").send(SIGTERM).end();
    assert_eq!(status.signal(), Some(SIGTERM), "{status}");
}

fn uninstalled() {
    let shutdown = GracefulShutdown::new();
    let other = shutdown.clone();
    for _ in 0..100 {
        shutdown.install().unwrap();
        other.install().unwrap();
        assert!(shutdown.is_installed() && other.is_installed());
        other.uninstall();
        assert!(!shutdown.is_installed() && !other.is_installed());
    }
    say("ready");
    hang();
}

static CALLS: AtomicU32 = AtomicU32::new(0);
static SENDER: AtomicI32 = AtomicI32::new(0);
/// The action that was installed before [`over`].
static UNDER: Mutex<Option<libc::sigaction>> = Mutex::new(None);

extern "C" fn plain(_: c_int) {
    CALLS.fetch_add(1, Ordering::SeqCst);
    set_errno(5);
}

extern "C" fn with_info(_: c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    CALLS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the pointer comes from the kernel, through our handler or not.
    SENDER.store(unsafe { (*info).si_pid() }, Ordering::SeqCst);
}

/// A foreign handler that calls the previous one.
extern "C" fn over(signal: c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut libc::c_void);
    CALLS.fetch_add(1, Ordering::SeqCst);
    let under = UNDER.try_lock().unwrap().unwrap().sa_sigaction;
    // SAFETY: only installed over a handler of this type.
    unsafe { std::mem::transmute::<usize, Handler>(under)(signal, info, context) };
}

fn action(signal: c_int, address: Option<(usize, c_int)>) -> libc::sigaction {
    // SAFETY: all zeroes is a valid sigaction; both pointers are valid or null.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        let mut new: libc::sigaction = std::mem::zeroed();
        let new = address.map_or(std::ptr::null(), |(handler, flags)| {
            new.sa_sigaction = handler;
            new.sa_flags = flags;
            &raw const new
        });
        assert_eq!(libc::sigaction(signal, new, &raw mut old), 0);
        old
    }
}

fn count_with(signal: c_int, info: bool) -> libc::sigaction {
    type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut libc::c_void);
    let plain = (plain as extern "C" fn(c_int) as usize, 0);
    let with_info = (with_info as Handler as usize, libc::SA_SIGINFO);
    action(signal, Some(if info { with_info } else { plain }))
}

fn set_errno(value: c_int) {
    // SAFETY: this thread's errno.
    unsafe { *libc::__errno_location() = value };
}

// GS-2: a foreign handler that is installed over ours stays after `uninstall`.
#[test]
fn a_foreign_handler_over_ours_stays() {
    let (status, _) = Scenario::start("foreign after").end();
    assert!(status.success(), "{status}");
}

fn foreign_after() {
    let signals = [Signal::from_raw(SIGUSR1)];
    let shutdown = GracefulShutdown::builder().signals(signals).build().unwrap();
    shutdown.install().unwrap();
    count_with(SIGUSR1, false);
    shutdown.uninstall();
    raise(SIGUSR1);
    assert_eq!(CALLS.load(Ordering::SeqCst), 1);
    assert!(!shutdown.is_shutting_down());
    // Ours is installed over the foreign handler.
    shutdown.install().unwrap();
    raise(SIGUSR1);
    shutdown.wait();
    assert_eq!(CALLS.load(Ordering::SeqCst), 2);
}

// GS-2: handlers that were installed before ours are still called.
#[test]
fn a_foreign_handler_under_ours_is_called() {
    let (status, _) = Scenario::start("foreign before").end();
    assert!(status.success(), "{status}");
}

fn foreign_before() {
    for (signal, info) in [(SIGUSR1, false), (libc::SIGUSR2, true)] {
        let ours = GracefulShutdown::builder().signals([Signal::USR1, Signal::USR2]).build().unwrap();
        count_with(signal, info);
        let before = action(signal, None);
        ours.install().unwrap();
        raise(signal);
        assert_eq!(CALLS.swap(0, Ordering::SeqCst), 1);
        ours.uninstall();
        let after = action(signal, None);
        assert_eq!((after.sa_sigaction, after.sa_flags), (before.sa_sigaction, before.sa_flags));
        raise(signal);
        assert_eq!(CALLS.swap(0, Ordering::SeqCst), 1);
        assert!(ours.wait_timeout(Duration::from_secs(60)).is_some(), "the signal before `uninstall` counts");
    }
    assert_eq!(SENDER.load(Ordering::SeqCst), std::process::id().cast_signed());
}

// GS-2: ours is installed over a foreign handler over ours; the chain has no cycle, and each handler runs once a
// signal.
#[test]
fn handlers_installed_over_one_another_run_once_each() {
    let (status, _) = Scenario::start("over and over").end();
    assert!(status.success(), "{status}");
}

fn over_and_over() {
    type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut libc::c_void);
    let first = GracefulShutdown::builder().signals([Signal::USR1]).build().unwrap();
    first.install().unwrap();
    let under = action(SIGUSR1, Some((over as Handler as usize, libc::SA_SIGINFO)));
    *UNDER.lock().unwrap() = Some(under);
    for _ in 0..10 {
        first.uninstall();
        first.install().unwrap();
    }
    let (release, released) = channel::<()>();
    first.register("stays", move || released.recv().unwrap()).unwrap();
    raise(SIGUSR1);
    assert!(first.begun_within(Duration::from_secs(60)));
    // If the signal counted twice, it would end the process now.
    assert!(first.wait_timeout(Duration::from_millis(200)).is_none());
    release.send(()).unwrap();
    first.wait();
    assert_eq!(CALLS.swap(0, Ordering::SeqCst), 1);
    // After `uninstall` the foreign handler is on top again.
    first.uninstall();
    assert_eq!(action(SIGUSR1, None).sa_sigaction, over as Handler as usize);
    raise(SIGUSR1);
    assert_eq!(CALLS.swap(0, Ordering::SeqCst), 1);
}

// GS-2: a fifth handler of ours in one chain is an error that says what to do, and changes nothing.
#[test]
fn a_fifth_handler_over_foreign_ones_is_rejected() {
    let (status, _) = Scenario::start("too many").end();
    assert!(status.success(), "{status}");
}

fn too_many() {
    let shutdown = GracefulShutdown::builder().signals([Signal::USR2, Signal::USR1]).build().unwrap();
    let mut ours = 0;
    for _ in 0..4 {
        shutdown.install().unwrap();
        ours = count_with(SIGUSR1, true).sa_sigaction;
        shutdown.uninstall();
    }
    let error = shutdown.install().unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to handle SIGUSR1: four handlers of this library are already in its chain, each below a foreign one; \
         use `trigger()`, or forward the signal with `on_signal`"
    );
    assert!(!shutdown.is_installed());
    assert_eq!(action(libc::SIGUSR2, None).sa_sigaction, libc::SIG_DFL);
    raise(SIGUSR1);
    assert_eq!(CALLS.swap(0, Ordering::SeqCst), 1);
    assert!(!shutdown.is_shutting_down());
    // Without the topmost foreign handler, our handler below it can be used again.
    action(SIGUSR1, Some((ours, libc::SA_SIGINFO)));
    shutdown.install().unwrap();
    raise(SIGUSR1);
    assert!(shutdown.begun_within(Duration::from_secs(60)));
    assert_eq!(CALLS.swap(0, Ordering::SeqCst), 1);
}

// GS-2: a foreign handler over ours is removed after `uninstall`, and restores ours; the signal still has its own
// effect, and `install` works again.
#[test]
fn a_signal_at_a_handler_restored_after_uninstall_has_its_own_effect() {
    let (status, _) = Scenario::start("left behind").end();
    assert_eq!(status.signal(), Some(SIGTERM), "{status}");
}

fn left_behind() {
    let shutdown = GracefulShutdown::new();
    let leave_behind = || {
        shutdown.install().unwrap();
        let ours = count_with(SIGTERM, false);
        shutdown.uninstall();
        action(SIGTERM, Some((ours.sa_sigaction, ours.sa_flags)));
    };
    leave_behind();
    let again = GracefulShutdown::new();
    again.install().unwrap();
    raise(SIGTERM);
    again.wait();
    again.uninstall();
    leave_behind();
    raise(SIGTERM);
    unreachable!("the signal ends the process");
}

// GS-2, GS-3: signals still work in a program that closes all descriptors, as daemons do at their start.
#[test]
fn signals_are_handled_after_their_pipe_was_closed() {
    let (status, _) = Scenario::start("closes descriptors").end();
    assert!(status.success(), "{status}");
}

fn closes_descriptors() {
    let shutdown = GracefulShutdown::new();
    shutdown.install().unwrap();
    for descriptor in 3..1024 {
        // SAFETY: only the dispatcher of this process uses any of them, and it has to cope with that.
        unsafe { libc::close(descriptor) };
    }
    raise(SIGTERM);
    assert!(shutdown.begun_within(Duration::from_secs(50)));
    shutdown.wait();
}

// GS-2
#[test]
fn two_shutdowns_begin_on_one_signal() {
    let (status, _) = Scenario::start("two").end();
    assert!(status.success(), "{status}");
}

fn two() {
    let (one, two, gone) = (GracefulShutdown::new(), GracefulShutdown::new(), GracefulShutdown::new());
    for shutdown in [&one, &two, &gone] {
        shutdown.install().unwrap();
    }
    gone.uninstall();
    raise(SIGTERM);
    one.wait();
    two.wait();
    assert!(!gone.is_shutting_down());
}

// GS-1, GS-3: a signal at any moment of a registration; GS-5: a second one at any moment of the shutdown.
#[test]
fn signals_at_random_moments_lose_nothing() {
    for round in 0..30_u64 {
        let scenario = Scenario::start("registers").until("ready");
        thread::park_timeout(Duration::from_micros(round * 997 % 5_000));
        let scenario = scenario.send(SIGTERM);
        let scenario = if round % 3 == 0 {
            thread::park_timeout(Duration::from_micros(round * 331 % 3_000));
            scenario.send(SIGTERM)
        } else {
            scenario
        };
        let (status, output) = scenario.end();
        let second = round % 3 == 0;
        match (status.code(), status.signal()) {
            (Some(0), _) => assert!(output.contains("all callbacks ran"), "round {round}: {output}"),
            (Some(143), _) => assert!(second, "round {round}: {output}"),
            // The second signal arrived after the handlers were restored.
            (None, Some(SIGTERM)) => assert!(second && output.contains("all callbacks"), "round {round}: {output}"),
            _ => panic!("round {round}: {status} {output}"),
        }
    }
}

fn registers() {
    let shutdown = GracefulShutdown::new();
    shutdown.install().unwrap();
    let runs = Arc::new(AtomicU32::new(0));
    let registered: usize = thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|worker| {
                let (shutdown, runs) = (&shutdown, &runs);
                scope.spawn(move || {
                    let mut registered = 0;
                    for round in 0.. {
                        let count = Arc::clone(runs);
                        let callback = move || {
                            count.fetch_add(1, Ordering::SeqCst);
                        };
                        if shutdown.register(&format!("{worker} {}", round % 20), callback).is_ok() {
                            registered += 1;
                        }
                        if shutdown.unregister(&format!("{worker} {}", (round + 10) % 20)) {
                            registered -= 1;
                        }
                        if shutdown.is_shutting_down() {
                            break;
                        }
                    }
                    registered
                })
            })
            .collect();
        say("ready");
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    let report = shutdown.wait();
    assert!(report.is_clean());
    assert_eq!(report.steps.len(), registered);
    assert_eq!(runs.load(Ordering::SeqCst) as usize, registered);
    say("all callbacks ran");
}

// GS-3
#[test]
fn the_handler_restores_errno() {
    let (status, _) = Scenario::start("errno").end();
    assert!(status.success(), "{status}");
}

fn errno() {
    count_with(SIGUSR1, false);
    let shutdown = GracefulShutdown::builder().signals([Signal::USR1]).build().unwrap();
    shutdown.install().unwrap();
    set_errno(77);
    raise(SIGUSR1);
    let errno = std::io::Error::last_os_error().raw_os_error();
    assert_eq!((errno, CALLS.load(Ordering::SeqCst)), (Some(77), 1));
    shutdown.wait();
}

// GS-2: in a forked child no handler is installed, and `install` can be called again.
#[test]
fn a_signal_ends_a_forked_child_unless_it_installs_again() {
    let (status, output) = Scenario::start("forks").end();
    assert!(status.success(), "{status}");
    assert!(output.contains("child's own"), "{output}");
}

fn forks() {
    let shutdown = GracefulShutdown::new();
    shutdown.register("says", || say("child's own")).unwrap();
    shutdown.install().unwrap();
    let without_handler = fork(|| {
        assert!(!shutdown.is_installed());
        raise(SIGTERM);
    });
    assert_eq!(without_handler.signal(), Some(SIGTERM));
    let with_handler = fork(|| {
        shutdown.install().unwrap();
        raise(SIGTERM);
        assert!(shutdown.wait().is_clean());
    });
    assert_eq!(with_handler.code(), Some(0));
    assert!(shutdown.is_installed() && !shutdown.is_shutting_down());
    // A child forked while the callbacks run: no thread of the child runs them, so its own trigger does.
    let (started, begun) = channel();
    let (release, released) = channel::<()>();
    shutdown.unregister("says");
    shutdown
        .register("slow", move || {
            started.send(()).unwrap();
            let _ = released.recv();
        })
        .unwrap();
    shutdown.on_signal(Signal::TERM);
    begun.recv().unwrap();
    let during_run = fork(|| drop(shutdown.trigger()));
    assert_eq!(during_run.code(), Some(0));
    release.send(()).unwrap();
    assert!(shutdown.wait().is_clean());
}

fn fork(child: impl FnOnce()) -> ExitStatus {
    // SAFETY: the parent's other threads hold no lock that the child needs: they wait.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            let succeeded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).is_ok();
            libc::_exit(i32::from(!succeeded));
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
        ExitStatus::from_raw(status)
    }
}

// GS-2: `tokio::signal` receives the signal too, whether it was installed before or after us.
#[cfg(feature = "tokio")]
#[test]
fn tokio_signal_still_works() {
    let (status, _) = Scenario::start("tokio").end();
    assert!(status.success(), "{status}");
}

#[cfg(feature = "tokio")]
fn tokio_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut before = signal(SignalKind::user_defined1()).unwrap();
        let shutdown = GracefulShutdown::builder().signals([Signal::USR1, Signal::USR2]).build().unwrap();
        shutdown.register_async("works", || async { tokio::task::yield_now().await }).unwrap();
        shutdown.install().unwrap();
        let mut after = signal(SignalKind::user_defined2()).unwrap();
        raise(SIGUSR1);
        before.recv().await.unwrap();
        assert!(shutdown.wait_async().await.is_clean());
        shutdown.uninstall();
        raise(SIGUSR1);
        before.recv().await.unwrap();
        raise(libc::SIGUSR2);
        after.recv().await.unwrap();
    });
}
