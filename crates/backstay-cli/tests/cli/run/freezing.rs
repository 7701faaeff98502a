//! A freeze is detected, the --on-freeze command runs, and the program is restarted.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Signal, kill_process};

use super::{AT_ONCE, Supervised};

/// The first start freezes after its second heartbeat; the second start is healthy.
const BEATS: &str = r#"beat() {
        echo "{\"timestamp\": \"$(date -u +%FT%T.%NZ)\", \"pid\": $$, \"hostname\": \"$(hostname)\", \"metadata\": {}}" > beat.tmp
        mv beat.tmp "$BACKSTAY_HEARTBEAT_FILE"; }
    echo $$ >> starts; beat; sleep 0.1; beat
    [ $(wc -l < starts) -ge 2 ] && exit 0
    trap 'exit 0' TERM; while :; do sleep 0.05; done"#;

/// In the first start, a separate process writes `degraded` heartbeats with the given cause. The second start needs longer
/// than the timeout for its first heartbeat.
const DEGRADED: &str = r#"
import datetime, json, os, socket, sys, time
first = os.environ["BACKSTAY_RESTARTS"] == "0"
if not first: time.sleep(2.5)
for _ in range(1000 if first else 1):
    now = datetime.datetime.now(datetime.timezone.utc).isoformat()
    state = {"timestamp": now, "pid": os.getpid(), "hostname": socket.gethostname(), "metadata": {}}
    if first: state |= {"status": "degraded", "degraded_by": sys.argv[1]}
    open("beat.tmp", "w").write(json.dumps(state))
    os.replace("beat.tmp", os.environ["BACKSTAY_HEARTBEAT_FILE"])
    if os.path.exists("end"): break
    time.sleep(0.02)
"#;

// CL-3, HB-8: while the main loop is frozen, the heartbeat's thread writes heartbeats that report it.
#[test]
fn a_fired_watchdog_is_a_freeze() {
    let run = |timeout: &str, options: &[&str], cause: &str| {
        let options = [&AT_ONCE[..], &["--timeout", timeout], options].concat();
        Supervised::start(&options, &["python3", "-c", DEGRADED, cause], |_| {})
    };
    for (options, cause) in [(&[][..], "watchdog"), (&["--strict"], "service")] {
        let mut it = run("1s", options, cause);
        assert_eq!(it.log_event("froze")["source"], "heartbeat");
        assert_eq!(it.code(), 0);
    }
    // None of these is frozen. A long timeout, because a program that gets no processor for so long is.
    let cases = [(&["--lenient"][..], "watchdog"), (&[], "target"), (&[], "service")];
    let mut healthy = cases.map(|(options, cause)| run("5s", options, cause));
    healthy.iter_mut().for_each(|it| drop(it.log_event("started")));
    std::thread::sleep(std::time::Duration::from_secs(7));
    for (mut it, case) in healthy.into_iter().zip(cases) {
        fs::write(it.path().join("end"), "").unwrap();
        assert_eq!(it.code(), 0);
        assert!(it.rest().iter().all(|event| event["event"] != "froze"), "{case:?}");
    }
}

// WD-8: the heartbeat file counts from the first heartbeat on, also without --health.
#[test]
fn a_missing_heartbeat_is_a_freeze() {
    for health in [&["--health", "heartbeat", "--start-timeout", "1m"][..], &[]] {
        let options = [&AT_ONCE[..], &["--timeout", "1500ms"], health].concat();
        let mut it = Supervised::sh(&options, BEATS);
        let froze = it.log_event("froze");
        assert_eq!(froze["source"], "heartbeat");
        assert!(froze["inactive"].as_f64().unwrap() >= 1.5, "{froze}");
        assert_eq!(it.log_event("started")["restarts"], 1);
        assert_eq!(it.code(), 0);
    }
}

