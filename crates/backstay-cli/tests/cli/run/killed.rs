//! `kill -9` of the supervisor itself: its guard ends the program as the supervisor would have done.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use super::{Supervised, is_gone};
use crate::until;

#[test]
fn the_program_gets_sigterm_when_the_supervisor_is_killed() {
    let script = "trap 'echo bye > last; exit 0' TERM; echo $$ > pid; while :; do sleep 0.05; done";
    let mut it = Supervised::sh(&[], script);
    let program = it.pid("pid");
    it.signal(Signal::KILL);
    it.wait();
    until("the program ends", || is_gone(program));
    assert_eq!(fs::read_to_string(it.path().join("last")).unwrap(), "bye\n");
    // The private folder is removed too.
    until("nothing is left", || {
        fs::read_dir(it.path())
            .unwrap()
            .flatten()
            .all(|entry| !entry.file_name().to_string_lossy().starts_with("backstay-"))
    });
}

#[test]
fn the_whole_process_tree_is_killed_after_the_grace_period() {
    let script = "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > other; while :; do sleep 0.05; done' &
        setsid sh -c 'echo $$ > away; while :; do sleep 0.05; done' &
        echo $$ > pid; while :; do sleep 0.05; done";
    let mut it = Supervised::sh(&["--grace", "200ms"], script);
    let tree = [it.pid("pid"), it.pid("other"), it.pid("away")];
    it.signal(Signal::KILL);
    it.wait();
    until("all end", || tree.iter().all(|process| is_gone(*process)));
}

// CL-13: there is always a guard.
#[test]
fn a_killed_guard_is_replaced() {
    let mut it =
        Supervised::sh(&["--restart", "never"], "trap 'exit 0' TERM; echo $$ > pid; while :; do sleep 0.05; done");
    let program = it.pid("pid");
    for _ in 0..2 {
        let first = guard(&it);
        kill_process(first, Signal::KILL).unwrap();
        let trouble = it.log_event("trouble");
        assert!(trouble["message"].as_str().unwrap().contains("the guard ended (SIGKILL)"), "{trouble}");
        until("there is another", || guard(&it) != first);
    }
    it.signal(Signal::KILL);
    it.wait();
    until("the program ends", || is_gone(program));
}

#[test]
fn a_guard_that_keeps_ending_is_given_up() {
    let it = Supervised::sh(&["--restart", "never"], "echo $$ > pid; sleep 1000");
    it.pid("pid");
    let troubles = |_| {
        kill_process(guard(&it), Signal::KILL).unwrap();
        it.log_event("trouble")["message"].as_str().unwrap().to_owned()
    };
    let troubles: Vec<String> = (0..6).map(troubles).collect();
    assert!(troubles[..5].iter().all(|what| what.contains("starting another one")), "{troubles:?}");
    assert!(troubles[5].contains("no guard: "), "{troubles:?}");
}

// CL-13: the supervisor was killed together with its guard, or before it had one.
#[test]
fn the_next_start_removes_leftover_folders() {
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
    assert_eq!(folders().len(), 2, "the folder of the live supervisor, and its own");
    assert_eq!(before.iter().filter(|name| folders().contains(name)).count(), 1);
}

fn guard(it: &Supervised) -> Pid {
    let supervisor = it.child.id();
    let mut guard = None;
    // A guard that has just been started has no command line yet.
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

// As systemd signals all processes of a unit.
#[test]
fn the_guard_ends_only_with_its_supervisor() {
    let mut it =
        Supervised::sh(&["--grace", "100ms"], "trap '' TERM INT HUP QUIT; echo $$ > pid; while :; do sleep 0.05; done");
    let program = it.pid("pid");
    let guard = guard(&it);
    let catches_all = || {
        let status = fs::read_to_string(format!("/proc/{}/status", guard.as_raw_nonzero())).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap() & 0x4007 == 0x4007
    };
    until("its traps are set", catches_all);
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        kill_process(guard, signal).unwrap();
    }
    it.signal(Signal::KILL);
    it.wait();
    until("the program ends", || is_gone(program));
}

#[test]
fn the_on_freeze_command_ends_too() {
    let options = ["--health", "output", "--timeout", "200ms", "--on-freeze-timeout", "1h"];
    let options = [&options[..], &["--on-freeze", "echo $$ > hook; sleep 1000"]].concat();
    let mut it = Supervised::sh(&options, "sleep 1000");
    let hook = it.pid("hook");
    it.signal(Signal::KILL);
    it.wait();
    until("it ends", || is_gone(hook));
}
