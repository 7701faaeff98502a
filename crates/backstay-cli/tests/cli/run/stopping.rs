//! Signals are forwarded, the end is orderly, and no process is left.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use super::{AT_ONCE, Supervised, by_shell, end_of, is_gone, python};
use crate::until;

/// A script that sets traps, writes its process id, and waits for signals.
fn listening(traps: &str) -> String {
    format!("{traps}; echo $$ > pid; while :; do sleep 0.05; done")
}

#[test]
fn signals_reach_the_program() {
    let it = Supervised::sh(&[], &listening("for s in HUP USR1 USR2; do trap \"echo $s >> heard\" $s; done"));
    it.pid("pid");
    for (signal, name) in [(Signal::HUP, "HUP"), (Signal::USR1, "USR1"), (Signal::USR2, "USR2")] {
        it.signal(signal);
        until(name, || fs::read_to_string(it.path().join("heard")).is_ok_and(|heard| heard.contains(name)));
    }
}

#[test]
fn an_orderly_stop_exits_with_the_programs_code() {
    for (signal, name) in [(Signal::TERM, "TERM"), (Signal::INT, "INT"), (Signal::QUIT, "QUIT")] {
        let mut it =
            Supervised::sh(&["--restart", "always"], &listening(&format!("trap 'echo bye > last; exit 9' {name}")));
        it.pid("pid");
        it.signal(signal);
        assert_eq!(it.code(), 9, "{name}");
        assert_eq!(fs::read_to_string(it.path().join("last")).unwrap(), "bye\n");
    }
}

// nohup, and background jobs of a shell: the signal affects neither the supervisor nor the program.
#[test]
fn ignored_signals_stay_ignored() {
    let home = tempfile::tempdir().unwrap();
    for signal in ["HUP", "INT", "QUIT"] {
        let script = "trap '' $SIGNAL; exec \"$0\" run --restart never -- \
            sh -c 'kill -$SIGNAL $PPID; kill -$SIGNAL $$; sleep 0.1; exit 3'";
        let output = by_shell(home.path(), script).env("SIGNAL", signal).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{signal}: {output:?}");
    }
}

// Ctrl-Z stops both, and the pause is not a freeze.
#[test]
fn job_control_is_for_the_program_too() {
    let options = ["--health", "output", "--timeout", "800ms", "--start-timeout", "1m", "--restart", "never"];
    // Python, because a shell waits for a child that was stopped before its exec, and is not stopped itself.
    let script = "
signal.signal(signal.SIGTERM, lambda *_: os._exit(8))
open('pid', 'w').write(f'{os.getpid()}\\n')
while True:
    print(flush=True)
    time.sleep(0.05)";
    let Some(mut it) = python(&options, script) else { return };
    let both = [it.pid("pid"), Pid::from_child(&it.child)];
    let are_stopped = || {
        both.iter().all(|pid| {
            let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
            stat.contains(") T ")
        })
    };
    it.signal(Signal::TSTP);
    until("both are stopped", are_stopped);
    std::thread::sleep(std::time::Duration::from_secs(1));
    it.signal(Signal::CONT);
    until("both run again", || !are_stopped());
    std::thread::sleep(std::time::Duration::from_millis(300));
    it.signal(Signal::TERM);
    assert_eq!(it.code(), 8);
    assert!(it.rest().iter().all(|event| event["event"] != "froze"));
}

#[test]
fn a_program_that_ignores_sigterm_is_killed_after_the_grace_period() {
    let mut it = Supervised::sh(&["--grace", "200ms"], &listening("trap '' TERM"));
    it.pid("pid");
    it.signal(Signal::TERM);
    it.log_event("killing");
    assert_eq!(it.code(), 137);
}

