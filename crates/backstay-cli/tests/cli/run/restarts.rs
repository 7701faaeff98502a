//! When the program is restarted, and the limits on restarts.

use super::{AT_ONCE, Supervised};
use crate::backstay;

#[test]
fn the_exit_code_is_the_programs() {
    for (script, code) in [("exit 0", 0), ("exit 77", 77), ("kill -TERM $$", 143), ("kill -KILL $$", 137)] {
        let mut it = Supervised::sh(&["--restart", "never"], script);
        assert_eq!(it.code(), code, "{script}");
    }
}

#[test]
fn a_program_that_cannot_be_started_exits_with_the_shells_codes() {
    let mut it = Supervised::start(&["--restart", "always"], &["no-such-program"], |_| {});
    assert_eq!(it.code(), 127);
    let mut it = Supervised::start(&["--restart", "always"], &["/dev/null"], |_| {});
    assert_eq!(it.code(), 126);
    let home = tempfile::tempdir().unwrap();
    assert_eq!(backstay(home.path()).arg("run").output().unwrap().status.code(), Some(2), "no program");
}

#[test]
fn a_failure_is_restarted_until_it_succeeds() {
    let script = "echo >> starts; [ $(wc -l < starts) -ge 3 ] || exit 5";
    let mut it = Supervised::sh(&AT_ONCE, script);
    assert_eq!(it.code(), 0);
    let pids: Vec<_> =
        it.rest().iter().filter(|event| event["event"] == "started").map(|event| event["restarts"].clone()).collect();
    assert_eq!(pids, [0, 1, 2]);
}

// The circuit breaker delays restarts in a crash loop.
#[test]
fn a_crash_loop_is_delayed() {
    let it = Supervised::sh(&["--backoff", "1ms", "--max-crashes", "3", "--cooldown", "300ms"], "exit 1");
    for _ in 0..2 {
        assert_eq!(it.log_event("waiting")["reason"], "backoff");
    }
    // The circuit is open; after one attempt it opens again.
    for _ in 0..2 {
        let waiting = it.log_event("waiting");
        assert_eq!(waiting["reason"], "circuit_open", "{waiting}");
        assert!(waiting["wait"].as_f64().unwrap() > 0.2);
        it.log_event("started");
    }
}

// HB-7: a service that failed differs from a service that stopped in order.
#[test]
fn a_failure_does_not_write_status_stopped() {
    for (command, code, probe_code) in [("true", 0, 6), ("false", 1, 4), ("no-such-program", 127, 4)] {
        let mut it = Supervised::start(&["--restart", "never"], &[command], |_| {});
        assert_eq!(it.code(), code);
        let probe = backstay(it.path()).args(["probe", "run/it.heartbeat"]).output().unwrap();
        assert_eq!(probe.status.code(), Some(probe_code), "{command}: {}", crate::stdout(&probe));
    }
}

#[test]
fn restarts_are_limited() {
    let options = ["--backoff", "1ms", "--restart", "always", "--max-restarts", "2", "--per", "1h"];
    let it = Supervised::sh(&options, "exit 0");
    let reasons: Vec<_> = (0..4).map(|_| it.log_event("waiting")["reason"].clone()).collect();
    assert_eq!(reasons, ["backoff", "backoff", "backoff", "rate_limit"]);
}

#[test]
fn status_shows_a_supervised_program() {
    let it = Supervised::sh(&["--backoff", "1h", "--max-backoff", "1h"], "exit 4");
    it.log_event("waiting");
    crate::until("status shows it", || {
        let output = backstay(it.path()).args(["status", "--json"]).output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let metadata = &json[0]["heartbeat"]["metadata"];
        metadata["state"] == "waiting to restart" && metadata["last_exit"] == "exit code 4"
    });
    let probe = backstay(it.path()).args(["probe", "--strict", "run/it.heartbeat"]).output().unwrap();
    assert_eq!(probe.status.code(), Some(12), "not running");
}

