//! The supervisor's private folder: where the program speaks to it and, unless told otherwise, beats.

use std::collections::hash_map::RandomState;
use std::fs::{DirBuilder, Permissions, set_permissions};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::notify::Ear;

const SOCKET: &str = "notify";
const BEATS: &str = "beats.heartbeat";
/// What may stand in it.
const FILES: [&str; 2] = [SOCKET, BEATS];

/// Nobody else's business. Where we are root the program may become somebody else, who has to speak and to beat all the
/// same: then it lies, open to all, in a folder that nobody else can list, under a name that nobody can guess.
pub(crate) struct PrivateFolder {
    /// Removed with what is in it when we end.
    outer: TempDir,
    inner: PathBuf,
}

impl PrivateFolder {
    /// Where the socket can be, first of all where temporary files belong: that may be missing, have a path that is too long
    /// for a socket, or be read-only, as in many a container.
    pub(crate) fn new() -> io::Result<(Self, Ear)> {
        Self::in_folder(&std::env::temp_dir()).or_else(|error| {
            let others = ["/run", "/tmp", "/dev/shm"];
            others.iter().find_map(|other| Self::in_folder(Path::new(other)).ok()).ok_or(error)
        })
    }

    fn in_folder(folder: &Path) -> io::Result<(Self, Ear)> {
        let outer = tempfile::Builder::new()
            .prefix("backstay-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(folder)?;
        let inner = match rustix::process::getuid().is_root() {
            true => outer.path().join(format!("{:016x}", RandomState::new().build_hasher().finish())),
            false => outer.path().to_owned(),
        };
        let private = Self { outer, inner };
        let ear = private.open()?;
        Ok((private, ear))
    }

    /// Makes what is not there, and listens.
    pub(crate) fn open(&self) -> io::Result<Ear> {
        let is_open = self.inner != self.outer.path();
        make(self.outer.path(), if is_open { 0o711 } else { 0o700 })?;
        if is_open {
            make(&self.inner, 0o1777)?;
        }
        let ear = Ear::open(&self.socket())?;
        if is_open {
            set_permissions(self.socket(), Permissions::from_mode(0o666))?;
        }
        Ok(ear)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.inner
    }

    pub(crate) fn socket(&self) -> PathBuf {
        socket(&self.inner)
    }

    pub(crate) fn beats(&self) -> PathBuf {
        self.inner.join(BEATS)
    }
}

/// The socket in a private folder.
pub(crate) fn socket(folder: &Path) -> PathBuf {
    folder.join(SOCKET)
}

/// Removes a private folder, and only what its supervisor puts there.
pub(crate) fn remove(folder: &Path) {
    for name in FILES {
        let _ = std::fs::remove_file(folder.join(name));
    }
    let _ = std::fs::remove_dir(folder);
    let parent = folder
        .parent()
        .filter(|parent| parent.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"backstay-")));
    if let Some(parent) = parent {
        let _ = std::fs::remove_dir(parent);
    }
}

/// One that another user made meanwhile is not ours.
fn make(folder: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if !is_ours(folder)? {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    // Whatever the umask says.
    set_permissions(folder, Permissions::from_mode(mode))
}

/// Whether this is a folder, not a link to one, of this user.
pub(crate) fn is_ours(folder: &Path) -> io::Result<bool> {
    let there = folder.symlink_metadata()?;
    Ok(there.is_dir() && there.uid() == rustix::process::getuid().as_raw())
}
