//! The whole process tree of the program ends with it, and no other process does.

use rustix::process::{Pid, Signal, kill_process};

use super::{Supervised, by_shell, is_gone, python};

/// A chain of five processes: each is the child of the one before, in a group of its own, and ignores SIGTERM.
fn nested(options: &[&str], end: &str) -> Supervised {
    Supervised::start(options, &["sh", "nest", "4"], |backstay| {
        let home = backstay.get_current_dir().unwrap();
        let nest = format!(
            "trap '' TERM; [ $1 = 0 ] || setsid sh nest $(($1 - 1)) & echo $$ > at$1
             {end}; while :; do sleep 0.05; done"
        );
        std::fs::write(home.join("nest"), nest).unwrap();
    })
}

#[test]
fn no_process_of_the_tree_survives_sigkill() {
    let mut it = nested(&["--grace", "100ms"], ":");
    let tree: Vec<_> = (0..=4).map(|at| it.pid(&format!("at{at}"))).collect();
    it.signal(Signal::TERM);
    assert_eq!(it.code(), 137);
    assert!(tree.iter().all(|process| is_gone(*process)));
    assert!(it.rest().iter().all(|event| event["event"] != "gave_up"));
}

#[test]
fn no_process_of_the_tree_survives_until_the_next_start() {
    let end = "[ $1 = 4 ] && [ -e again ] && exit 0; [ $1 = 0 ] && touch again";
    let options = ["--backoff", "1ms", "--grace", "100ms", "--health", "output", "--timeout", "1s"];
    let mut it = nested(&options, end);
    let tree: Vec<_> = (0..=4).map(|at| it.pid(&format!("at{at}"))).collect();
    it.log_event("froze");
    it.log_event("waiting");
    assert!(tree.iter().all(|process| is_gone(*process)));
    assert_eq!(it.code(), 0);
}

// Processes that can be listed only after their parents have ended also get SIGTERM.
#[test]
fn processes_outside_the_group_get_sigterm() {
    for leave in ["setsid", "setsid -w"] {
        let away = "trap 'echo bye > last; exit 0' TERM; echo $$ > away; while :; do sleep 0.05; done";
        let mut it =
            Supervised::sh(&["--grace", "1h"], &format!("{leave} sh -c \"$AWAY\" & wait").replace("$AWAY", away));
        let away = it.pid("away");
        it.signal(Signal::TERM);
        assert_eq!(it.code(), 143, "{leave}");
        assert!(is_gone(away));
        assert!(it.path().join("last").exists(), "{leave}");
    }
}

#[test]
fn a_program_that_left_its_group_is_signalled() {
    let script = "
os.setpgid(0, os.getpgid(os.getppid()))
open('pid', 'w').write(f'{os.getpid()}\\n')
time.sleep(1000)";
    let Some(mut it) = python(&["--grace", "1h"], script) else { return };
    it.pid("pid");
    it.signal(Signal::TERM);
    assert_eq!(it.code(), 143);
}

// `sidecar & exec backstay run`, as in a container: the sidecar is a child of the supervisor, but not of the program.
#[test]
fn children_from_before_the_start_are_not_signalled() {
    let home = tempfile::tempdir().unwrap();
    let script = "sleep 1000 >&- 2>&- & echo $! > sidecar
        exec \"$0\" run --backoff 1ms -- sh -c 'echo >> starts; [ $(wc -l < starts) -ge 2 ]'";
    let output = by_shell(home.path(), script).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let sidecar = std::fs::read_to_string(home.path().join("sidecar")).unwrap();
    let sidecar = Pid::from_raw(sidecar.trim().parse().unwrap()).unwrap();
    assert!(!is_gone(sidecar));
    kill_process(sidecar, Signal::KILL).unwrap();
}
