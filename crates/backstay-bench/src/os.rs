//! The harness's view of the operating system: processors, preemptions and processor time.
#![allow(unsafe_code)] // getrusage alone

use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Returns the processors that this process may use.
pub(crate) fn processors() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return vec![0] };
    (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect()
}

/// Pins the calling thread to `cpus`; if that fails, the thread runs where it may.
pub(crate) fn pin(cpus: &[usize]) {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu);
    }
    let _ = sched_setaffinity(None, &set);
}

/// Returns how often the calling thread was preempted.
pub(crate) fn preemptions() -> i64 {
    usage(libc::RUSAGE_THREAD).ru_nivcsw
}

/// Returns the processor time of this process, in user and kernel mode.
pub(crate) fn processor_time() -> Duration {
    time(libc::RUSAGE_SELF)
}

/// Returns the processor time of the calling thread.
pub(crate) fn thread_time() -> Duration {
    time(libc::RUSAGE_THREAD)
}

fn time(target: libc::c_int) -> Duration {
    let used = usage(target);
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec.unsigned_abs()) + Duration::from_micros(t.tv_usec.unsigned_abs())
    };
    time(used.ru_utime) + time(used.ru_stime)
}

fn usage(target: libc::c_int) -> libc::rusage {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is a valid place for one `rusage`, and all-zero bytes are a valid value of it.
    unsafe {
        libc::getrusage(target, usage.as_mut_ptr());
        usage.assume_init()
    }
}
