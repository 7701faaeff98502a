//! Finds heartbeat files, and names the services that write them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::process::getuid;

use crate::output::controls_terminal;

/// The extension of heartbeat files.
pub(crate) const EXTENSION: &str = "heartbeat";

/// Returns the folder in which `run` writes heartbeats and `status` finds them: `BACKSTAY_DIR`, or else a folder of this
/// user.
pub(crate) fn folder() -> PathBuf {
    configured_folder().unwrap_or_else(default_folder)
}

fn configured_folder() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("BACKSTAY_DIR")
        .or_else(|| variable("XDG_RUNTIME_DIR").map(|folder| folder.join("backstay")))
        .or_else(|| getuid().is_root().then(|| PathBuf::from("/run/backstay")))
}

/// The default folder, in the shared folder for temporary files.
fn default_folder() -> PathBuf {
    std::env::temp_dir().join(format!("backstay-{}", getuid().as_raw()))
}

/// Makes the folder if it is missing. The default folder must be writable by this user alone.
pub(crate) fn make_folder() -> io::Result<PathBuf> {
    if let Some(folder) = configured_folder() {
        let _ = std::fs::create_dir_all(&folder);
        return Ok(folder);
    }
    let folder = default_folder();
    let _ = DirBuilder::new().mode(0o700).create(&folder);
    check_owner(&folder).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", folder.display())))?;
    Ok(folder)
}

/// Rejects the default folder unless only this user can write to it: another user could have made it in the shared folder,
/// and would control what is read from it. A configured folder is not checked.
fn check_owner(folder: &Path) -> io::Result<()> {
    if configured_folder().is_some() || folder != default_folder() {
        return Ok(());
    }
    let there = folder.symlink_metadata()?;
    if there.is_dir() && there.uid() == getuid().as_raw() && there.mode() & 0o022 == 0 {
        return Ok(());
    }
    const WHY: &str = "another user owns it or can write to it; set BACKSTAY_DIR to another folder";
    Err(io::Error::new(io::ErrorKind::PermissionDenied, WHY))
}

/// Returns the heartbeat files in a folder, sorted by name.
pub(crate) fn heartbeats(folder: &Path) -> io::Result<BTreeSet<PathBuf>> {
    first_heartbeats(folder, usize::MAX).map(|(files, _)| files)
}

/// Returns the first `most` heartbeat files in a folder, sorted by name, and the number of files left out.
pub(crate) fn first_heartbeats(folder: &Path, most: usize) -> io::Result<(BTreeSet<PathBuf>, usize)> {
    check_owner(folder)?;
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

/// Returns the name of the service that writes a file. Two files of a folder never have the same name. Characters that
/// control a terminal are escaped byte by byte.
pub(crate) fn name(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default();
    let Some(text) = stem.to_str() else { return stem.as_encoded_bytes().escape_ascii().to_string() };
    // A literal `\x` is escaped as well, so that it differs from an escaped byte.
    if !text.contains(r"\x") && !text.contains(controls_terminal) {
        return text.to_owned();
    }
    let mut name = String::new();
    for c in text.chars() {
        match c {
            '\\' => name += r"\\",
            c if controls_terminal(c) => {
                c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| name += &format!(r"\x{byte:02x}"));
            }
            c => name.push(c),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn every_file_has_a_unique_name() {
        let name = |file: &[u8]| name(Path::new(OsStr::from_bytes(file)));
        assert_eq!(name(b"bot.heartbeat"), "bot");
        assert_eq!(name("bücher.heartbeat".as_bytes()), "bücher");
        assert_eq!(name(br"a\b.heartbeat"), r"a\b");
        assert_eq!(name(b"\xff.heartbeat"), r"\xff");
        assert_eq!(name(br"\xff.heartbeat"), r"\\xff");
        assert_eq!(name(b"\xff\\\\.heartbeat"), r"\xff\\\\");
        assert_eq!(name(b"a\n\x1b[2J.heartbeat"), r"a\x0a\x1b[2J");
        assert_eq!(name(br"a\x0a\x1b[2J.heartbeat"), r"a\\x0a\\x1b[2J");
        assert_eq!(name("\u{202e}\\é.heartbeat".as_bytes()), r"\xe2\x80\xae\\é");
    }
}