// CF-1, CF-3: the section of this name precedes the section of `run`.
#[test]
fn the_configuration_is_used() {
    let home = tempfile::tempdir().unwrap();
    let text = "resilience:\n  run:\n    restart: never\n    instances:\n      loop: {restart: always, max_crashes: 1, cooldown: 30}\n";
    std::fs::write(home.path().join("kstlib.conf.yml"), text).unwrap();
    let config = home.path().join("kstlib.conf.yml");
    let with_it = |it: &mut std::process::Command| {
        it.env("BACKSTAY_CONFIG", &config);
    };
    let mut it = Supervised::start(&[], &["sh", "-c", "exit 3"], with_it);
    assert_eq!(it.code(), 3);
    let it = Supervised::start(&["--name", "loop"], &["sh", "-c", "exit 3"], with_it);
    assert_eq!(it.log_event("waiting")["reason"], "circuit_open");

    std::fs::write(&config, "resilience: {run: {restart: sometimes}}").unwrap();
    let output = backstay(home.path()).args(["run", "--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    let error = crate::stderr(&output);
    assert!(error.contains("must be one of on-failure, always, never"), "{error}");
}

// The demonstration in the README: a freeze, a restart, a crash loop, an orderly stop.
#[test]
fn the_demonstration_works() {
    let readme = include_str!("../../../../../README.md");
    let line = readme.lines().find_map(|line| line.split_once("-p backstay-cli -- run ")).unwrap().1;
    let (options, script) = line.split_once(" -- sh crates/backstay-cli/").unwrap();
    let script = format!("{}/{script}", env!("CARGO_MANIFEST_DIR"));
    let options: Vec<&str> = options.split_whitespace().collect();
    let said = tempfile::NamedTempFile::new().unwrap();
    let to_file = std::process::Stdio::from(said.reopen().unwrap());
    let mut it = Supervised::start(&options, &["sh", &script], |it| {
        it.stdout(to_file);
    });
    assert_eq!(it.log_event("froze")["source"], "output");
    assert_eq!(it.log_event("exited")["signal"], "SIGTERM");
    for restart in 1..=3 {
        assert_eq!(it.log_event("waiting")["reason"], "backoff");
        assert_eq!(it.log_event("started")["restarts"], restart);
    }
    assert_eq!(it.log_event("waiting")["reason"], "circuit_open");
    assert_eq!(it.log_event("started")["restarts"], 4);
    crate::until("it works", || std::fs::read_to_string(said.path()).is_ok_and(|said| said.contains("order 3")));
    it.signal(rustix::process::Signal::INT);
    assert_eq!(it.log_event("exited")["code"], 0);
    assert_eq!(it.code(), 0);
    assert!(std::fs::read_to_string(said.path()).unwrap().ends_with("worker: closes its books\n"));
}

// CL-4: at any heartbeat interval, and also before the first heartbeat.
#[test]
fn a_second_supervisor_of_the_same_name_is_rejected() {
    let first = Supervised::sh(&["--interval", "1h"], "sleep 1000");
    let folder = first.path().join("run");
    let file = folder.join("it.heartbeat");
    crate::until("it beats", || std::fs::read_to_string(&file).is_ok_and(|text| text.contains("running")));
    let second = || {
        let mut other = backstay(first.path());
        other.args(["run", "--name", "it", "--restart", "never", "--", "sh", "-c", "exit 9"]);
        other.current_dir(first.path()).output().unwrap()
    };
    let rejected = second();
    assert_eq!(rejected.status.code(), Some(125));
    let holder = format!("\"it\" is already running: process {} writes ", first.child.id());
    assert!(crate::stderr(&rejected).contains(&holder), "{rejected:?}");
    std::fs::remove_file(file).unwrap();
    let rejected = second();
    assert!(crate::stderr(&rejected).contains("\"it\" is already running: another supervisor has "), "{rejected:?}");
    first.signal(rustix::process::Signal::KILL);
    crate::until("the name is free", || super::is_gone(rustix::process::Pid::from_child(&first.child)));
    assert_eq!(second().status.code(), Some(9));
}

// CL-4: a derived name gets a suffix, which is logged.
#[test]
fn derived_names_get_a_suffix() {
    let home = tempfile::tempdir().unwrap();
    let script = "until [ -e go ]; do sleep 0.01; done; [ -e run/sh-2.heartbeat ]";
    let start = || {
        let mut run = backstay(home.path());
        run.args(["run", "--restart", "never", "--", "sh", "-c", script]).current_dir(home.path());
        run.stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    let first = start();
    crate::until("the first has its name", || home.path().join("run/sh.heartbeat").exists());
    let second = start();
    crate::until("the second has its name", || home.path().join("run/sh-2.heartbeat").exists());
    std::fs::write(home.path().join("go"), "").unwrap();
    assert!(first.wait_with_output().unwrap().status.success());
    let second = second.wait_with_output().unwrap();
    assert!(second.status.success());
    let said = crate::stderr(&second);
    assert!(said.contains("sh-2: the name \"sh\" is taken by another supervisor"), "{said}");
}

// CL-2: a program that is not running is not healthy, even if its supervisor is.
#[test]
fn probe_distinguishes_the_program_from_its_supervisor() {
    let it =
        Supervised::sh(&["--backoff", "1h", "--max-backoff", "1h"], "until [ -e go ]; do sleep 0.01; done; exit 4");
    let probe = |options: &[&str]| {
        let mut probe = backstay(it.path());
        probe.args(["probe", "run/it.heartbeat"]).args(options).current_dir(it.path());
        let output = probe.output().unwrap();
        (output.status.code().unwrap(), crate::stdout(&output))
    };
    crate::until("it runs", || probe(&["--strict"]).0 == 0);
    std::fs::write(it.path().join("go"), "").unwrap();
    it.log_event("waiting");
    crate::until("it does not run", || probe(&[]).0 == 12);
    let (_, line) = probe(&[]);
    assert!(line.starts_with("DEAD ") && line.contains("program not running, supervisor process "), "{line}");
    assert_eq!(probe(&["--supervisor"]).0, 0);
    assert_eq!(probe(&["--supervisor", "--strict"]).0, 5);
    let status = backstay(it.path()).arg("status").current_dir(it.path()).output().unwrap();
    assert_eq!(status.status.code(), Some(12));
    assert!(crate::stdout(&status).contains("waiting to restart · last: exit code 4"), "{status:?}");
}

// ALL-1: every duration is accepted or rejected, however long.
#[test]
fn the_longest_durations_are_accepted_or_rejected() {
    let taken = ["timeout", "start-timeout", "on-freeze-timeout", "grace", "backoff", "max-backoff", "min-uptime"];
    for (options, code) in [(&taken[..], 9), (&["per", "cooldown", "interval"], 2)] {
        for option in options {
            let option = format!("--{option}=18446744073709549568");
            let mut it = Supervised::sh(&["--health", "output", "--restart", "never", &option], "echo; exit 9");
            assert_eq!(it.code(), code, "{option}");
            assert!(it.rest().iter().all(|event| event["event"] != "trouble"), "{option}");
        }
    }
}

#[test]
fn the_private_folder_falls_back_to_other_places() {
    for (folder, is_there) in [("none".to_owned(), false), ("long/".repeat(30), true)] {
        let script = "[ -S \"$NOTIFY_SOCKET\" ] && exit 7";
        let mut it = Supervised::start(&["--restart", "never"], &["sh", "-c", script], |it| {
            let path = it.get_current_dir().unwrap().join(&folder);
            if is_there {
                std::fs::create_dir_all(&path).unwrap();
            }
            it.env("TMPDIR", path);
        });
        assert_eq!(it.code(), 7, "{folder}");
    }
}

#[test]
fn the_private_folder_is_made_again() {
    let script = "[ $BACKSTAY_RESTARTS = 0 ] && { rm -r \"${NOTIFY_SOCKET%/*}\"; exit 1; }; [ -S \"$NOTIFY_SOCKET\" ]";
    let mut it = Supervised::sh(&["--backoff", "1ms", "--max-restarts", "1"], script);
    assert_eq!(it.log_event("exited")["code"], 1);
    assert_eq!(it.log_event("exited")["code"], 0);
    assert_eq!(it.code(), 0);
}