#[test]
fn a_second_signal_kills_at_once() {
    let mut it = Supervised::sh(&["--grace", "1h"], &listening("trap 'echo >> heard' INT"));
    it.pid("pid");
    it.signal(Signal::INT);
    until("the first signal arrived", || it.path().join("heard").exists());
    // An earlier signal would count as a duplicate of the first.
    std::thread::sleep(std::time::Duration::from_millis(300));
    it.signal(Signal::INT);
    it.log_event("asked_again");
    assert_eq!(it.code(), 137);
}

#[test]
fn a_stopped_program_gets_sigterm() {
    let mut it = Supervised::sh(&["--grace", "1h"], &listening("trap 'exit 8' TERM"));
    kill_process(it.pid("pid"), Signal::STOP).unwrap();
    it.signal(Signal::TERM);
    assert_eq!(it.code(), 8);
}

// Descendants in the program's group, and outside it.
#[test]
fn grandchildren_end_with_the_program() {
    let script = "sh -c 'trap \"\" TERM; echo $$ > stubborn; while :; do sleep 0.05; done' &
        setsid sh -c 'echo $$ > away; while :; do sleep 0.05; done' &
        while [ ! -s stubborn ] || [ ! -s away ]; do sleep 0.01; done; exit 6";
    let mut it = Supervised::sh(&["--grace", "100ms", "--restart", "never"], script);
    let (stubborn, away) = (it.pid("stubborn"), it.pid("away"));
    assert_eq!(it.code(), 6);
    assert!(is_gone(stubborn) && is_gone(away));
}

#[test]
fn no_process_is_left_for_the_next_start() {
    let script = "[ -s first ] && { kill -0 $(cat first) && echo left > last; exit 0; }
        sh -c 'echo $$ > first; while :; do sleep 0.05; done' &
        while [ ! -s first ]; do sleep 0.01; done; exit 1";
    let mut it = Supervised::sh(&AT_ONCE, script);
    assert_eq!(it.code(), 0);
    assert!(!it.path().join("last").exists());
}

const NAMESPACE: [&str; 6] = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"];

/// Runs `sh` as process 1 of a new pid namespace; "$0" is the binary. The leaders of its session and group are outside.
fn in_namespace(home: &Path, script: &str) -> Option<Command> {
    let works = Command::new(NAMESPACE[0]).args(&NAMESPACE[1..]).arg("true").output();
    if !works.is_ok_and(|output| output.status.success()) {
        eprintln!("passed over: no namespaces for this user");
        return None;
    }
    let mut command = Command::new(NAMESPACE[0]);
    command.args(&NAMESPACE[1..]).args(["sh", "-c", script, env!("CARGO_BIN_EXE_backstay")]);
    command.env("BACKSTAY_DIR", home).env("TMPDIR", home).current_dir(home);
    Some(command)
}

// `timeout` and similar programs signal their child and then its group.
#[test]
fn a_duplicate_signal_is_not_a_second_request() {
    let mut it = Supervised::sh(&["--grace", "1h"], &listening("trap 'sleep 0.1; exit 8' TERM INT"));
    it.pid("pid");
    // Two pending signals of the same kind would be merged into one.
    it.signal(Signal::TERM);
    it.signal(Signal::INT);
    assert_eq!(it.code(), 8);
}

// The parent may have blocked signals, and the mask is inherited.
#[test]
fn blocked_signals_are_unblocked() {
    let home = tempfile::tempdir().unwrap();
    let script = "import os, signal, sys; signal.pthread_sigmask(0, {signal.SIGTERM, signal.SIGCHLD}); os.execv(sys.argv[1], sys.argv[1:])";
    let program = listening("trap 'exit 8' TERM");
    let run = [env!("CARGO_BIN_EXE_backstay"), "run", "--restart", "never", "--", "sh", "-c", &program];
    let mut command = Command::new("python3");
    command.args(["-c", script]).args(run).current_dir(home.path()).env("BACKSTAY_DIR", home.path());
    let Ok(mut supervisor) = command.env("TMPDIR", home.path()).spawn() else {
        return eprintln!("passed over: no python3");
    };
    until("the program has set its traps", || home.path().join("pid").exists());
    kill_process(Pid::from_child(&supervisor), Signal::TERM).unwrap();
    assert_eq!(end_of(&mut supervisor).code(), Some(8));
}

