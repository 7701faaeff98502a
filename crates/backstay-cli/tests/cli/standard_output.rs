//! Errors of standard output are reported.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::{Output, Stdio};

use crate::{backstay, stderr};

const THAT_PRINT: [&[&str]; 6] = [
    &["completions", "bash"],
    &["config", "show", "--json"],
    &["config", "check"],
    &["status", "--json"],
    &["--version"],
    &["help", "run"],
];

fn printing_to(out: impl Into<Stdio>, home: &Path, arguments: &[&str]) -> Output {
    backstay(home).args(arguments).stdout(out).output().unwrap()
}

#[cfg(target_os = "linux")]
fn full() -> fs::File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let home = tempfile::tempdir().unwrap();
    for arguments in THAT_PRINT {
        let output = printing_to(full(), home.path(), arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = stderr(&output);
        assert_eq!(said, "backstay: error: standard output: No space left on device (os error 28)\n", "{arguments:?}");
    }
    // The exit code of `probe` is its result, whether or not it could be printed.
    let output = printing_to(full(), home.path(), &["probe", "nowhere"]);
    assert_eq!(output.status.code(), Some(7));
    assert!(stderr(&output).contains("No space left"));
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let home = tempfile::tempdir().unwrap();
    for arguments in THAT_PRINT {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = printing_to(writer, home.path(), arguments);
        // No service runs here: `status` exits with the code of a missing file.
        let expected = if arguments[0] == "status" { 7 } else { 0 };
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(expected), ""), "{arguments:?}");
    }
}
