//! This process's host, and the status of other processes.

use backstay_core::heartbeat::{Host, ProcessStatus};

/// Returns where this process runs.
pub(super) fn here() -> Host {
    Host {
        hostname: hostname(),
        boot_id: proc::line("sys/kernel/random/boot_id"),
        pid_namespace: proc::link("self/ns/pid"),
        time_namespace: proc::link("self/ns/time"),
    }
}

/// Looks up the process `pid` of this namespace.
pub(super) fn process(pid: u32) -> ProcessStatus {
    if !may_exist(pid) {
        return ProcessStatus::Gone;
    }
    match proc::stat(pid) {
        Some(stat) if stat.is_ended => ProcessStatus::Gone,
        Some(stat) => stat.started().map_or(ProcessStatus::Unknown, ProcessStatus::StartedAt),
        None => ProcessStatus::Unknown,
    }
}

/// Returns when the process `pid` of this namespace was started, in clock ticks since boot.
///
/// Id and start time together identify a process.
pub(super) fn start_ticks(pid: u32) -> Option<u64> {
    proc::stat(pid).map(|stat| stat.start_ticks)
}

#[cfg(unix)]
fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn hostname() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_else(|_| "unknown".to_owned())
}

/// Returns false if the kernel says that there is no such process.
///
/// A missing entry in `/proc` proves nothing, because `/proc` can hide processes of other users.
#[cfg(unix)]
fn may_exist(pid: u32) -> bool {
    use rustix::io::Errno;
    use rustix::process::{Pid, test_kill_process};

    // No process has the id 0. For `kill` it means the own process group.
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    test_kill_process(pid) != Err(Errno::SRCH)
}

#[cfg(not(unix))]
fn may_exist(_: u32) -> bool {
    true
}

#[cfg(target_os = "linux")]
mod proc {
    use std::path::Path;
    use std::time::Duration;

    pub(super) struct Stat {
        pub(super) is_ended: bool,
        pub(super) start_ticks: u64,
    }

    impl Stat {
        pub(super) fn started(&self) -> Option<Duration> {
            let per_second = rustix::param::clock_ticks_per_second();
            let nanos = u128::from(self.start_ticks) * 1_000_000_000 / u128::from(per_second.max(1));
            u64::try_from(nanos).ok().map(Duration::from_nanos)
        }
    }

    pub(super) fn line(name: &str) -> Option<String> {
        let text = std::fs::read_to_string(Path::new("/proc").join(name)).ok()?;
        Some(text.trim().to_owned()).filter(|line| !line.is_empty())
    }

    pub(super) fn link(name: &str) -> Option<String> {
        let target = std::fs::read_link(Path::new("/proc").join(name)).ok()?;
        Some(target.to_string_lossy().into_owned())
    }

    pub(super) fn stat(pid: u32) -> Option<Stat> {
        // The program's name may be invalid UTF-8.
        let bytes = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        parse(&String::from_utf8_lossy(&bytes))
    }

    /// Parses the fields, numbered as in proc(5). The second, the program's name in brackets, can contain any bytes.
    pub(super) fn parse(stat: &str) -> Option<Stat> {
        let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).copied();
        // The main thread may have ended while other threads of the process run.
        let is_alone = field(20)?.parse::<u64>().ok()? <= 1;
        let is_ended = matches!(field(3)?, "Z" | "X" | "x") && is_alone;
        Some(Stat { is_ended, start_ticks: field(22)?.parse().ok()? })
    }
}

#[cfg(not(target_os = "linux"))]
mod proc {
    use std::time::Duration;

    pub(super) struct Stat {
        pub(super) is_ended: bool,
        pub(super) start_ticks: u64,
    }

    impl Stat {
        pub(super) fn started(&self) -> Option<Duration> {
            None
        }
    }

    pub(super) fn line(_: &str) -> Option<String> {
        None
    }

    pub(super) fn link(_: &str) -> Option<String> {
        None
    }

    pub(super) fn stat(_: u32) -> Option<Stat> {
        None
    }
}

#[cfg(all(test, target_os = "linux", not(backstay_loom)))]
mod tests {
    use super::*;
    use crate::clock;

    // HB-7: a running process has a start time; a process that has ended is gone, even as a zombie.
    #[test]
    fn running_and_ended_processes_are_told_apart() {
        let ProcessStatus::StartedAt(started) = process(std::process::id()) else { panic!("this process runs") };
        assert!(started < clock::boottime().unwrap());
        assert!(start_ticks(std::process::id()).is_some());
        for unused in [0, u32::MAX, i32::MAX as u32] {
            assert_eq!(process(unused), ProcessStatus::Gone, "{unused}");
        }

        let mut child = std::process::Command::new("true").spawn().unwrap();
        let gone = (0..60_000).any(|_| {
            std::thread::park_timeout(std::time::Duration::from_millis(1));
            process(child.id()) == ProcessStatus::Gone
        });
        assert!(gone, "a zombie counts as gone");
        child.wait().unwrap();
        assert_eq!(process(child.id()), ProcessStatus::Gone);
    }

    #[test]
    fn a_program_can_have_any_name() {
        let line = |state, threads| {
            format!("7 (a) Z 1 (b)) {state} 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 {threads} 0 4711 9 9 9")
        };
        let stat = proc::parse(&line("S", 1)).unwrap();
        assert_eq!((stat.is_ended, stat.start_ticks), (false, 4711));
        assert!(proc::parse(&line("Z", 1)).unwrap().is_ended);
        assert!(!proc::parse(&line("Z", 2)).unwrap().is_ended, "other threads run");
        for damaged in ["", ")", "7 (x) S", "7 (x", "7 (x) Z é"] {
            assert!(proc::parse(damaged).is_none(), "{damaged}");
        }
    }

    #[test]
    fn a_linux_host_has_an_identity() {
        let here = here();
        assert!(!here.hostname.is_empty());
        assert!(here.boot_id.is_some() && here.pid_namespace.is_some());
    }
}
