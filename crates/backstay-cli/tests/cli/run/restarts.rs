//! After which ends it starts again, and what holds it back.

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
fn what_cannot_be_started_has_the_shells_codes() {
    let mut it = Supervised::start(&["--restart", "always"], &["no-such-program"], |_| {});
    assert_eq!(it.code(), 127);
    let mut it = Supervised::start(&["--restart", "always"], &["/dev/null"], |_| {});
    assert_eq!(it.code(), 126);
    let home = tempfile::tempdir().unwrap();
    assert_eq!(backstay(home.path()).arg("run").output().unwrap().status.code(), Some(2), "no program");
}

#[test]
fn a_failure_is_restarted_until_it_goes_well() {
    let script = "echo >> starts; [ $(wc -l < starts) -ge 3 ] || exit 5";
    let mut it = Supervised::sh(&AT_ONCE, script);
    assert_eq!(it.code(), 0);
    let pids: Vec<_> =
        it.rest().iter().filter(|news| news["event"] == "started").map(|news| news["restarts"].clone()).collect();
    assert_eq!(pids, [0, 1, 2]);
}

// A crash loop is held back by the circuit breaker.
#[test]
fn a_crash_loop_is_held_back() {
    let it = Supervised::sh(&["--backoff", "1ms", "--max-crashes", "3", "--cooldown", "300ms"], "exit 1");
    for _ in 0..2 {
        assert_eq!(it.news("waiting")["reason"], "backoff");
    }
    // Open; then one try, after which it is open again.
    for _ in 0..2 {
        let waiting = it.news("waiting");
        assert_eq!(waiting["reason"], "circuit_open", "{waiting}");
        assert!(waiting["wait"].as_f64().unwrap() > 0.2);
        it.news("started");
    }
}

// HB-7: what failed for good is no service that was meant to stop.
#[test]
fn a_failure_leaves_no_farewell() {
    for (command, code, verdict) in [("true", 0, 6), ("false", 1, 4), ("no-such-program", 127, 4)] {
        let mut it = Supervised::start(&["--restart", "never"], &[command], |_| {});
        assert_eq!(it.code(), code);
        let probe = backstay(it.path()).args(["probe", "run/it.heartbeat"]).output().unwrap();
        assert_eq!(probe.status.code(), Some(verdict), "{command}: {}", crate::stdout(&probe));
    }
}

#[test]
fn restarts_are_limited() {
    let options = ["--backoff", "1ms", "--restart", "always", "--max-restarts", "2", "--per", "1h"];
    let it = Supervised::sh(&options, "exit 0");
    let reasons: Vec<_> = (0..4).map(|_| it.news("waiting")["reason"].clone()).collect();
    assert_eq!(reasons, ["backoff", "backoff", "backoff", "rate_limit"]);
}

#[test]
fn status_sees_it() {
    let it = Supervised::sh(&["--backoff", "1h", "--max-backoff", "1h"], "exit 4");
    it.news("waiting");
    crate::until("status shows it", || {
        let output = backstay(it.path()).args(["status", "--json"]).output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let metadata = &json[0]["heartbeat"]["metadata"];
        metadata["state"] == "waiting to restart" && metadata["last_exit"] == "exit code 4"
    });
    let probe = backstay(it.path()).args(["probe", "--strict", "run/it.heartbeat"]).output().unwrap();
    assert_eq!(probe.status.code(), Some(12), "not running");
}

