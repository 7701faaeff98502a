//! The signals that the supervisor handles, and its signal mask.

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use super::process_tree;

pub(crate) type Signals = SignalDelivery<UnixStream, SignalOnly>;

const HANDLED: [i32; 9] = [SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGTSTP, SIGWINCH];
const STAY_IGNORED: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTSTP];

pub(crate) fn listen() -> io::Result<Signals> {
    let (read, write) = UnixStream::pair()?;
    // The signal mask is inherited: the parent may have blocked these signals.
    change_mask(libc::SIG_UNBLOCK, &HANDLED)?;
    // Signals that were ignored at the start (nohup, a background job) stay ignored, for the program as well.
    let ignored = process_tree::ignored_signals();
    let handled =
        HANDLED.into_iter().filter(|signal| !STAY_IGNORED.contains(signal) || ignored >> (signal - 1) & 1 == 0);
    SignalDelivery::with_pipe(read, write, SignalOnly, handled)
}

/// Runs `work` while a signal is blocked for this thread.
pub(crate) fn while_blocked<T>(signal: i32, work: impl FnOnce() -> T) -> io::Result<T> {
    change_mask(libc::SIG_BLOCK, &[signal])?;
    let done = work();
    change_mask(libc::SIG_UNBLOCK, &[signal])?;
    Ok(done)
}

#[allow(unsafe_code)]
fn change_mask(how: libc::c_int, signals: &[i32]) -> io::Result<()> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the first call initialises the set, the others only use it as such; all numbers are valid signals.
    let error = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        libc::pthread_sigmask(how, set.as_ptr(), std::ptr::null_mut())
    };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}