// A flood of messages on the socket does not delay signals.
#[test]
fn a_flood_of_messages_does_not_delay_a_signal() {
    let script = "
for _ in range(8):
    if os.fork() == 0:
        flood = 'WATCHDOG_USEC=9999999999\\n' * 300
        while True:
            say(flood)
open('pid', 'w').write(f'{os.getpid()}\\n')
time.sleep(1000)";
    let Some(mut it) = python(&["--grace", "1h"], script) else { return };
    it.pid("pid");
    std::thread::sleep(std::time::Duration::from_millis(500));
    let began = std::time::Instant::now();
    it.signal(Signal::TERM);
    assert_eq!(it.code(), 143);
    assert!(began.elapsed().as_secs() < 4, "{:?}", began.elapsed());
}

// A container is restarted after a failure: the old heartbeat still looks alive, and its process cannot be checked.
#[test]
fn a_name_can_be_used_again_in_a_restarted_container() {
    let home = tempfile::tempdir().unwrap();
    for (program, code) in [("exit 3", 3), ("test ! -e $BACKSTAY_DIR/it-1.heartbeat; exit 4", 4)] {
        let script = format!("exec \"$0\" run --name it --restart never -- sh -c '{program}'");
        let Some(mut command) = in_namespace(home.path(), &script) else { return };
        assert_eq!(command.output().unwrap().status.code(), Some(code));
        let heartbeats: Vec<_> = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(heartbeats.iter().all(|name| name != "it-1.heartbeat"), "{heartbeats:?}");
        assert!(fs::read_to_string(home.path().join("it.heartbeat")).unwrap().contains(&format!("exit code {code}")));
    }
}

