//! `trading_bot` and `monitor`.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::panic::{catch_unwind, resume_unwind};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use backstay::Heartbeat;
use backstay::heartbeat::Status;
use rustix::process::Signal;
use tempfile::tempdir;

use super::child::{Child, example};

const IN_ORDER: [&str; 3] = ["positions closed", "connections closed", "heartbeat stopped"];

fn bot(heartbeat: &Path, seconds: u32) -> Command {
    let mut bot = example("trading_bot");
    bot.arg("--heartbeat").arg(heartbeat).arg(format!("--seconds={seconds}"));
    bot
}

fn is_stopped(heartbeat: &Path) -> bool {
    Heartbeat::read_state(heartbeat).unwrap().status == Some(Status::Stopped)
}

// CB-1, CB-3, CB-4, GS-1, HB-8, WD-6: over real HTTP, files and signals. Its day is played by the clock on the wall: on a
// machine that stalls it is given another try.
#[test]
fn the_bot_survives_its_bad_day() {
    for last in [false, false, true] {
        match catch_unwind(survives_its_bad_day) {
            Err(panic) if last => resume_unwind(panic),
            Err(_) => {}
            Ok(()) => return,
        }
    }
}

fn survives_its_bad_day() {
    let folder = tempdir().unwrap();
    let heartbeat = folder.path().join("bot.heartbeat");
    let mut bot = Child::start(&mut bot(&heartbeat, 12));
    let status = bot.end();
    assert!(status.success(), "{status}:\n{}", bot.said.join("\n"));
    bot.said_in_order(&[
        "429, Retry-After: 1",
        "closed -> open",
        "open -> half-open",
        "half-open -> open",
        "-> closed",
    ]);
    bot.said_in_order(&["trading-loop froze on thread", "SIGTERM", "Summary"]);
    bot.said_in_order(&["sends SIGTERM", IN_ORDER[0], IN_ORDER[1], IN_ORDER[2], "3 completed, 0 failed, 0 timed out"]);
    bot.said_in_order(&["says degraded"]);
    let value = |name| {
        let row = bot.said.iter().find(|line| line.contains(name)).unwrap();
        row.rsplit(' ').next().unwrap().parse::<u32>().unwrap()
    };
    assert_eq!(value("sooner than Retry-After allowed"), 0);
    assert_eq!(value("positions left open"), 0);
    assert!(value("orders placed") > 0 && value("refused while open") > 0 && value("freezes") > 0);
    assert!(!bot.said.iter().any(|line| line.contains('\x1b')), "colour, and no terminal");
    assert!(is_stopped(&heartbeat));
    assert_eq!(folder.path().read_dir().unwrap().count(), 1, "litter beside the heartbeat");
}

// GS-1, GS-4: also while the exchange does not answer.
#[test]
fn ctrl_c_ends_it_in_order() {
    for moment in ["awake", "exchange    hangs"] {
        let folder = tempdir().unwrap();
        let heartbeat = folder.path().join("bot.heartbeat");
        let mut bot = Child::start(&mut bot(&heartbeat, 20));
        bot.says(moment);
        bot.signal(Signal::INT);
        let status = bot.end();
        assert!(status.success(), "{status}:\n{}", bot.said.join("\n"));
        bot.said_in_order(&["shutdown began; Ctrl-C again ends at once"]);
        bot.said_in_order(&IN_ORDER);
        assert!(!bot.said.iter().any(|line| line.contains("sends SIGTERM")));
        assert!(is_stopped(&heartbeat));
    }
}

// HB-7: stopped, continued, killed.
#[test]
fn the_monitor_tells_alive_from_dead() {
    let folder = tempdir().unwrap();
    let heartbeat = folder.path().join("bot.heartbeat");
    let mut monitor = Child::start(example("monitor").arg(&heartbeat).args(["--max-age", "3"]));
    monitor.says("UNKNOWN");

    let mut bot = Child::start(bot(&heartbeat, 60).args(["--seed", "1"]));
    monitor.says("ALIVE");
    monitor.says("kill -STOP");
    bot.signal(Signal::STOP);
    monitor.says("no beat for more than 3s");
    bot.signal(Signal::CONT);
    monitor.says("ALIVE");
    bot.signal(Signal::KILL);
    monitor.says("its process is gone");
    assert!(!bot.end().success());

    let mut bot = Child::start(&mut self::bot(&heartbeat, 60));
    monitor.says("ALIVE");
    bot.signal(Signal::INT);
    monitor.says("stopped");
    assert!(bot.end().success());

    monitor.signal(Signal::INT);
    assert!(monitor.end().success());
    let states = monitor.said.iter().filter(|line| line.starts_with("DEAD")).count();
    assert!(states >= 3, "{:?}", monitor.said);
}

#[test]
fn the_monitor_looks_once() {
    let folder = tempdir().unwrap();
    let heartbeat = folder.path().join("x.heartbeat");
    let look = || example("monitor").arg(&heartbeat).arg("--once").output().unwrap();
    let missing = look();
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8(missing.stdout).unwrap().starts_with("UNKNOWN"));
    let beating = Heartbeat::builder().state_file(&heartbeat).interval(Duration::from_secs(1)).build().unwrap();
    beating.start().unwrap();
    let alive = look();
    assert_eq!(alive.status.code(), Some(0), "{alive:?}");
    beating.stop();
    assert_eq!(look().status.code(), Some(1));
}

#[test]
fn an_exchange_elsewhere_is_traded_at() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let body = "{\"price\": 1.0}";
            let _ =
                write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        }
    });
    let folder = tempdir().unwrap();
    let heartbeat = folder.path().join("bot.heartbeat");
    let mut bot = Child::start(bot(&heartbeat, 60).args(["--exchange", &url]));
    bot.says("breaker closed 0/s");
    bot.says("breaker closed");
    bot.signal(Signal::TERM);
    assert!(bot.end().success());
    bot.said_in_order(&["Trading elsewhere", "heartbeat stopped"]);
    let successful = bot.said.iter().find(|line| line.contains("successful")).unwrap();
    assert!(!successful.ends_with(" 0"), "{successful:?}");
}

#[test]
fn what_makes_no_sense_is_said_and_ends_with_2() {
    let cases: [(&str, &[&str], &str); 11] = [
        ("trading_bot", &["--seconds", "0"], "8 to 3600"),
        ("trading_bot", &["--seconds", "NaN"], "8 to 3600"),
        ("trading_bot", &["--seconds"], "needs a value"),
        ("trading_bot", &["--seed=-1"], "whole number"),
        ("trading_bot", &["--exchange", "https://example.com"], "http://HOST:PORT"),
        ("trading_bot", &["--exchange", "://"], "--exchange"),
        ("trading_bot", &["--sedes"], "not an option"),
        ("monitor", &[], "which file"),
        ("monitor", &["x", "--max-age", "-1"], "not a number of seconds"),
        ("monitor", &["x", "y"], "one file"),
        ("page", &["99"], "no block"),
    ];
    for (name, arguments, expected) in cases {
        let output = example(name).args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{name} {arguments:?}: {said}");
        assert!(said.contains(expected), "{name} {arguments:?}: {said}");
    }
    for name in ["trading_bot", "monitor"] {
        let output = example(name).arg("--help").output().unwrap();
        assert!(output.status.success() && String::from_utf8(output.stdout).unwrap().contains("Usage:"));
    }
}
