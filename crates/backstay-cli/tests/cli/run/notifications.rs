//! sd_notify(3): programs that use it, and a supervisor that uses it towards its own supervisor.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use rustix::process::Signal;

use super::{AT_ONCE, Supervised, python};
use crate::{TIMEOUT, backstay, until};

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
    it.log_event("ready");
    until("status shows its text", || {
        let output = backstay(it.path()).args(["status"]).output().unwrap();
        crate::stdout(&output).contains("  running · serving\n")
    });
    assert_eq!(it.log_event("froze")["source"], "notify");
    assert_eq!(it.code(), 0);
}

#[test]
fn a_status_text_ends_with_its_start() {
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

// CL-6: a status text that changes all the time is written once a second, and the last one is written.
#[test]
fn a_flood_of_status_texts_causes_few_writes() {
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
fn extended_time_and_an_announced_stop() {
    let script = r#"
say("EXTEND_TIMEOUT_USEC=60000000")
time.sleep(5)
say("READY=1")
say("STOPPING=1")
sys.exit(4)
"#;
    let options = ["--health", "notify", "--timeout", "30s", "--start-timeout", "4s", "--restart", "never"];
    let Some(mut it) = python(&options, script) else { return };
    it.log_event("ready");
    it.log_event("stopping");
    assert_eq!(it.code(), 4);
}

#[test]
fn a_program_can_report_a_freeze() {
    let Some(mut it) = python(&["--restart", "never"], "say('WATCHDOG=trigger')\ntime.sleep(1000)") else { return };
    it.log_event("froze");
    assert_eq!(it.code(), 143);
}

// A standard program, not written for Backstay.
#[test]
fn systemd_notify_is_understood() {
    if Command::new("systemd-notify").arg("--version").output().is_err() {
        eprintln!("passed over: no systemd-notify");
        return;
    }
    let script = "systemd-notify --ready --status='40 orders'; exit 3";
    let mut it = Supervised::sh(&["--health", "notify", "--restart", "never", "--start-timeout", "1m"], script);
    it.log_event("ready");
    assert_eq!(it.code(), 3);
}

// A server as Debian ships it, which supports systemd.
#[test]
fn a_real_server_reports_ready() {
    if Command::new("redis-server").arg("--version").output().is_err() {
        eprintln!("passed over: no redis-server");
        return;
    }
    let server = ["redis-server", "--supervised", "systemd", "--port", "0", "--unixsocket", "redis.sock", "--save", ""];
    let mut it = Supervised::start(&["--restart", "never", "--grace", "1m"], &server, |_| {});
    it.log_event("ready");
    until("status shows its text", || {
        let output = backstay(it.path()).arg("status").output().unwrap();
        crate::stdout(&output).contains("Ready to accept connections")
    });
    let probe = backstay(it.path()).args(["probe", "--strict", "run/it.heartbeat"]).output().unwrap();
    assert_eq!(probe.status.code(), Some(0), "{}", crate::stdout(&probe));
    it.signal(Signal::TERM);
    it.log_event("stopping");
    assert_eq!(it.code(), 0);
}

#[test]
fn the_supervisor_notifies_systemd() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("above");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
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
