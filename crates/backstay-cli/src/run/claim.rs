//! The name of a supervisor: no two that run at the same time have the same heartbeat file.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::process::getuid;

use crate::places;
use crate::verdict::{Judging, Sighting, State, is_supervisor};

/// A name, and the heartbeat file that goes by it.
pub(crate) struct Claim {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    /// Held for as long as the name is ours; the kernel releases it, however we end.
    _lock: Option<File>,
}

/// Why a name is not ours.
pub(crate) enum Refusal {
    /// Another process has it.
    Taken(String),
    /// There is no place for its files.
    Impossible(io::Error),
}

impl Claim {
    /// Claims a name. One that was not asked for in so many words may get a suffix: the first of `NAME`, `NAME-2`,
    /// `NAME-3` and so on that is free.
    pub(crate) fn new(name: &str, is_explicit: bool) -> Result<Self, Refusal> {
        let folder = places::make_folder().map_err(Refusal::Impossible)?;
        let mut claimed = claim(&folder, name);
        for number in 2..=1000 {
            match claimed {
                Err(Refusal::Taken(holder)) if is_explicit => {
                    let hint = "stop it, or choose another --name";
                    return Err(Refusal::Taken(format!("{name:?} is already running: {holder}; {hint}")));
                }
                Err(Refusal::Taken(_)) => claimed = claim(&folder, &format!("{name}-{number}")),
                settled => return settled,
            }
        }
        claimed
    }
}

fn claim(folder: &Path, name: &str) -> Result<Claim, Refusal> {
    let file = folder.join(format!("{name}.{}", places::EXTENSION));
    // Another supervisor keeps its name also before its first beat.
    let lock = lock(folder, name).map_err(Refusal::Impossible)?;
    let sighting = Sighting::of(&file, Judging { supervisor: true, ..Judging::default() });
    if matches!(lock, Lock::Taken) || is_foreign(&sighting, matches!(lock, Lock::Ours(_))) {
        let holder = match sighting.heartbeat {
            Some(beat) => format!("process {} writes", beat.pid),
            None => "another supervisor has".to_owned(),
        };
        return Err(Refusal::Taken(format!("{holder} {}", file.display())));
    }
    let lock = if let Lock::Ours(lock) = lock { Some(lock) } else { None };
    Ok(Claim { name: name.to_owned(), file, _lock: lock })
}

/// Whether another process beats into the file. Under a lock that is `ours` no supervisor does: its heartbeat is what
/// the last one left, in a container that was restarted perhaps, whose processes cannot be seen.
fn is_foreign(sighting: &Sighting, ours: bool) -> bool {
    let by_supervisor = sighting.heartbeat.as_ref().is_some_and(is_supervisor);
    sighting.verdict.state() == State::Alive && !(ours && by_supervisor)
}

enum Lock {
    Ours(File),
    /// Another process holds it.
    Taken,
    /// The file system has no locks.
    None,
}

/// Locks a name. A file that another user planted under the lock's name is neither followed nor used, because that user
/// could hold the lock for ever.
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
