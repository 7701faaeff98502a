//! What is printed arrives, or somebody hears that it did not.

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
fn a_full_disk_is_no_success() {
    let home = tempfile::tempdir().unwrap();
    for arguments in THAT_PRINT {
        let output = printing_to(full(), home.path(), arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = stderr(&output);
        assert_eq!(said, "backstay: error: standard output: No space left on device (os error 28)\n", "{arguments:?}");
    }
    // The verdict of a probe is its exit code.
    let output = printing_to(full(), home.path(), &["probe", "nowhere"]);
    assert_eq!(output.status.code(), Some(7));
    assert!(stderr(&output).contains("No space left"));
}

#[test]
fn a_reader_that_left_has_heard_enough() {
    let home = tempfile::tempdir().unwrap();
    for arguments in THAT_PRINT {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = printing_to(writer, home.path(), arguments);
        // Nothing is run here, which is what `status` says.
        let expected = if arguments[0] == "status" { 7 } else { 0 };
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(expected), ""), "{arguments:?}");
    }
}
