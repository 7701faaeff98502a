//! What the program writes passes through, byte for byte.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;

use rustix::process::Signal;

use super::Supervised;
use crate::backstay;

/// Far more than fits in between: what is not passed on at once would be seen in memory.
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
fn a_gigabyte_passes_untouched() {
    flood(&[]);
}

#[test]
fn a_gigabyte_passes_untouched_where_we_listen() {
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
fn the_program_learns_that_nobody_reads() {
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
        // By SIGPIPE, or as yes itself says.
        assert!(matches!(child.wait().unwrap().code(), Some(141 | 1)));
    }
}

/// More than fits in between, all but what the program leaves in its own pipe when it ends.
const MANY: usize = 100_000;

fn ended_with_much_to_say() -> Supervised {
    let options = ["--health", "output", "--grace", "50ms", "--restart", "never"];
    let script = format!("yes | head -c {MANY}; exit 7");
    let it = Supervised::start(&options, &["sh", "-c", &script], |it| {
        it.stdout(Stdio::piped());
    });
    it.news("exited");
    it
}

#[test]
fn whoever_reads_slowly_gets_it_all() {
    let mut it = ended_with_much_to_say();
    // Longer than the grace.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let mut read = Vec::new();
    it.child.stdout.take().unwrap().read_to_end(&mut read).unwrap();
    assert_eq!(read.len(), MANY);
    assert_eq!(it.code(), 7);
}

#[test]
fn whoever_does_not_read_holds_up_nobody_who_asks_for_the_end() {
    let mut it = ended_with_much_to_say();
    let _reader = it.child.stdout.take();
    it.signal(Signal::TERM);
    assert_eq!(it.code(), 7);
}

#[test]
fn a_full_disk_is_no_reader_that_went_away() {
    let options = ["--health", "output", "--restart", "never"];
    let script = "for i in 1 2 3; do echo; sleep 0.1; done; exit 7";
    let mut it = Supervised::start(&options, &["sh", "-c", script], |it| {
        it.stdout(File::options().write(true).open("/dev/full").unwrap());
    });
    assert_eq!(it.code(), 7);
    assert_eq!(it.rest().iter().filter(|news| news["event"] == "trouble").count(), 1);
}

// CL-7: a program that looks finds a terminal; its bytes pass all the same, and each stream keeps its own.
#[test]
fn a_pseudo_terminal_passes_bytes() {
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

/// What is in a file that is both standard output and standard error, or standard error alone.
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

/// Without its time stamp.
fn message(line: &str) -> &str {
    let (stamp, message) = line.split_once(' ').unwrap();
    assert!(stamp.ends_with('Z') && stamp.parse::<jiff::Timestamp>().is_ok(), "{line}");
    message
}

// CL-7
#[test]
fn the_programs_last_line_comes_before_its_end_and_is_a_line() {
    for (options, both) in [(&[][..], true), (&["--health", "output"], true), (&["--tty"], true), (&["--tty"], false)] {
        let to = if both { "" } else { ">&2" };
        let text = logged(options, &format!("printf 'one\\nno end' {to}"), both);
        // The program may be faster than the supervisor's own line.
        let lines: Vec<&str> = text.lines().filter(|line| !line.contains("started, process")).collect();
        let [.., one, partial, ended] = lines[..] else { panic!("{text}") };
        assert_eq!((one, partial), ("one", "no end"), "{options:?}: {text}");
        assert!(message(ended).starts_with("backstay: it: ended after "), "{text}");
    }
}

// A log in a file says when; a person at a terminal, and the journal, know.
#[test]
fn lines_have_time_stamps_unless_their_reader_has_them() {
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