// A program that changes its own user can still send notifications.
#[test]
fn a_program_that_drops_root_can_reach_the_socket() {
    let drop = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    if !Command::new(drop[0]).args(&drop[1..]).arg("true").status().is_ok_and(|status| status.success()) {
        return eprintln!("passed over: cannot change the user");
    }
    let script = "[ -w $NOTIFY_SOCKET ] || exit 39
        ls ${NOTIFY_SOCKET%/*} && exit 40
        touch $BACKSTAY_HEARTBEAT_FILE && exit 41; exit 38";
    let command = [&drop[..], &["sh", "-c", script]].concat();
    let mut it = Supervised::start(&["--restart", "never"], &command, |run| {
        run.env("TMPDIR", "/tmp");
    });
    assert_eq!(it.code(), 38, "it cannot list the folder or write the heartbeat");
}

// A folder that other users can write to is not used.
#[test]
fn a_folder_that_others_can_write_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    for folder in [parent.path().to_owned(), parent.path().join("backstay-65533")] {
        let _ = fs::create_dir(&folder);
        fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65533", "--clear-groups", env!("CARGO_BIN_EXE_backstay"), "run", "--", "true"]);
    command.env("TMPDIR", parent.path()).env_remove("BACKSTAY_DIR").env_remove("XDG_RUNTIME_DIR").current_dir("/");
    let Ok(output) = command.output() else { return eprintln!("passed over: no setpriv") };
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && !said.contains("backstay: ") {
        return eprintln!("passed over: {said}");
    }
    assert!(said.contains("no heartbeat: ") && said.contains("BACKSTAY_DIR"), "{said}");
    assert_eq!(fs::read_dir(parent.path().join("backstay-65533")).unwrap().count(), 0);
}

#[test]
fn a_heartbeat_that_cannot_be_written_is_logged() {
    let it = Supervised::start(&["--restart", "never"], &["sleep", "0.2"], |run| {
        run.env("BACKSTAY_DIR", "/proc/nowhere");
    });
    assert!(it.log_event("trouble")["message"].as_str().unwrap().contains("no heartbeat"));
}

// Close to the kernel's limit.
#[test]
fn a_long_command_line_is_run() {
    let long = "x".repeat(100_000);
    let arguments = [&["sh", "-c", "exit 9"][..], &vec![long.as_str(); 15]].concat();
    let mut it = Supervised::start(&["--restart", "never"], &arguments, |_| {});
    assert_eq!(it.code(), 9);
}

// A container with a read-only root: the folders for temporary files and heartbeats cannot be written.
#[test]
fn a_read_only_file_system_is_enough() {
    let home = tempfile::tempdir().unwrap();
    // /tmp stays visible, because the binary may be in it.
    let script = "mount --bind /tmp /tmp && mount -o remount,bind,ro /tmp && mount -t tmpfs -o ro none /run || exit 77
        cd /; unset TMPDIR BACKSTAY_DIR
        exec \"$0\" run --restart never -- sh -c 'echo > $BACKSTAY_HEARTBEAT_FILE && exit 36'";
    let Some(mut command) = in_namespace(home.path(), script) else { return };
    let output = command.output().unwrap();
    match output.status.code() {
        Some(77) => eprintln!("passed over: nothing can be mounted"),
        code => assert_eq!(code, Some(36), "{output:?}"),
    }
}

// As process 1, the supervisor reaps orphans while the program runs.
#[test]
fn process_one_reaps_orphans() {
    let home = tempfile::tempdir().unwrap();
    let script = "exec \"$0\" run --restart never -- sh -c '(setsid sleep 0.01 &) ; (setsid sleep 1000 &)
        until ls /proc | grep -qx 1; do :; done
        until ! grep -l State:.Z /proc/[0-9]*/status && [ $(cat /proc/[0-9]*/comm | grep -cx sleep) -le 1 ]; do sleep 0.02; done 2>/dev/null
        [ $(cat /proc/1/comm) = backstay ] && exit 33'";
    let Some(mut command) = in_namespace(home.path(), script) else { return };
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(33), "{output:?}");
}

// A container entered from outside: the leader of the session is not visible in it.
#[test]
fn a_session_led_from_outside_has_job_control_too() {
    let home = tempfile::tempdir().unwrap();
    let script = "\"$0\" run --restart never -- sh -c 'until [ -e go ]; do sleep 0.01; done; exit 34' &
        until [ $(cat /proc/[0-9]*/comm | grep -cx sleep) -ge 1 ]; do :; done
        kill -TSTP $!
        until grep -q State:.T /proc/$!/status; do [ -e /proc/$! ] || break; sleep 0.01; done
        touch go
        kill -CONT $!
        wait $!";
    let Some(mut command) = in_namespace(home.path(), script) else { return };
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(34), "{output:?}");
}

// `docker exec`: a process started from outside is adopted as an orphan; its group is not visible in the container.
#[test]
fn orphans_from_outside_end_with_the_program() {
    let home = tempfile::tempdir().unwrap();
    let script = "exec \"$0\" run --grace 1h -- sh -c 'trap \"exit 35\" TERM; touch up; while :; do sleep 0.05; done'";
    let Some(mut command) = in_namespace(home.path(), script) else { return };
    let mut outside = command.spawn().unwrap();
    until("the program is up", || home.path().join("up").exists());
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", outside.id())).unwrap();
    let supervisor = children.trim();
    let enter = ["--user", "--preserve-credentials", "--pid", "--mount", "--target", supervisor, "sh", "-c"];
    assert!(Command::new("nsenter").args(enter).arg("sleep 1000 &").status().unwrap().success());
    kill_process(Pid::from_raw(supervisor.parse().unwrap()).unwrap(), Signal::TERM).unwrap();
    assert_eq!(end_of(&mut outside).code(), Some(35));
}
