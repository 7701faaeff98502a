//! The supervisor's private folder, with the notification socket and, by default, the program's heartbeat file.

use std::fs::{DirBuilder, File, Permissions, set_permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::process::getuid;
use tempfile::TempDir;

use super::background::{Task, within};
use super::notify::NotifyListener;
use super::user::User;

const PREFIX: &str = "backstay-run-";
const SOCKET: &str = "notify";
const HEARTBEAT_FOLDER: &str = "beats";
const HEARTBEAT_FILE: &str = "beats.heartbeat";
/// Maximum number of attempts if another supervisor removes the new folder as a leftover.
const ATTEMPTS: usize = 10;

/// Time limit for the file system. After it another folder is tried, and the end of the supervisor does not wait longer.
const LIMIT: Duration = Duration::from_secs(2);

/// A folder of this user. If that is root, the program may change its user after the start. So other users can reach files
/// with a known name, the socket is open to all users, and each message is checked by its sender. The heartbeat file is
/// in a subfolder that belongs to the program's user.
pub(crate) struct PrivateFolder {
    /// Removed with its contents when the supervisor ends.
    folder: TempDir,
    /// Marks the folder as in use: the kernel releases the lock when the process ends.
    lock: File,
    user: Option<User>,
    /// A renewal that is still running.
    renewal: Option<Task<Renewed>>,
}

type Renewed = io::Result<Option<(File, NotifyListener)>>;

impl PrivateFolder {
    /// Makes the folder in the folder for temporary files, or else in /run, /tmp or /dev/shm. The first may be missing, too
    /// long a path for a socket, read-only (as in some containers), or on a file system that hangs.
    pub(crate) fn new(user: Option<&User>) -> io::Result<(Self, NotifyListener)> {
        let attempt = |parent: PathBuf| {
            let user = user.cloned();
            within(LIMIT, move || Self::in_folder(&parent, user.as_ref()))?
        };
        attempt(std::env::temp_dir()).or_else(|error| {
            let others = ["/run", "/tmp", "/dev/shm"];
            others.iter().find_map(|other| attempt(PathBuf::from(other)).ok()).ok_or(error)
        })
    }

    fn in_folder(parent: &Path, user: Option<&User>) -> io::Result<(Self, NotifyListener)> {
        sweep(parent);
        let mut last = io::Error::from(io::ErrorKind::WouldBlock);
        for _ in 0..ATTEMPTS {
            let mut builder = tempfile::Builder::new();
            let folder = builder.prefix(PREFIX).permissions(Permissions::from_mode(0o700)).tempdir_in(parent)?;
            match open(folder.path(), user) {
                Ok((lock, listener)) => {
                    return Ok((Self { folder, lock, user: user.cloned(), renewal: None }, listener));
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotFound) => {
                    last = error;
                }
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Makes the folder again if it is gone; returns the new listener.
    pub(crate) fn renew(&mut self) -> io::Result<Option<NotifyListener>> {
        let hangs = || io::Error::from(io::ErrorKind::TimedOut);
        let (task, limit) = match self.renewal.take() {
            // An earlier call has waited for it already.
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
        Ok(renewed?.map(|(lock, listener)| {
            self.lock = lock;
            listener
        }))
    }

    /// Removes the folder. If that takes too long, the next start of a supervisor does it.
    pub(crate) fn remove(self) {
        let _ = within(LIMIT, move || drop(self));
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        socket(self.path())
    }

    pub(crate) fn heartbeat_file(&self) -> PathBuf {
        self.path().join(HEARTBEAT_FOLDER).join(HEARTBEAT_FILE)
    }
}

/// Makes the folder and its contents where they are missing, and opens the socket.
fn open(folder: &Path, user: Option<&User>) -> io::Result<(File, NotifyListener)> {
    let is_root = getuid().is_root();
    make(folder, if is_root { 0o711 } else { 0o700 })?;
    let lock = in_use(folder)?;
    let (beats, socket) = (folder.join(HEARTBEAT_FOLDER), socket(folder));
    make_new(&beats)?;
    let _ = std::fs::remove_file(&socket);
    let listener = NotifyListener::open(&socket)?;
    match user {
        Some(user) if is_root => {
            // No other user can replace these files, because the folder belongs to root.
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
    Ok((lock, listener))
}

/// Returns the path of the socket in a private folder.
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
        // The file system has no locks; then no folder on it is swept either.
        Ok(()) | Err(std::fs::TryLockError::Error(_)) => {}
        Err(std::fs::TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
    }
    // Between opening and locking, the folder may have been removed and made again.
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
        // The lock is held until the folder is removed, so that no supervisor begins to use it.
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

/// Makes a folder, or accepts an existing one of this user. An existing folder of another user is an error.
fn make(folder: &Path, mode: u32) -> io::Result<()> {
    make_new(folder)?;
    if !is_ours(folder)? {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    // Independent of the umask.
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
    fn only_leftover_folders_are_swept() {
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
        // A folder in use, a folder with another name, and a link are kept.
        let kept = [make("backstay-1000"), make("backstay-run"), first.path().to_owned()];
        let link = parent.path().join("backstay-run-aB3dE7");
        std::os::unix::fs::symlink(&kept[0], &link).unwrap();
        let (second, _ear) = PrivateFolder::in_folder(parent.path(), None).unwrap();
        assert!(kept.iter().chain([&link]).all(|folder| folder.join(SOCKET).exists()));
        let guard_lock = in_use(first.path()).unwrap();
        let path = first.path().to_owned();
        // As if the supervisor is killed: nothing is removed, and its lock is released.
        let mut first = first;
        first.folder.disable_cleanup(true);
        drop(first);
        sweep(parent.path());
        assert!(path.exists(), "its guard still uses it");
        drop(guard_lock);
        sweep(parent.path());
        assert!(!path.exists() && second.path().exists());
    }
}
