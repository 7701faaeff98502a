//! `--tty`: a pseudo-terminal on which the program writes line by line.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, OptionalActions, OutputModes, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// Opens a pseudo-terminal: the end that the supervisor reads, and the end that the program writes. It controls no
/// session.
pub(crate) fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags)?;
    unlockpt(&ours)?;
    let theirs = ioctl_tiocgptpeer(&ours, flags)?;
    let mut modes = tcgetattr(&theirs)?;
    // No output processing: the output arrives byte for byte.
    modes.output_modes -= OutputModes::OPOST;
    modes.local_modes -= LocalModes::ECHO;
    tcsetattr(&theirs, OptionalActions::Now, &modes)?;
    let _ = copy_size(&theirs);
    Ok((ours, theirs))
}

/// Copies the size of the terminal on standard output to the pseudo-terminal.
pub(crate) fn copy_size(pty: impl AsFd) -> io::Result<()> {
    Ok(tcsetwinsize(pty, tcgetwinsize(rustix::stdio::stdout())?)?)
}
