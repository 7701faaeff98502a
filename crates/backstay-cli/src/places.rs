//! Where heartbeat files are.

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
pub(crate) fn heartbeats(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new(EXTENSION)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
