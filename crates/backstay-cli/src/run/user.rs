//! The user and group that the program runs as.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::fchown;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use nix::unistd::{Gid, Group, Uid, getgrouplist, setgid, setgroups, setuid};
use rustix::process::getuid;

/// `NAME`, `UID`, `NAME:GROUP` or `UID:GID`, looked up.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    groups: Vec<Gid>,
    /// Name and home folder from the user database.
    entry: Option<(String, PathBuf)>,
}

impl User {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let found = match (nix::unistd::User::from_name(user), id(user)) {
            (Ok(Some(found)), _) => Some(found),
            (_, Some(uid)) => nix::unistd::User::from_uid(Uid::from_raw(uid)).ok().flatten(),
            _ => return Err(format!("there is no user {user:?}")),
        };
        let uid = found.as_ref().map(|user| user.uid.as_raw()).or_else(|| id(user)).unwrap_or_default();
        let gid = match (group, &found) {
            (Some(group), _) => match Group::from_name(group) {
                Ok(Some(group)) => group.gid,
                _ => id(group).map(Gid::from_raw).ok_or_else(|| format!("there is no group {group:?}"))?,
            },
            (None, Some(user)) => user.gid,
            (None, None) => return Err(format!("user {user} is in no database; give a group too: {user}:{user}")),
        };
        let groups = match (&found, group) {
            (Some(user), None) => CString::new(user.name.as_str()).ok().and_then(|name| getgrouplist(&name, gid).ok()),
            _ => None,
        };
        let groups = groups.unwrap_or_else(|| vec![gid]);
        Ok(Self { uid, gid: gid.as_raw(), groups, entry: found.map(|user| (user.name, user.dir)) })
    }

    /// Whether this process can start a program as this user.
    pub(crate) fn check(&self) -> Result<(), String> {
        if getuid().is_root() || self.is_us() {
            return Ok(());
        }
        Err("--user: only root can run a program as another user".to_owned())
    }

    /// Gives the user a file that this process has open.
    pub(crate) fn own(&self, file: impl AsFd) -> io::Result<()> {
        if self.is_us() { Ok(()) } else { fchown(file, Some(self.uid), Some(self.gid)) }
    }

    fn is_us(&self) -> bool {
        !getuid().is_root() && self.uid == getuid().as_raw()
    }

    /// Starts a program as this user, with its groups and without those of this process.
    #[allow(unsafe_code)]
    pub(crate) fn take_over(&self, command: &mut Command) {
        if self.is_us() {
            return;
        }
        match &self.entry {
            Some((name, home)) => command.env("USER", name).env("LOGNAME", name).env("HOME", home),
            // The caller's variables do not belong to this user.
            None => command.env_remove("USER").env_remove("LOGNAME").env("HOME", "/"),
        };
        let (uid, gid, groups) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid), self.groups.clone());
        // The user id is set last: after that the process may not change its groups.
        let become_user = move || {
            setgroups(&groups)?;
            setgid(gid)?;
            setuid(uid)?;
            Ok::<_, io::Error>(())
        };
        // SAFETY: between fork and exec the closure makes three system calls and allocates nothing.
        unsafe { command.pre_exec(become_user) };
    }
}

/// A user or group id. The highest number stands for "no change" in system calls.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_names_or_ids() {
        let root = User::parse("root").unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        let both = User::parse("4711:4712").unwrap();
        assert_eq!((both.uid, both.gid, both.groups), (4711, 4712, vec![Gid::from_raw(4712)]));
        assert_eq!(User::parse("0:root").unwrap().gid, 0);
        for (wrong, why) in [
            ("", "no user"),
            ("no-such-user", "no user"),
            ("-1", "no user"),
            ("4294967295:0", "no user"),
            ("0:4294967295", "no group"),
            ("root:no-such-group", "no group"),
            ("4294967290", "give a group"),
        ] {
            let error = User::parse(wrong).unwrap_err();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }
}