#[test]
fn a_program_without_heartbeats_is_frozen_only_if_they_are_required() {
    let mut it = Supervised::sh(&["--timeout", "50ms", "--restart", "never"], "sleep 0.5; exit 3");
    assert_eq!(it.code(), 3);
    let mut it = Supervised::sh(&["--timeout", "50ms", "--restart", "never", "--health", "heartbeat"], "sleep 1000");
    assert_eq!(it.log_event("froze")["source"], "heartbeat");
    assert_eq!(it.code(), 143);
}

#[test]
fn the_health_checks_are_logged() {
    let watched = |options: &[&str]| {
        let it = Supervised::sh(&[options, &["--restart", "never"]].concat(), "exit 0");
        it.log_event("health")["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(watched(&[]), "health: heartbeat or sd_notify, none seen yet");
    assert_eq!(watched(&["--health", "notify"]), "health: notify, timeout 30 s");
    let options = ["--health", "output", "--health", "heartbeat", "--timeout", "5", "--start-timeout", "1m"];
    assert_eq!(watched(&options), "health: heartbeat and output, timeout 5 s, start timeout 60 s");
    let it = Supervised::sh(&["--timeout", "50ms", "--restart", "never"], "sleep 1000");
    let text = it.log_event("health_not_watched")["message"].as_str().unwrap().to_owned();
    assert!(text.starts_with("health: not watched, no heartbeat or sd_notify seen in "), "{text}");
    it.signal(Signal::TERM);
}

// Python writes to a pipe only when it has 8 KiB, or when it ends; here it ends after its output was seen.
#[test]
fn a_program_that_prints_is_not_frozen() {
    let script = "
import os, sys, time
print('tick')
while not os.path.exists('seen'): time.sleep(0.02)
sys.exit(9)";
    for options in [&[][..], &["--tty"]] {
        let options = [options, &["--health", "output", "--timeout", "60s", "--restart", "never"]].concat();
        let mut it = Supervised::start(&options, &["python3", "-c", script], |it| {
            it.env_remove("PYTHONUNBUFFERED").stdout(Stdio::piped());
        });
        let mut line = String::new();
        BufReader::new(it.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "tick\n", "{options:?}");
        fs::write(it.path().join("seen"), "").unwrap();
        assert_eq!(it.code(), 9);
    }
    // A variable that the user set is kept.
    let mut it = Supervised::start(
        &["--health", "output", "--restart", "never"],
        &["sh", "-c", "exit $PYTHONUNBUFFERED"],
        |it| {
            it.env("PYTHONUNBUFFERED", "7");
        },
    );
    assert_eq!(it.code(), 7);
}

#[test]
fn missing_output_is_a_freeze_with_health_output() {
    let options = [&AT_ONCE[..], &["--health", "output", "--timeout", "1s"]].concat();
    let script = "echo $$ >> starts; [ $(wc -l < starts) -ge 2 ] && exit 0; echo a; echo b >&2; sleep 1000";
    let mut it = Supervised::sh(&options, script);
    assert_eq!(it.log_event("froze")["source"], "output");
    assert_eq!(it.code(), 0);
}

// A program stopped by SIGSTOP cannot handle SIGTERM until it is continued.
#[test]
fn a_stopped_program_is_frozen() {
    let options = [&AT_ONCE[..], &["--health", "output", "--timeout", "1s", "--grace", "1h"]].concat();
    let script = "echo $$ >> starts; [ $(wc -l < starts) -ge 2 ] && exit 0
        echo $$ > pid; while :; do echo alive; sleep 0.05; done";
    let mut it = Supervised::sh(&options, script);
    kill_process(it.pid("pid"), Signal::STOP).unwrap();
    it.log_event("froze");
    assert_eq!(it.code(), 0);
}

#[test]
fn the_hook_sees_the_frozen_process() {
    let hook = "kill -0 $BACKSTAY_PID && echo $BACKSTAY_PID $BACKSTAY_SOURCE $BACKSTAY_NAME > dump";
    let options = ["--health", "output", "--timeout", "500ms", "--restart", "never", "--on-freeze", hook];
    let mut it = Supervised::sh(&options, "echo $$ > pid; sleep 1000");
    it.log_event("froze");
    assert_eq!(it.code(), 143);
    let pid = it.pid("pid").as_raw_nonzero();
    assert_eq!(fs::read_to_string(it.path().join("dump")).unwrap(), format!("{pid} output it\n"));
}

// Processes that the command started in other groups, as `timeout` does, end as well.
#[test]
fn a_hook_leaves_no_process() {
    let hook = "setsid sh -c 'echo $$ > away; exec sleep 1000' & sleep 1000";
    let options = ["--health", "output", "--timeout", "200ms", "--restart", "never", "--on-freeze", hook];
    let mut it = Supervised::sh(&options, "while [ ! -s away ]; do sleep 0.01; done; exit 5");
    let away = it.pid("away");
    assert_eq!(it.code(), 5);
    assert!(super::is_gone(away));
}

#[test]
fn a_hook_that_hangs_is_killed() {
    let hook = "echo $$ > hook; sleep 1000";
    let options = ["--health", "output", "--timeout", "300ms", "--restart", "never"];
    let options = [&options[..], &["--on-freeze", hook, "--on-freeze-timeout", "300ms"]].concat();
    let mut it = Supervised::sh(&options, "sleep 1000");
    it.log_event("on_freeze_timeout");
    assert_eq!(it.code(), 143);
    assert!(super::is_gone(it.pid("hook")));
}

#[test]
fn a_frozen_program_that_ignores_sigterm_is_killed() {
    let options = ["--health", "output", "--timeout", "300ms", "--grace", "100ms", "--restart", "never"];
    let mut it = Supervised::sh(&options, "trap '' TERM; while :; do sleep 0.05; done");
    it.log_event("froze");
    it.log_event("killing");
    assert_eq!(it.code(), 137);
}

#[test]
fn a_health_url_that_fails_is_a_freeze() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/healthz", listener.local_addr().unwrap());
    let well = Arc::new(AtomicBool::new(true));
    let healthy = well.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap_or(0);
            assert!(request[..length].starts_with(b"GET /healthz HTTP/1.1\r\n"));
            let code = if healthy.load(Ordering::SeqCst) { "204 No Content" } else { "500 Oh" };
            let _ = stream.write_all(format!("HTTP/1.1 {code}\r\nContent-Length: 0\r\n\r\n").as_bytes());
        }
    });
    let options = ["--health", &url, "--timeout", "2s", "--restart", "never", "--min-uptime", "3s"];
    let mut it = Supervised::sh(&options, "sleep 1000");
    it.log_event("started");
    // Longer than the timeout, so that the answers count.
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert!(it.child.try_wait().unwrap().is_none());
    well.store(false, Ordering::SeqCst);
    assert_eq!(it.log_event("froze")["source"], "http");
    assert_eq!(it.code(), 143);
}

// The answer may take the whole timeout.
#[test]
fn a_slow_answer_passes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::sleep(std::time::Duration::from_millis(900));
            let _ = stream.unwrap().write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        }
    });
    let mut it = Supervised::sh(&["--health", &url, "--timeout", "1500ms", "--restart", "never"], "sleep 3; exit 7");
    assert_eq!(it.code(), 7);
}

#[test]
fn every_health_url_must_pass() {
    let serve = |answer: &'static str| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = stream.unwrap().write_all(answer.as_bytes());
            }
        });
        url
    };
    let (well, ill) = (serve("HTTP/1.1 200 OK\r\n\r\n"), serve("HTTP/1.1 503 Oh\r\n\r\n"));
    let run = |urls: [&str; 2]| {
        let options = ["--timeout", "1s", "--restart", "never", "--health", urls[0], "--health", urls[1]];
        Supervised::sh(&options, "sleep 2; exit 7").code()
    };
    assert_eq!(run([&ill, &well]), 143);
    assert_eq!(run([&well, &well]), 7);
}
