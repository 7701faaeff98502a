//! The sender of a notification, as the kernel states it with every datagram: other users can reach the socket, too.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use rustix::process::{Pid, getuid};

use super::tree;

/// The process that sent a message, by the kernel's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sender {
    /// `None` where it is not in this process's pid namespace or one below.
    pub(crate) pid: Option<Pid>,
    pub(crate) uid: u32,
}

impl Sender {
    /// Whether this is a process of the program, or root. `known` are children of this process that are not the
    /// program's; `users` are the user ids that the program is known to run with.
    pub(crate) fn is_trusted(self, known: &[Pid], users: &[u32]) -> bool {
        let Some(pid) = self.pid else { return self.uid == 0 };
        // One that has ended and was fetched has no place in the tree any more. It is not told from another process of
        // the same user, which could as well have stopped or traced the program.
        let has_ended = || self.uid == getuid().as_raw() || users.contains(&self.uid);
        self.uid == 0 || tree::descends_from_us(pid, known).unwrap_or_else(has_ended)
    }
}

/// Room for the credentials, and for nothing else: file descriptors that come with them find none, and the kernel closes
/// them, which is what `BARRIER=1` waits for.
// SAFETY: `CMSG_SPACE` only computes.
#[allow(unsafe_code)]
const CONTROL: usize = unsafe { libc::CMSG_SPACE(CREDENTIALS) } as usize;
#[allow(clippy::cast_possible_truncation, reason = "three numbers")]
const CREDENTIALS: libc::c_uint = size_of::<libc::ucred>() as libc::c_uint;

#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// Receives one datagram from a socket with `SO_PASSCRED`: its length and its sender.
///
/// rustix has this too, and takes a process id of 0 (a sender in another pid namespace) to be impossible.
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
        assert!(!sent_by(None, STRANGER).is_trusted(&[], &[STRANGER]), "in no tree of ours");
        // Neither this process, nor what it was started by.
        for process in [Some(getpid()), getppid()] {
            assert!(!sent_by(process, STRANGER).is_trusted(&[], &[STRANGER]));
        }
        let mut shell = Command::new("sh").args(["-c", "cat; :"]).stdin(Stdio::piped()).spawn().unwrap();
        let program = Pid::from_child(&shell);
        assert!(sent_by(Some(program), STRANGER).is_trusted(&[], &[]));
        assert!(!sent_by(Some(program), STRANGER).is_trusted(&[program], &[]), "the guard, for one");
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert!(!sent_by(Some(program), STRANGER).is_trusted(&[], &[]), "another user's, or one that ended");
        assert!(sent_by(Some(program), STRANGER).is_trusted(&[], &[STRANGER]), "has ended");
    }
}
