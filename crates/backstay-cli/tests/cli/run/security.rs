//! What other users of the machine can read and do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rustix::process::{Signal, getuid};

use super::{Supervised, python};
use crate::{backstay, until};

/// Sends a message to a socket, from outside the program's process tree, as a user other than root.
fn send_from_outside(socket: &str, message: &str) {
    let script = "
import os, socket, sys
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
sender.sendto(sys.argv[2].encode(), sys.argv[1])";
    let output = Command::new("python3").args(["-c", script, socket, message]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// The heartbeat of a supervisor with these options, and the permissions of its heartbeat and lock.
fn published(options: &[&str]) -> (String, [u32; 2]) {
    let it = Supervised::start(options, &["sh", "-c", "sleep 1000", "--password=hunter2"], |_| {});
    let folder = it.path().join("run");
    let file = folder.join("it.heartbeat");
    until("it runs", || fs::read_to_string(&file).is_ok_and(|text| text.contains("\"running\"")));
    let mode = |name| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
    (fs::read_to_string(&file).unwrap(), ["it.heartbeat", "it.lock"].map(mode))
}

// CL-9: arguments may hold secrets.
#[test]
fn other_users_cannot_read_the_arguments() {
    let (text, modes) = published(&[]);
    assert!(text.contains(r#""command":"sh""#) && !text.contains("hunter2"), "{text}");
    assert_eq!(modes, [0o600, 0o600]);
}

#[test]
fn options_can_publish_the_arguments() {
    let (text, modes) = published(&["--show-command", "--file-mode", "644"]);
    assert!(text.contains("sh -c sleep 1000 --password=hunter2"), "{text}");
    assert_eq!(modes, [0o644, 0o600]);
}

// CL-10: following the link, root would create a file for the user that planted it.
#[test]
fn a_planted_lock_is_not_followed() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("run");
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink("created", folder.join("it.lock")).unwrap();
    let output = backstay(home.path()).args(["run", "--name", "it", "--", "true"]).output().unwrap();
    assert!(!folder.join("created").exists());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("no heartbeat: ") && said.contains("it.lock"), "{said}");
    assert_eq!(output.status.code(), Some(0));
}

// CL-8: any user can see the socket's path in /proc/net/unix.
#[test]
fn notifications_of_other_processes_are_ignored() {
    let script = "
open('socket', 'w').write(address + '\\n')
while not os.path.exists('go'): time.sleep(0.01)
say('STATUS=its own')
time.sleep(1000)";
    let prepare = |it: &mut Command| {
        it.env("TMPDIR", "/tmp");
    };
    let script = format!("{}{script}", super::NOTIFY);
    if python(&[], "").is_none() {
        return;
    }
    let mut it = Supervised::start(&["--restart", "never"], &["python3", "-c", &script], prepare);
    let path = it.path().join("socket");
    until("the path is written", || fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n')));
    let socket = fs::read_to_string(path).unwrap().trim().to_owned();
    send_from_outside(&socket, "STATUS=forged\nREADY=1\nWATCHDOG=trigger");
    let said = it.log_event("trouble")["message"].as_str().unwrap().to_owned();
    assert!(said.contains("notification ignored") && said.contains("of user "), "{said}");
    fs::write(it.path().join("go"), "").unwrap();
    let heartbeat = it.path().join("run/it.heartbeat");
    until("the notification arrived", || fs::read_to_string(&heartbeat).unwrap().contains("its own"));
    // It is logged only once, because a sender could flood the log.
    send_from_outside(&socket, "WATCHDOG=trigger");
    it.signal(Signal::TERM);
    assert_eq!(it.code(), 143);
    let rest = it.rest();
    let count = |kind: &str| rest.iter().filter(|event| event["event"] == kind).count();
    assert_eq!((count("froze"), count("ready"), count("trouble")), (0, 0, 0), "{rest:?}");
}

// CL-8: a helper of the program that sends a notification and ends before it can be looked up.
#[test]
fn a_sender_that_has_ended_is_trusted() {
    let script = "
open('pid', 'w').write(f'{os.getpid()}\\n')
while not os.path.exists('go'): time.sleep(0.01)
if os.fork() == 0:
    if os.fork() == 0:
        say('READY=1')
        os._exit(0)
    os.wait()
    os._exit(0)
os.wait()
open('said', 'w').close()
time.sleep(1000)";
    let Some(it) = python(&["--health", "notify", "--start-timeout", "1h"], script) else { return };
    it.pid("pid");
    it.signal(Signal::STOP);
    fs::write(it.path().join("go"), "").unwrap();
    until("the notification was sent", || it.path().join("said").exists());
    it.signal(Signal::CONT);
    it.log_event("ready");
}

// CL-9: user and group ids, socket and folder.
#[test]
fn a_program_runs_as_another_user() {
    if !getuid().is_root() {
        let home = tempfile::tempdir().unwrap();
        let output = backstay(home.path()).args(["run", "--user", "0", "--", "true"]).output().unwrap();
        assert_eq!(output.status.code(), Some(125));
        return assert!(String::from_utf8(output.stderr).unwrap().contains("only root"));
    }
    let script = r#"
        [ "$(id -u):$(id -g):$(id -G)" = "65534:65533:65533" ] || exit 39
        [ -w "$NOTIFY_SOCKET" ] && touch "$BACKSTAY_HEARTBEAT_FILE" || exit 40
        ls "${NOTIFY_SOCKET%/*}" && exit 41
        [ "$(stat -c %a:%u "$NOTIFY_SOCKET" "${BACKSTAY_HEARTBEAT_FILE%/*}" | tr '\n' ' ')" = "600:65534 700:65534 " ] || exit 42
        [ "$(stat -c %a:%u "${NOTIFY_SOCKET%/*}")" = "711:0" ] || exit 43
        [ "$HOME" != /root ] || exit 44
        exit 38"#;
    let home = tempfile::tempdir().unwrap();
    // The program does not get the supervisor's groups.
    let with_a_group = ["--groups", "4711", env!("CARGO_BIN_EXE_backstay")];
    let run = ["run", "--user", "65534:65533", "--restart", "never", "--", "sh", "-c", script];
    let mut command = Command::new("setpriv");
    command.args(with_a_group).args(run).current_dir("/").env("BACKSTAY_DIR", home.path()).env("TMPDIR", "/tmp");
    let Ok(output) = command.env("HOME", "/root").output() else { return eprintln!("passed over: no setpriv") };
    assert_eq!(output.status.code(), Some(38), "{output:?}");
}

// CL-9: many programs open /dev/stdout as a file. A user id without a database entry gets no variables of the supervisor's user.
#[test]
fn a_program_of_another_user_can_open_dev_stdout() {
    if !getuid().is_root() {
        return eprintln!("passed over: only root can do this");
    }
    let script = r#"echo out > /dev/stdout && echo err > /dev/stderr && [ "$HOME$USER$LOGNAME" = / ]"#;
    for way in [&["--health", "output"][..], &["--tty"]] {
        let home = tempfile::tempdir().unwrap();
        let mut command = backstay(home.path());
        command.args(["run", "--user", "4711:4711", "--restart", "never"]).args(way).args(["--", "sh", "-c", script]);
        let output = command.current_dir("/").env("USER", "root").env("TMPDIR", "/tmp").output().unwrap();
        assert!(output.status.success(), "{way:?}: {output:?}");
        assert_eq!(output.stdout, b"out\n");
    }
}

// CL-9: the list of processes does not reveal the paths.
#[test]
fn command_lines_contain_no_paths() {
    let it = Supervised::sh(&[], "echo \"$NOTIFY_SOCKET\" > socket; echo $$ > pid; sleep 1000");
    it.pid("pid");
    let socket = fs::read_to_string(it.path().join("socket")).unwrap();
    let folder = std::path::Path::new(socket.trim()).parent().unwrap().file_name().unwrap().to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let lines = processes.filter_map(|process| fs::read(process.join("cmdline")).ok());
    let shows = |line: &Vec<u8>| line.windows(folder.len()).any(|part| part == folder.as_bytes());
    assert_eq!(lines.filter(shows).count(), 0);
}

// CL-10: a user that can write one of them controls the supervisor.
#[test]
fn the_configuration_files_are_logged() {
    let it = Supervised::start(&["--restart", "never"], &["true"], |it| {
        let home = it.get_current_dir().unwrap().to_owned();
        let config = home.join(".config");
        fs::create_dir(&config).unwrap();
        fs::write(home.join("kstlib.conf.yml"), "resilience: {run: {grace: 5}}\n").unwrap();
        fs::write(config.join("kstlib.conf.yml"), "others: 1\n").unwrap();
    });
    let event = it.log_event("configured");
    let files: Vec<&str> = event["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
    assert!(files.iter().any(|file| file.ends_with(".config/kstlib.conf.yml")), "{files:?}");
    assert!(event["message"].as_str().unwrap().starts_with("configuration read from "), "{event}");
    let none = Supervised::start(&["--restart", "never"], &["true"], |_| {});
    assert!(none.rest().iter().all(|event| event["event"] != "configured"));
}

// CL-10: for root it is an error, for other users a warning.
#[test]
fn a_configuration_file_that_others_can_write_is_rejected() {
    let mut it = Supervised::start(&["--restart", "never"], &["sh", "-c", "exit 7"], |it| {
        let file = it.get_current_dir().unwrap().join("kstlib.conf.yml");
        fs::write(&file, "resilience: {run: {grace: 5}}\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    });
    if getuid().is_root() {
        return assert_eq!(it.code(), 125);
    }
    assert!(it.log_event("trouble")["message"].as_str().unwrap().contains("kstlib.conf.yml"));
    assert_eq!(it.code(), 7);
}
