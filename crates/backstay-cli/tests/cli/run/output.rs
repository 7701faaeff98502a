//! The output of the program is forwarded byte for byte.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;

use rustix::process::Signal;

use super::Supervised;
use crate::backstay;

/// Far more than the buffers hold: kept output would show in the memory of the supervisor.
const MEGABYTES: usize = 1024;

fn flood(options: &[&str]) {
    let home = tempfile::tempdir().unwrap();
    // 1 GB of different lines, made fast.
    let script = format!("yes 'no line is like the next, nearly' | head -c {}", MEGABYTES << 20);
    let mut child = backstay(home.path())
        .args(["run", "--quiet", "--restart", "never"])
        .args(options)
        .args(["--", "sh", "-c", &script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let line = b"no line is like the next, nearly\n";
    let (mut total, mut most) = (0, 0);
    let expected: Vec<u8> = line.repeat((1 << 20) / line.len() + 2);
    let mut chunk = vec![0; 1 << 20];
    loop {
        let length = stdout.read(&mut chunk).unwrap();
        if length == 0 {
            break;
        }
        let at = total % line.len();
        assert!(chunk[..length] == expected[at..at + length], "other bytes after {total}");
        total += length;
        if total >> 26 != (total - length) >> 26 {
            most = most.max(resident(child.id()));
        }
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(total, MEGABYTES << 20);
    assert!(most < 64 << 20, "{most} bytes of memory");
}

fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[test]
fn a_gigabyte_passes_unchanged() {
    flood(&[]);
}

#[test]
fn a_gigabyte_is_forwarded_unchanged_with_health_output() {
    flood(&["--health", "output"]);
}

#[test]
fn each_stream_keeps_its_bytes() {
    let home = tempfile::tempdir().unwrap();
    for options in [&[][..], &["--health", "output"]] {
        let output = backstay(home.path())
            .args(["run", "--quiet"])
            .args(options)
            .args(["--", "sh", "-c", r"printf 'a\0\377\r\n\033'; printf 'no end' >&2"])
            .output()
            .unwrap();
        assert_eq!(output.stdout, b"a\0\xff\r\n\x1b");
        assert_eq!(output.stderr, b"no end");
    }
}

#[test]
fn standard_input_reaches_the_program() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("in"), "from outside").unwrap();
    let input = std::fs::File::open(home.path().join("in")).unwrap();
    let output = backstay(home.path()).args(["run", "--quiet", "--", "cat"]).stdin(input).output().unwrap();
    assert_eq!(output.stdout, b"from outside");
}

#[test]
fn a_closed_reader_reaches_the_program() {
    let home = tempfile::tempdir().unwrap();
    for options in [&[][..], &["--health", "output"]] {
        let mut child = backstay(home.path())
            .args(["run", "--quiet", "--restart", "never"])
            .args(options)
            .args(["--", "yes"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        // By SIGPIPE, or with the error of `yes`.
        assert!(matches!(child.wait().unwrap().code(), Some(141 | 1)));
    }
}

/// More than the buffers hold, except for what is left in the program's own pipe when it ends.
const MANY: usize = 100_000;

fn ended_with_pending_output() -> Supervised {
    let options = ["--health", "output", "--grace", "50ms", "--restart", "never"];
    let script = format!("yes | head -c {MANY}; exit 7");
    let it = Supervised::start(&options, &["sh", "-c", &script], |it| {
        it.stdout(Stdio::piped());
    });
    it.log_event("exited");
    it
}

#[test]
fn a_slow_reader_gets_all_output() {
    let mut it = ended_with_pending_output();
    // Longer than the grace period.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let mut read = Vec::new();
    it.child.stdout.take().unwrap().read_to_end(&mut read).unwrap();
    assert_eq!(read.len(), MANY);
    assert_eq!(it.code(), 7);
}

#[test]
fn a_stalled_reader_does_not_delay_a_stop_request() {
    let mut it = ended_with_pending_output();
    let _reader = it.child.stdout.take();
    it.signal(Signal::TERM);
    assert_eq!(it.code(), 7);
}

#[test]
fn a_full_disk_differs_from_a_closed_pipe() {
    let options = ["--health", "output", "--restart", "never"];
    let script = "for i in 1 2 3; do echo; sleep 0.1; done; exit 7";
    let mut it = Supervised::start(&options, &["sh", "-c", script], |it| {
        it.stdout(File::options().write(true).open("/dev/full").unwrap());
    });
    assert_eq!(it.code(), 7);
    assert_eq!(it.rest().iter().filter(|event| event["event"] == "trouble").count(), 1);
}

// CL-7: the program sees a terminal; its bytes are forwarded unchanged, separately for each stream.
#[test]
fn a_pseudo_terminal_forwards_bytes_unchanged() {
    let home = tempfile::tempdir().unwrap();
    let script = "test -t 1 && test -t 2 || exit 3; printf 'a\\nb\\r\\n\\377'; printf 'no end' >&2; exit 4";
    let output = backstay(home.path())
        .args(["run", "--quiet", "--tty", "--restart", "never", "--", "sh", "-c", script])
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"a\nb\r\n\xff");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("no end\n") && stderr.ends_with("exit code 4\n"), "{stderr:?}");
    assert_eq!(output.status.code(), Some(4));
}

/// The contents of a file that is both standard output and standard error, or standard error alone.
fn logged(options: &[&str], script: &str, both: bool) -> String {
    let home = tempfile::tempdir().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let append = || File::options().append(true).open(file.path()).unwrap();
    let mut run = backstay(home.path());
    run.args(["run", "--name", "it", "--restart", "never"]).args(options).args(["--", "sh", "-c", script]);
    run.stdout(if both { Stdio::from(append()) } else { Stdio::null() }).stderr(append());
    run.status().unwrap();
    std::fs::read_to_string(file.path()).unwrap()
}

/// A log line without its timestamp.
fn message(line: &str) -> &str {
    let (stamp, message) = line.split_once(' ').unwrap();
    assert!(stamp.ends_with('Z') && stamp.parse::<jiff::Timestamp>().is_ok(), "{line}");
    message
}

// CL-7
#[test]
fn the_last_output_comes_before_the_log_line_about_the_end() {
    for (options, both) in [(&[][..], true), (&["--health", "output"], true), (&["--tty"], true), (&["--tty"], false)] {
        let to = if both { "" } else { ">&2" };
        let text = logged(options, &format!("printf 'one\\nno end' {to}"), both);
        // The program's output may come before the supervisor's first line.
        let lines: Vec<&str> = text.lines().filter(|line| !line.contains("started, process")).collect();
        let [.., one, partial, ended] = lines[..] else { panic!("{text}") };
        assert_eq!((one, partial), ("one", "no end"), "{options:?}: {text}");
        assert!(message(ended).starts_with("backstay: it: ended after "), "{text}");
    }
}

// Lines in a file have a timestamp; lines on a terminal or in the journal have none.
#[test]
fn lines_have_timestamps_in_files_only() {
    let text = logged(&[], "exit 3", false);
    assert!(
        text.lines().count() >= 3 && text.lines().all(|line| message(line).starts_with("backstay: it: ")),
        "{text}"
    );
    let home = tempfile::tempdir().unwrap();
    let script = "exec 2> log; JOURNAL_STREAM=$(stat -L -c %d:%i /dev/fd/2) \"$0\" run --name it -- true; cat log";
    let output = super::by_shell(home.path(), script).output().unwrap();
    let journal = String::from_utf8(output.stdout).unwrap();
    assert!(
        journal.lines().count() >= 3 && journal.lines().all(|line| line.starts_with("backstay: it: ")),
        "{journal}"
    );
}
