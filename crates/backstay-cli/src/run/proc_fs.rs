//! Reads the parent, process group, session and user of a process from `/proc`.

use std::fs;

use rustix::process::{Pid, getpid};

/// Maximum depth of a process tree.
const DEEPEST: usize = 10_000;
/// Maximum number of attempts if a parent ends during the search.
const ATTEMPTS: usize = 5;

/// The ids of a process's parent, group and session. An id outside this process's pid namespace is 0, as for a shell that
/// was started in a container from outside. getpgid and getsid of rustix panic in that case.
pub(crate) struct ProcessStat {
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
}

/// Returns `None` if there is no such process.
pub(crate) fn stat(process: Pid) -> Option<ProcessStat> {
    let stat = fs::read(format!("/proc/{process}/stat")).ok()?;
    // The name in brackets may contain anything. After it come the state, the parent, the group and the session.
    let behind = stat.get(stat.iter().rposition(|byte| *byte == b')')? + 1..)?;
    let mut fields = std::str::from_utf8(behind).ok()?.split_whitespace().skip(1).map(str::parse);
    let mut next = || fields.next()?.ok();
    Some(ProcessStat { parent: next()?, group: next()?, session: next()? })
}

/// Whether a process descends from this process, but not through a `known` child; `None` if there is no such process.
/// Orphans of the program count: they are children of this process, which is their subreaper.
pub(crate) fn descends_from_us(process: Pid, known: &[Pid]) -> Option<bool> {
    let me = getpid();
    'again: for _ in 0..ATTEMPTS {
        let mut at = process;
        for _ in 0..DEEPEST {
            match stat(at) {
                Some(stat) => match Pid::from_raw(stat.parent) {
                    Some(parent) if parent == me => return Some(!known.contains(&at)),
                    Some(parent) => at = parent,
                    None => return Some(false),
                },
                None if at == process => return None,
                // The parent ended, and its children have another parent now.
                None => continue 'again,
            }
        }
    }
    Some(false)
}

/// Returns the user id of a process.
pub(crate) fn user(process: Pid) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().next()?.parse().ok()
}
