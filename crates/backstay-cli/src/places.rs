//! Where heartbeat files are.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

/// How the names of heartbeat files end.
pub(crate) const EXTENSION: &str = "heartbeat";

/// Where `run` puts its heartbeats and `status` looks for them: `BACKSTAY_DIR`, or else a folder that is the user's own.
pub(crate) fn folder() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = rustix::process::getuid();
    variable("BACKSTAY_DIR")
        .or_else(|| variable("XDG_RUNTIME_DIR").map(|folder| folder.join("backstay")))
        .unwrap_or_else(|| match user.is_root() {
            true => PathBuf::from("/run/backstay"),
            false => std::env::temp_dir().join(format!("backstay-{}", user.as_raw())),
        })
}

/// The heartbeat files in a folder, by name.
pub(crate) fn heartbeats(folder: &Path) -> io::Result<BTreeSet<PathBuf>> {
    first_heartbeats(folder, usize::MAX).map(|(files, _)| files)
}

/// The first `most` of them, however many there are, and how many are left out.
pub(crate) fn first_heartbeats(folder: &Path, most: usize) -> io::Result<(BTreeSet<PathBuf>, usize)> {
    let (mut files, mut left_out) = (BTreeSet::new(), 0);
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new(EXTENSION)) {
            files.insert(path);
            if files.len() > most {
                files.pop_last();
                left_out += 1;
            }
        }
    }
    Ok((files, left_out))
}

/// What to call the service that writes a file. No two files of a folder share a name.
pub(crate) fn name(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default();
    match stem.to_str() {
        // What reads like an escaped byte is none: nobody can be called what a name of other bytes is.
        Some(text) if text.contains(r"\x") => text.replace('\\', "\\\\"),
        Some(text) => text.to_owned(),
        None => stem.as_encoded_bytes().escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn no_two_files_share_a_name() {
        let name = |file: &[u8]| name(Path::new(OsStr::from_bytes(file)));
        assert_eq!(name(b"bot.heartbeat"), "bot");
        assert_eq!(name("bücher.heartbeat".as_bytes()), "bücher");
        assert_eq!(name(br"a\b.heartbeat"), r"a\b");
        assert_eq!(name(b"\xff.heartbeat"), r"\xff");
        assert_eq!(name(br"\xff.heartbeat"), r"\\xff");
        assert_eq!(name(b"\xff\\\\.heartbeat"), r"\xff\\\\");
    }
}
