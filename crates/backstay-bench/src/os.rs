//! What the harness asks of the operating system: where a thread runs, whether it was preempted, what time it used.
#![allow(unsafe_code)] // getrusage alone

use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The processors that this process may use.
pub(crate) fn processors() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return vec![0] };
    (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect()
}

/// Keeps the calling thread on one of `cpus`; where that is refused it runs where it may.
pub(crate) fn pin(cpus: &[usize]) {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu);
    }
    let _ = sched_setaffinity(None, &set);
}

/// How often the calling thread was taken off its processor against its will.
pub(crate) fn preemptions() -> i64 {
    usage(libc::RUSAGE_THREAD).ru_nivcsw
}

/// The processor time that this process has used, its own and the kernel's for it.
pub(crate) fn processor_time() -> Duration {
    time(libc::RUSAGE_SELF)
}

/// The processor time that the calling thread has used.
pub(crate) fn thread_time() -> Duration {
    time(libc::RUSAGE_THREAD)
}

fn time(who: libc::c_int) -> Duration {
    let used = usage(who);
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec.unsigned_abs()) + Duration::from_micros(t.tv_usec.unsigned_abs())
    };
    time(used.ru_utime) + time(used.ru_stime)
}

fn usage(who: libc::c_int) -> libc::rusage {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is a valid place for one `rusage`, of which all-zero bytes are a value.
    unsafe {
        libc::getrusage(who, usage.as_mut_ptr());
        usage.assume_init()
    }
}
