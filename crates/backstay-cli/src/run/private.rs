//! The supervisor's private folder: where the program notifies it and, unless told otherwise, beats.

use std::fs::{DirBuilder, File, Permissions, set_permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::process::getuid;
use tempfile::TempDir;

use super::background::{Task, within};
use super::notify::Ear;
use super::user::User;

const PREFIX: &str = "backstay-run-";
const SOCKET: &str = "notify";
const BEATS: &str = "beats";
const BEAT_FILE: &str = "beats.heartbeat";
/// How often to begin anew where another supervisor takes a new folder for a left one.
const ATTEMPTS: usize = 10;

/// How long a file system may take to answer: another place is tried then, and the end does not wait for longer.
const LIMIT: Duration = Duration::from_secs(2);

/// Owned by this user. Where that is root, others may look up what they know the name of, because the program may become
/// another user after its start: the socket is then open to all, and each message is judged by its sender. What the
/// program beats into is a folder of its user's own.
pub(crate) struct PrivateFolder {
    /// Removed with what is in it when we end.
    folder: TempDir,
    /// Says that the folder is in use: locked for as long as this process lives, however it ends.
    lock: File,
    user: Option<User>,
    /// One that has not ended yet.
    renewal: Option<Task<Renewed>>,
}

type Renewed = io::Result<Option<(File, Ear)>>;

impl PrivateFolder {
    /// Where the socket can be, first of all where temporary files belong: that may be missing, have a path that is too long
    /// for a socket, hang, or be read-only, as in many a container.
    pub(crate) fn new(user: Option<&User>) -> io::Result<(Self, Ear)> {
        let attempt = |parent: PathBuf| {
            let user = user.cloned();
            within(LIMIT, move || Self::in_folder(&parent, user.as_ref()))?
        };
        attempt(std::env::temp_dir()).or_else(|error| {
            let others = ["/run", "/tmp", "/dev/shm"];
            others.iter().find_map(|other| attempt(PathBuf::from(other)).ok()).ok_or(error)
        })
    }

    fn in_folder(parent: &Path, user: Option<&User>) -> io::Result<(Self, Ear)> {
        sweep(parent);
        let mut last = io::Error::from(io::ErrorKind::WouldBlock);
        for _ in 0..ATTEMPTS {
            let mut builder = tempfile::Builder::new();
            let folder = builder.prefix(PREFIX).permissions(Permissions::from_mode(0o700)).tempdir_in(parent)?;
            match open(folder.path(), user) {
                Ok((lock, ear)) => return Ok((Self { folder, lock, user: user.cloned(), renewal: None }, ear)),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotFound) => {
                    last = error;
                }
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Makes the folder again where it is gone, and listens there.
    pub(crate) fn renew(&mut self) -> io::Result<Option<Ear>> {
        let hangs = || io::Error::from(io::ErrorKind::TimedOut);
        let (task, limit) = match self.renewal.take() {
            // It has had its time.
            Some(task) => (task, Duration::ZERO),
            None => {
                let (folder, user) = (self.path().to_owned(), self.user.clone());
                let work = move || match socket(&folder).exists() {
                    true => Ok(None),
                    false => open(&folder, user.as_ref()).map(Some),
                };
                (Task::start(work)?, LIMIT)
            }
        };
        let Some(renewed) = task.result(limit) else {
            self.renewal = Some(task);
            return Err(hangs());
        };
        Ok(renewed?.map(|(lock, ear)| {
            self.lock = lock;
            ear
        }))
    }

    /// Removes it, unless that takes too long: then the next start does.
    pub(crate) fn remove(self) {
        let _ = within(LIMIT, move || drop(self));
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        socket(self.path())
    }

    pub(crate) fn beats(&self) -> PathBuf {
        self.path().join(BEATS).join(BEAT_FILE)
    }
}

/// Makes what is not there, and listens.
fn open(folder: &Path, user: Option<&User>) -> io::Result<(File, Ear)> {
    let is_root = getuid().is_root();
    make(folder, if is_root { 0o711 } else { 0o700 })?;
    let lock = in_use(folder)?;
    let (beats, socket) = (folder.join(BEATS), socket(folder));
    make_new(&beats)?;
    let _ = std::fs::remove_file(&socket);
    let ear = Ear::open(&socket)?;
    match user {
        Some(user) if is_root => {
            // No other user can replace them: the folder is root's.
            let give = |path: &Path| {
                let fail = |error: io::Error| {
                    let what = format!("{} cannot be given to user {}: {error}", path.display(), user.uid);
                    io::Error::new(error.kind(), what)
                };
                chown(path, Some(user.uid), Some(user.gid)).map_err(fail)
            };
            give(&beats)?;
            give(&socket)?;
            set_permissions(&socket, Permissions::from_mode(0o600))?;
        }
        _ if is_root => set_permissions(&socket, Permissions::from_mode(0o666))?,
        _ => {}
    }
    Ok((lock, ear))
}

/// The socket in a private folder.
pub(crate) fn socket(folder: &Path) -> PathBuf {
    folder.join(SOCKET)
}

/// Removes a private folder.
pub(crate) fn remove(folder: &Path) {
    if is_named_as_ours(folder) {
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// Marks a folder as in use until the result is dropped, or this process ends.
pub(crate) fn in_use(folder: &Path) -> io::Result<File> {
    let lock = open_folder(folder)?;
    match lock.try_lock_shared() {
        // A file system without locks: then none is swept either.
        Ok(()) | Err(std::fs::TryLockError::Error(_)) => {}
        Err(std::fs::TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
    }
    // Swept and made again between opening and locking, it would be another.
    let (locked, there) = (lock.metadata()?, folder.symlink_metadata()?);
    if (locked.dev(), locked.ino()) == (there.dev(), there.ino()) {
        Ok(lock)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

fn open_folder(folder: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    File::options().read(true).custom_flags(flags.bits().cast_signed()).open(folder)
}

/// Removes the folders of supervisors of this user that were killed together with their guard, or before they had one.
fn sweep(parent: &Path) {
    for entry in parent.read_dir().into_iter().flatten().flatten() {
        let folder = entry.path();
        if !is_named_as_ours(&folder) || !is_ours(&folder).unwrap_or(false) {
            continue;
        }
        // Held until the folder is gone: no supervisor begins to use it meanwhile.
        if let Ok(lock) = open_folder(&folder)
            && lock.try_lock().is_ok()
        {
            remove(&folder);
        }
    }
}

fn is_named_as_ours(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()))
}

/// One that another user made meanwhile is not ours.
fn make(folder: &Path, mode: u32) -> io::Result<()> {
    make_new(folder)?;
    if !is_ours(folder)? {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    // Whatever the umask says.
    set_permissions(folder, Permissions::from_mode(mode))
}

fn make_new(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Whether this is a folder, not a link to one, of this user.
fn is_ours(folder: &Path) -> io::Result<bool> {
    let there = folder.symlink_metadata()?;
    Ok(there.is_dir() && there.uid() == getuid().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_is_swept_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let folder = parent.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join(SOCKET), "").unwrap();
            folder
        };
        let left = make("backstay-run-aB3dE6");
        let (first, _ear) = PrivateFolder::in_folder(parent.path(), None).unwrap();
        assert!(!left.exists());
        // What is in use, has another name, or is a link.
        let kept = [make("backstay-1000"), make("backstay-run"), first.path().to_owned()];
        let link = parent.path().join("backstay-run-aB3dE7");
        std::os::unix::fs::symlink(&kept[0], &link).unwrap();
        let (second, _ear) = PrivateFolder::in_folder(parent.path(), None).unwrap();
        assert!(kept.iter().chain([&link]).all(|folder| folder.join(SOCKET).exists()));
        let guards = in_use(first.path()).unwrap();
        let path = first.path().to_owned();
        // As where the supervisor is killed: nothing is removed, and its lock goes.
        let mut first = first;
        first.folder.disable_cleanup(true);
        drop(first);
        sweep(parent.path());
        assert!(path.exists(), "its guard still looks after it");
        drop(guards);
        sweep(parent.path());
        assert!(!path.exists() && second.path().exists());
    }
}
