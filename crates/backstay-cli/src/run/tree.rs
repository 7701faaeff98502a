//! What `/proc` says of the place of a process: its parent, its group, its session, and its user.

use std::fs;

use rustix::process::{Pid, getpid};

/// Deeper than any tree of processes.
const DEEPEST: usize = 10_000;
/// How often to look again where a parent ended while we looked.
const ATTEMPTS: usize = 5;

/// Where a process stands. Each is 0 where it is out of our pid namespace, as for a shell that was started in our
/// container from outside: getpgid and getsid of rustix take that to be impossible, and panic.
pub(crate) struct Place {
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
}

/// Of a process that is there.
pub(crate) fn place(process: Pid) -> Option<Place> {
    let stat = fs::read(format!("/proc/{process}/stat")).ok()?;
    // The name in brackets may hold anything; behind it are the state, the parent, the group, and the session.
    let behind = stat.get(stat.iter().rposition(|byte| *byte == b')')? + 1..)?;
    let mut fields = std::str::from_utf8(behind).ok()?.split_whitespace().skip(1).map(str::parse);
    let mut next = || fields.next()?.ok();
    Some(Place { parent: next()?, group: next()?, session: next()? })
}

/// Whether a process descends from this one, by another child than those `known`; `None` where there is no such process.
/// Orphans of the program count: they are children of this process, its subreaper.
pub(crate) fn descends_from_us(process: Pid, known: &[Pid]) -> Option<bool> {
    let me = getpid();
    'again: for _ in 0..ATTEMPTS {
        let mut at = process;
        for _ in 0..DEEPEST {
            match place(at) {
                Some(place) => match Pid::from_raw(place.parent) {
                    Some(parent) if parent == me => return Some(!known.contains(&at)),
                    Some(parent) => at = parent,
                    None => return Some(false),
                },
                None if at == process => return None,
                // It ended, and its children have another parent now.
                None => continue 'again,
            }
        }
    }
    Some(false)
}

/// The user id of a process.
pub(crate) fn user(process: Pid) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().next()?.parse().ok()
}
