//! The sender of a notification. Other users can reach the socket, so each datagram carries credentials from the kernel.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use rustix::process::{Pid, getuid};

use super::proc_fs;

/// The process that sent a message, according to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sender {
    /// `None` if the sender is not in this process's pid namespace or a child namespace.
    pub(crate) pid: Option<Pid>,
    pub(crate) uid: u32,
}

impl Sender {
    /// Whether this is a process of the program, or root. `known` are children of this process that are not the
    /// program's; `users` are the user ids that the program is known to run with.
    pub(crate) fn is_trusted(self, known: &[Pid], users: &[u32]) -> bool {
        let Some(pid) = self.pid else { return self.uid == 0 };
        // A sender that has ended is no longer in the process tree. Then every process of the supervisor's or the
        // program's user is trusted: such a process could also stop or trace the program.
        let has_ended = || self.uid == getuid().as_raw() || users.contains(&self.uid);
        self.uid == 0 || proc_fs::descends_from_us(pid, known).unwrap_or_else(has_ended)
    }
}

/// Space for the credentials alone. The kernel closes file descriptors that do not fit, which is what a sender of
/// `BARRIER=1` waits for.
// SAFETY: `CMSG_SPACE` only computes.
#[allow(unsafe_code)]
const CONTROL: usize = unsafe { libc::CMSG_SPACE(CREDENTIALS) } as usize;
#[allow(clippy::cast_possible_truncation, reason = "three numbers")]
const CREDENTIALS: libc::c_uint = size_of::<libc::ucred>() as libc::c_uint;

#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// Receives one datagram from a socket with `SO_PASSCRED`: its length and its sender.
///
/// rustix can receive credentials too, but assumes that the process id is never 0, as it is for a sender in another pid
/// namespace.
#[allow(unsafe_code)]
pub(crate) fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<(usize, Option<Sender>)> {
    let mut control = Control([0; CONTROL]);
    let mut piece = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: zeros are a valid header: no address, no pieces, no control data.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = &raw mut piece;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL as _;
    // SAFETY: the header points to `bytes` and `control`, which outlive the call, with their lengths.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has written whole control messages into `control`, aligned, and their length into the header.
    let credentials = unsafe {
        let first = libc::CMSG_FIRSTHDR(&raw const header);
        let is_credentials = !first.is_null()
            && (*first).cmsg_level == libc::SOL_SOCKET
            && (*first).cmsg_type == libc::SCM_CREDENTIALS
            && (*first).cmsg_len as usize >= libc::CMSG_LEN(CREDENTIALS) as usize;
        is_credentials.then(|| ptr::read_unaligned(libc::CMSG_DATA(first).cast::<libc::ucred>()))
    };
    Ok((length, credentials.map(|sender| Sender { pid: Pid::from_raw(sender.pid), uid: sender.uid })))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use rustix::process::{getpid, getppid};

    use super::*;

    #[test]
    fn the_programs_tree_and_root_are_trusted() {
        const STRANGER: u32 = 4711;
        let sent_by = |pid, uid| Sender { pid, uid };
        assert!(sent_by(None, 0).is_trusted(&[], &[]));
        assert!(!sent_by(None, STRANGER).is_trusted(&[], &[STRANGER]), "not in the process tree");
        // Neither this process nor its parent.
        for process in [Some(getpid()), getppid()] {
            assert!(!sent_by(process, STRANGER).is_trusted(&[], &[STRANGER]));
        }
        let mut shell = Command::new("sh").args(["-c", "cat; :"]).stdin(Stdio::piped()).spawn().unwrap();
        let program = Pid::from_child(&shell);
        assert!(sent_by(Some(program), STRANGER).is_trusted(&[], &[]));
        assert!(!sent_by(Some(program), STRANGER).is_trusted(&[program], &[]), "a known child, such as the guard");
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert!(!sent_by(Some(program), STRANGER).is_trusted(&[], &[]), "another user's process, or one that ended");
        assert!(sent_by(Some(program), STRANGER).is_trusted(&[], &[STRANGER]), "has ended");
    }
}