// CF-1, CF-3: the file's section for this name, then the one for all.
#[test]
fn the_configuration_is_obeyed() {
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
    assert_eq!(it.news("waiting")["reason"], "circuit_open");

    std::fs::write(&config, "resilience: {run: {restart: sometimes}}").unwrap();
    let output = backstay(home.path()).args(["run", "--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    let error = crate::stderr(&output);
    assert!(error.contains("must be one of on-failure, always, never"), "{error}");
}

// What the README shows: a freeze detected, a restart, a crash loop held back, an orderly stop.
#[test]
fn the_demonstration_shows_all() {
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
    assert_eq!(it.news("froze")["source"], "output");
    assert_eq!(it.news("exited")["signal"], "SIGTERM");
    for restart in 1..=3 {
        assert_eq!(it.news("waiting")["reason"], "backoff");
        assert_eq!(it.news("started")["restarts"], restart);
    }
    assert_eq!(it.news("waiting")["reason"], "circuit_open");
    assert_eq!(it.news("started")["restarts"], 4);
    crate::until("it works", || std::fs::read_to_string(said.path()).is_ok_and(|said| said.contains("order 3")));
    it.signal(rustix::process::Signal::INT);
    assert_eq!(it.news("exited")["code"], 0);
    assert_eq!(it.code(), 0);
    assert!(std::fs::read_to_string(said.path()).unwrap().ends_with("worker: closes its books\n"));
}

// CL-4: whatever the interval, and whether or not the first has beaten yet.
#[test]
fn a_second_supervisor_of_the_same_name_is_refused() {
    let first = Supervised::sh(&["--interval", "1h"], "sleep 1000");
    let folder = first.path().join("run");
    let file = folder.join("it.heartbeat");
    crate::until("it beats", || std::fs::read_to_string(&file).is_ok_and(|text| text.contains("running")));
    let second = || {
        let mut other = backstay(first.path());
        other.args(["run", "--name", "it", "--restart", "never", "--", "sh", "-c", "exit 9"]);
        other.current_dir(first.path()).output().unwrap()
    };
    let refused = second();
    assert_eq!(refused.status.code(), Some(125));
    let holder = format!("\"it\" is already running: process {} writes ", first.child.id());
    assert!(crate::stderr(&refused).contains(&holder), "{refused:?}");
    std::fs::remove_file(file).unwrap();
    let refused = second();
    assert!(crate::stderr(&refused).contains("\"it\" is already running: another supervisor has "), "{refused:?}");
    first.signal(rustix::process::Signal::KILL);
    crate::until("the name is free", || super::is_gone(rustix::process::Pid::from_child(&first.child)));
    assert_eq!(second().status.code(), Some(9));
}

// CL-4: a name that was not asked for gets a suffix, which the log says.
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

// CL-2: a program that is not running is not healthy, though its supervisor is.
#[test]
fn probe_tells_a_program_that_does_not_run_from_its_supervisor() {
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
    it.news("waiting");
    crate::until("it does not run", || probe(&[]).0 == 12);
    let (_, line) = probe(&[]);
    assert!(line.starts_with("DEAD ") && line.contains("program not running, supervisor process "), "{line}");
    assert_eq!(probe(&["--supervisor"]).0, 0);
    assert_eq!(probe(&["--supervisor", "--strict"]).0, 5);
    let status = backstay(it.path()).arg("status").current_dir(it.path()).output().unwrap();
    assert_eq!(status.status.code(), Some(12));
    assert!(crate::stdout(&status).contains("waiting to restart · last: exit code 4"), "{status:?}");
}

// ALL-1: a time is taken or refused, however long.
#[test]
fn no_time_is_too_long_to_be_said() {
    let taken = ["timeout", "start-timeout", "on-freeze-timeout", "grace", "backoff", "max-backoff", "min-uptime"];
    for (options, code) in [(&taken[..], 9), (&["per", "cooldown", "interval"], 2)] {
        for option in options {
            let option = format!("--{option}=18446744073709549568");
            let mut it = Supervised::sh(&["--health", "output", "--restart", "never", &option], "echo; exit 9");
            assert_eq!(it.code(), code, "{option}");
            assert!(it.rest().iter().all(|news| news["event"] != "trouble"), "{option}");
        }
    }
}

#[test]
fn the_private_folder_is_wherever_it_can_be() {
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
    assert_eq!(it.news("exited")["code"], 1);
    assert_eq!(it.news("exited")["code"], 0);
    assert_eq!(it.code(), 0);
}
