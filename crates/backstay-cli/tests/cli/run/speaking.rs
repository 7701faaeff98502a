//! systemd's protocol: programs that speak it, and a supervisor that speaks it to its own.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use rustix::process::Signal;

use super::{AT_ONCE, Supervised, python};
use crate::{PATIENCE, backstay, until};

#[test]
fn ready_status_and_a_missing_watchdog() {
    let script = r#"
assert os.environ["WATCHDOG_USEC"] == "1500000"
first = not os.path.exists("second")
open("second", "w").close()
say("STATUS=warming up")
say("READY=1\nSTATUS=serving")
say("WATCHDOG=1")
if first: time.sleep(1000)
"#;
    let options = [&AT_ONCE[..], &["--health", "notify", "--timeout", "1500ms", "--start-timeout", "1m"]].concat();
    let Some(mut it) = python(&options, script) else { return };
    it.news("ready");
    until("status shows what it says", || {
        let output = backstay(it.path()).args(["status"]).output().unwrap();
        crate::stdout(&output).contains("  running · serving\n")
    });
    assert_eq!(it.news("froze")["source"], "notify");
    assert_eq!(it.code(), 0);
}

#[test]
fn what_the_last_start_said_does_not_hold_for_the_next() {
    let script = r#"
if os.environ["BACKSTAY_RESTARTS"] == "0":
    say("STATUS=first")
    sys.exit(1)
open("pid", "w").write(f"{os.getpid()}\n")
time.sleep(1000)
"#;
    let Some(it) = python(&AT_ONCE, script) else { return };
    it.pid("pid");
    until("status shows it", || {
        let output = backstay(it.path()).args(["status"]).output().unwrap();
        let table = crate::stdout(&output);
        table.contains("  running · 1 restart\n")
    });
}

// CL-6: a text that changes all the time is written now and then, and the last one is there in the end.
#[test]
fn status_texts_without_end_are_few_writes() {
    let script = r#"
end = time.monotonic() + 3
count = 0
while time.monotonic() < end:
    count += 1
    say(f"STATUS=text {count}")
open("pid", "w").write(f"{count}\n")
time.sleep(1000)
"#;
    let Some(it) = python(&[], script) else { return };
    let last = it.pid("pid").as_raw_nonzero().get();
    let state = || backstay::Heartbeat::read_state(it.path().join("run/it.heartbeat")).unwrap();
    until("the last text is there", || state().metadata["says"] == format!("text {last}"));
    let beats = state().sequence.unwrap();
    assert!(beats < 50 && last > 200, "{beats} beats of {last} texts");
}

#[test]
fn more_time_and_an_end_that_was_told() {
    let script = r#"
say("EXTEND_TIMEOUT_USEC=60000000")
time.sleep(5)
say("READY=1")
say("STOPPING=1")
sys.exit(4)
"#;
    let options = ["--health", "notify", "--timeout", "30s", "--start-timeout", "4s", "--restart", "never"];
    let Some(mut it) = python(&options, script) else { return };
    it.news("ready");
    it.news("stopping");
    assert_eq!(it.code(), 4);
}

#[test]
fn a_program_can_say_that_it_froze() {
    let Some(mut it) = python(&["--restart", "never"], "say('WATCHDOG=trigger')\ntime.sleep(1000)") else { return };
    it.news("froze");
    assert_eq!(it.code(), 143);
}

// A program of others that was not written for us.
#[test]
fn systemd_notify_is_understood() {
    if Command::new("systemd-notify").arg("--version").output().is_err() {
        eprintln!("passed over: no systemd-notify");
        return;
    }
    let script = "systemd-notify --ready --status='all is well'; exit 3";
    let mut it = Supervised::sh(&["--health", "notify", "--restart", "never", "--start-timeout", "1m"], script);
    it.news("ready");
    assert_eq!(it.code(), 3);
}

// A server of others, as Debian ships it: it knows of systemd alone.
#[test]
fn a_real_server_says_that_it_serves() {
    if Command::new("redis-server").arg("--version").output().is_err() {
        eprintln!("passed over: no redis-server");
        return;
    }
    let server = ["redis-server", "--supervised", "systemd", "--port", "0", "--unixsocket", "redis.sock", "--save", ""];
    let mut it = Supervised::start(&["--restart", "never", "--grace", "1m"], &server, |_| {});
    it.news("ready");
    until("status shows what it says", || {
        let output = backstay(it.path()).arg("status").output().unwrap();
        crate::stdout(&output).contains("Ready to accept connections")
    });
    let probe = backstay(it.path()).args(["probe", "--strict", "run/it.heartbeat"]).output().unwrap();
    assert_eq!(probe.status.code(), Some(0), "{}", crate::stdout(&probe));
    it.signal(Signal::TERM);
    it.news("stopping");
    assert_eq!(it.code(), 0);
}

#[test]
fn a_good_citizen_under_systemd() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("above");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let hears = |what: &str| {
        let mut bytes = [0; 4096];
        until(what, || {
            let length = socket.recv(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes[..length]).lines().any(|line| line == what)
        });
    };
    let mut it = Supervised::start(
        &[],
        &["sh", "-c", "trap 'exit 0' TERM; echo $$ > pid; while :; do sleep 0.05; done"],
        |it| {
            it.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000");
        },
    );
    hears("READY=1");
    hears("WATCHDOG=1");
    hears("WATCHDOG=1");
    it.pid("pid");
    it.signal(Signal::TERM);
    hears("STOPPING=1");
    assert_eq!(it.code(), 0);
}
