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

#[test]
fn a_killed_guard_is_told() {
    let it = Supervised::sh(&["--restart", "never"], "echo $$ > pid; sleep 1000");
    it.pid("pid");
    let guard = guard(&it);
    kill_process(guard, Signal::KILL).unwrap();
    let trouble = it.news("trouble");
    assert!(trouble["message"].as_str().unwrap().contains("guard"), "{trouble}");
    it.signal(Signal::TERM);
    it.news("exited");
}

fn guard(it: &Supervised) -> Pid {
    let supervisor = it.child.id();
    let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).unwrap();
    let guard = children.split_whitespace().find(|pid| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.windows(6).any(|word| word == b"guard\0"))
    });
    Pid::from_raw(guard.unwrap().parse().unwrap()).unwrap()
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
