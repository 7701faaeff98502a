//! Checks whether other users than this one and root could have written a configuration file.

use std::fs::File;
use std::path::Path;

/// Returns why the open `file`, found at `path`, cannot be trusted; `None` if it can.
///
/// Owner and mode are those of the open descriptor, so replacing the file in the meantime has no effect. The path is
/// checked as well: in a folder such as `/tmp`, another user's link can lead to a trusted file that is not intended as
/// configuration.
#[cfg(unix)]
pub(super) fn distrust(path: &Path, file: &File) -> std::io::Result<Option<String>> {
    use std::os::unix::fs::MetadataExt;

    let opened = file.metadata()?;
    let link = path.symlink_metadata().ok();
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.metadata()?,
        _ => Path::new(".").metadata()?,
    };
    Ok(Facts {
        user: user(),
        owner: opened.uid(),
        mode: opened.mode(),
        link_owner: link.as_ref().filter(|link| link.is_symlink()).map(MetadataExt::uid),
        exchanged: link
            .is_none_or(|link| !link.is_symlink() && (link.dev(), link.ino()) != (opened.dev(), opened.ino())),
        folder_mode: folder.mode(),
    }
    .distrust())
}

#[cfg(not(unix))]
pub(super) fn distrust(_: &Path, _: &File) -> std::io::Result<Option<String>> {
    Ok(None)
}

/// Returns whether this process is root.
#[cfg(unix)]
pub(super) fn is_root() -> bool {
    user() == ROOT
}

#[cfg(not(unix))]
pub(super) fn is_root() -> bool {
    false
}

#[cfg(unix)]
fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(unix)]
const ROOT: u32 = 0;

/// The facts that decide whether a file is trusted.
#[cfg(unix)]
#[derive(Clone, Copy, Debug)]
struct Facts {
    /// The effective user of this process.
    user: u32,
    owner: u32,
    mode: u32,
    /// The owner of the link, if the path is a link.
    link_owner: Option<u32>,
    /// The path no longer leads to the file that was opened.
    exchanged: bool,
    folder_mode: u32,
}

#[cfg(unix)]
impl Facts {
    fn distrust(self) -> Option<String> {
        const OTHERS_WRITE: u32 = 0o002;
        const STICKY: u32 = 0o1000;
        let foreign = |owner: &u32| *owner != self.user && *owner != ROOT;
        if foreign(&self.owner) {
            return Some(format!("is owned by user {}, neither this user nor root", self.owner));
        }
        if self.mode & OTHERS_WRITE != 0 {
            return Some("can be written by every user".to_owned());
        }
        if let Some(owner) = self.link_owner.filter(foreign) {
            return Some(format!("is a link owned by user {owner}, neither this user nor root"));
        }
        if self.folder_mode & OTHERS_WRITE == 0 {
            return None;
        }
        if self.folder_mode & STICKY == 0 {
            return Some("is in a folder in which every user can replace it".to_owned());
        }
        // In a sticky folder only its owner can replace the file, but at the time of opening the path may have been
        // another user's link.
        self.exchanged.then(|| "was replaced while it was opened".to_owned())
    }
}

#[cfg(all(test, unix, not(backstay_loom)))]
mod tests {
    use super::*;

    const OURS: Facts =
        Facts { user: 1000, owner: 1000, mode: 0o100_644, link_owner: None, exchanged: false, folder_mode: 0o040_755 };

    // CF-1: this user and root are trusted, a group may write; other owners and writers are not trusted.
    #[test]
    fn only_files_that_other_users_cannot_write_are_trusted() {
        let trusted = [
            OURS,
            Facts { owner: ROOT, ..OURS },
            Facts { user: ROOT, owner: ROOT, ..OURS },
            Facts { mode: 0o100_664, folder_mode: 0o040_775, ..OURS },
            Facts { folder_mode: 0o041_777, ..OURS },
            Facts { link_owner: Some(1000), ..OURS },
            Facts { link_owner: Some(ROOT), ..OURS },
            Facts { exchanged: true, ..OURS },
        ];
        for facts in trusted {
            assert_eq!(facts.distrust(), None, "{facts:?}");
        }
        let not_trusted = [
            (Facts { owner: 1001, ..OURS }, "is owned by user 1001"),
            (Facts { user: ROOT, ..OURS }, "is owned by user 1000"),
            (Facts { mode: 0o100_646, ..OURS }, "can be written by every user"),
            (
                Facts { owner: ROOT, link_owner: Some(1001), folder_mode: 0o041_777, ..OURS },
                "is a link owned by user 1001",
            ),
            (Facts { folder_mode: 0o040_777, ..OURS }, "is in a folder in which every user can replace it"),
            (Facts { exchanged: true, folder_mode: 0o041_777, ..OURS }, "was replaced while it was opened"),
        ];
        for (facts, why) in not_trusted {
            assert!(facts.distrust().is_some_and(|said| said.starts_with(why)), "{facts:?}");
        }
    }
}
