//! `--foreground`: lends our controlling terminal to the program, as a shell does to its foreground job.

use std::fs::File;
use std::io;

use rustix::process::{Pid, getpgrp};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp};
use signal_hook::consts::SIGTTOU;

use super::signals;

/// The terminal that this process was started from.
pub(crate) struct Terminal {
    tty: File,
    /// Its modes at the start, which a program that crashes may leave changed.
    modes: Option<Termios>,
    lent: bool,
}

impl Terminal {
    pub(crate) fn open() -> io::Result<Self> {
        let tty = File::options().read(true).write(true).open("/dev/tty")?;
        let modes = tcgetattr(&tty).ok();
        Ok(Self { tty, modes, lent: false })
    }

    /// Makes the program's process group the foreground group. False where the terminal is not ours to lend, because the
    /// shell runs us in the background.
    pub(crate) fn lend(&mut self, group: Pid) -> bool {
        let is_ours = tcgetpgrp(&self.tty).is_ok_and(|current| current == getpgrp() || current == group);
        self.lent = is_ours && self.set_foreground(group);
        self.lent
    }

    /// Makes our own process group the foreground group again.
    pub(crate) fn take_back(&mut self) {
        if std::mem::take(&mut self.lent) && self.set_foreground(getpgrp()) {
            let modes = self.modes.as_ref();
            modes.map(|modes| tcsetattr(&self.tty, OptionalActions::Now, modes));
        }
    }

    /// A process in the background that does this is stopped by SIGTTOU, unless it has that blocked.
    fn set_foreground(&self, group: Pid) -> bool {
        signals::while_blocked(SIGTTOU, || tcsetpgrp(&self.tty, group)).is_ok_and(|done| done.is_ok())
    }
}
