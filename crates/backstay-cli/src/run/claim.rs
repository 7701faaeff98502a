//! The name of a supervisor. Two supervisors that run at the same time never have the same name and heartbeat file.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::process::getuid;

use crate::heartbeats::files;
use crate::heartbeats::{CheckOptions, HeartbeatCheck, State, is_supervisor};

/// A claimed name, and its heartbeat file.
pub(crate) struct Claim {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    /// The lock on the name. The kernel releases it when the process ends.
    _lock: Option<File>,
}

/// Why a name could not be claimed.
pub(crate) enum ClaimError {
    /// Another process uses it.
    Taken(String),
    /// The folder for its files does not work.
    NoFolder(io::Error),
}

impl Claim {
    /// Claims a name. A name that is not explicit (no `--name`) may get a suffix: the first free one of `NAME`, `NAME-2`,
    /// `NAME-3` and so on.
    pub(crate) fn new(name: &str, is_explicit: bool) -> Result<Self, ClaimError> {
        let folder = files::make_folder().map_err(ClaimError::NoFolder)?;
        let mut claimed = claim(&folder, name);
        for number in 2..=1000 {
            match claimed {
                Err(ClaimError::Taken(holder)) if is_explicit => {
                    let hint = "stop it, or choose another --name";
                    return Err(ClaimError::Taken(format!("{name:?} is already running: {holder}; {hint}")));
                }
                Err(ClaimError::Taken(_)) => claimed = claim(&folder, &format!("{name}-{number}")),
                settled => return settled,
            }
        }
        claimed
    }
}

fn claim(folder: &Path, name: &str) -> Result<Claim, ClaimError> {
    let file = folder.join(format!("{name}.{}", files::EXTENSION));
    // The lock protects the name of another supervisor before its first heartbeat.
    let lock = lock(folder, name).map_err(ClaimError::NoFolder)?;
    let check = HeartbeatCheck::of(&file, CheckOptions { supervisor: true, ..CheckOptions::default() });
    if matches!(lock, Lock::Taken) || is_foreign(&check, matches!(lock, Lock::Ours(_))) {
        let holder = match check.heartbeat {
            Some(beat) => format!("process {} writes", beat.pid),
            None => "another supervisor has".to_owned(),
        };
        return Err(ClaimError::Taken(format!("{holder} {}", file.display())));
    }
    let lock = if let Lock::Ours(lock) = lock { Some(lock) } else { None };
    Ok(Claim { name: name.to_owned(), file, _lock: lock })
}

/// Whether another process writes the heartbeat file. If the lock is `ours`, a supervisor's heartbeat is a leftover of an
/// earlier one: perhaps from before a container was restarted, so that its process cannot be checked.
fn is_foreign(check: &HeartbeatCheck, ours: bool) -> bool {
    let by_supervisor = check.heartbeat.as_ref().is_some_and(is_supervisor);
    check.result.state() == State::Alive && !(ours && by_supervisor)
}

enum Lock {
    Ours(File),
    /// Another process holds it.
    Taken,
    /// The file system has no locks.
    None,
}

/// Locks a name. A file of another user is not used as the lock, and links are not followed: that user could hold the lock
/// for ever.
fn lock(folder: &Path, name: &str) -> io::Result<Lock> {
    let path = folder.join(format!("{name}.lock"));
    let fail = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let lock = options.custom_flags(flags.bits().cast_signed()).open(&path).map_err(fail)?;
    let there = lock.metadata().map_err(fail)?;
    if !there.is_file() || there.uid() != getuid().as_raw() {
        const WHY: &str = "not a file of this user; set BACKSTAY_DIR to another folder";
        return Err(fail(io::Error::new(io::ErrorKind::PermissionDenied, WHY)));
    }
    Ok(match lock.try_lock() {
        Ok(()) => Lock::Ours(lock),
        Err(TryLockError::WouldBlock) => Lock::Taken,
        Err(TryLockError::Error(_)) => Lock::None,
    })
}
