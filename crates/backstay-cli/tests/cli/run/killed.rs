//! `kill -9` of the supervisor itself: its guard ends the program as it would have done.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use super::{Supervised, is_gone};
use crate::until;

#[test]
fn the_program_ends_politely_when_the_supervisor_is_killed() {
    let script = "trap 'echo bye > last; exit 0' TERM; echo $$ > pid; while :; do sleep 0.05; done";
    let mut it = Supervised::sh(&[], script);
    let program = it.pid("pid");
    it.signal(Signal::KILL);
    it.wait();
    until("the program ends", || is_gone(program));
    assert_eq!(fs::read_to_string(it.path().join("last")).unwrap(), "bye\n");
    // The private folder is gone as well.
    until("nothing is left", || {
        fs::read_dir(it.path())
            .unwrap()
            .flatten()
            .all(|entry| !entry.file_name().to_string_lossy().starts_with("backstay-"))
    });
}

#[test]
fn its_whole_family_is_killed_in_the_end() {
    let script = "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > other; while :; do sleep 0.05; done' &
        setsid sh -c 'echo $$ > away; while :; do sleep 0.05; done' &
        echo $$ > pid; while :; do sleep 0.05; done";
    let mut it = Supervised::sh(&["--grace", "200ms"], script);
    let family = [it.pid("pid"), it.pid("other"), it.pid("away")];
    it.signal(Signal::KILL);
    it.wait();
    until("all end", || family.iter().all(|process| is_gone(*process)));
}

// CL-13: what ends the program is always there.
#[test]
fn a_killed_guard_has_a_successor() {
    let mut it =
        Supervised::sh(&["--restart", "never"], "trap 'exit 0' TERM; echo $$ > pid; while :; do sleep 0.05; done");
    let program = it.pid("pid");
    for _ in 0..2 {
        let first = guard(&it);
        kill_process(first, Signal::KILL).unwrap();
        let trouble = it.news("trouble");
        assert!(trouble["message"].as_str().unwrap().contains("the guard ended (SIGKILL)"), "{trouble}");
        until("there is another", || guard(&it) != first);
    }
    it.signal(Signal::KILL);
    it.wait();
    until("the program ends", || is_gone(program));
}

#[test]
fn a_guard_that_cannot_live_is_given_up() {
    let it = Supervised::sh(&["--restart", "never"], "echo $$ > pid; sleep 1000");
    it.pid("pid");
    let told = |_| {
        kill_process(guard(&it), Signal::KILL).unwrap();
        it.news("trouble")["message"].as_str().unwrap().to_owned()
    };
    let told: Vec<String> = (0..6).map(told).collect();
    assert!(told[..5].iter().all(|what| what.contains("another one is started")), "{told:?}");
    assert!(told[5].contains("no guard: "), "{told:?}");
}

// CL-13: killed together with its guard, or before there was one.
#[test]
fn the_next_start_sweeps_up() {
    let home = tempfile::tempdir().unwrap();
    let start = |script: &str| {
        Supervised::start(&[], &["sh", "-c", script], |it| {
            it.env("TMPDIR", home.path());
        })
    };
    let folders = || {
        let names = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("backstay-run-")).collect::<Vec<_>>()
    };
    let mut left = start("echo $$ > pid; sleep 1000");
    let program = left.pid("pid");
    let alive = start("echo $$ > pid; sleep 1000");
    alive.pid("pid");
    let before = folders();
    assert_eq!(before.len(), 2);
    let guard = guard(&left);
    left.signal(Signal::STOP);
    kill_process(guard, Signal::KILL).unwrap();
    left.signal(Signal::KILL);
    left.wait();
    kill_process(program, Signal::KILL).unwrap();
    until("its guard is gone", || is_gone(guard));
    assert_eq!(folders().len(), 2);
    let next = start("echo $$ > pid; sleep 1000");
    next.pid("pid");
    assert_eq!(folders().len(), 2, "that of one alive, and its own");
    assert_eq!(before.iter().filter(|name| folders().contains(name)).count(), 1);
}

fn guard(it: &Supervised) -> Pid {
    let supervisor = it.child.id();
    let mut guard = None;
    // One that was started just now has no command line yet.
    until("there is a guard", || {
        let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).unwrap();
        let is_guard = |pid: &&str| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.windows(6).any(|word| word == b"guard\0"))
        };
        guard = children.split_whitespace().find(is_guard).and_then(|pid| Pid::from_raw(pid.parse().ok()?));
        guard.is_some()
    });
    guard.unwrap()
}

// As systemd tells everybody of a unit to end.
#[test]
fn the_guard_ends_with_its_supervisor_alone() {
    let mut it =
        Supervised::sh(&["--grace", "100ms"], "trap '' TERM INT HUP QUIT; echo $$ > pid; while :; do sleep 0.05; done");
    let program = it.pid("pid");
    let guard = guard(&it);
    let catches_all = || {
        let status = fs::read_to_string(format!("/proc/{}/status", guard.as_raw_nonzero())).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap() & 0x4007 == 0x4007
    };
    until("it listens", catches_all);
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        kill_process(guard, signal).unwrap();
    }
    it.signal(Signal::KILL);
    it.wait();
    until("the program ends", || is_gone(program));
}

#[test]
fn the_command_for_freezes_ends_too() {
    let options = ["--health", "output", "--timeout", "200ms", "--on-freeze-timeout", "1h"];
    let options = [&options[..], &["--on-freeze", "echo $$ > hook; sleep 1000"]].concat();
    let mut it = Supervised::sh(&options, "sleep 1000");
    let hook = it.pid("hook");
    it.signal(Signal::KILL);
    it.wait();
    until("it ends", || is_gone(hook));
}
