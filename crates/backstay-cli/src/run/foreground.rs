//! `--foreground`: lends the controlling terminal to the program, as a shell does to its foreground job.

use std::fs::File;
use std::io;

use rustix::process::{Pid, getpgrp};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp};
use signal_hook::consts::SIGTTOU;

use super::signals;

/// The terminal that this process was started from.
pub(crate) struct Terminal {
    tty: File,
    /// The modes at the start. A program that crashes may leave them changed.
    modes: Option<Termios>,
    lent: bool,
}

impl Terminal {
    pub(crate) fn open() -> io::Result<Self> {
        let tty = File::options().read(true).write(true).open("/dev/tty")?;
        let modes = tcgetattr(&tty).ok();
        Ok(Self { tty, modes, lent: false })
    }

    /// Makes the program's process group the foreground group. Returns false if the supervisor itself runs in the background
    /// of its shell.
    pub(crate) fn lend(&mut self, group: Pid) -> bool {
        let is_ours = tcgetpgrp(&self.tty).is_ok_and(|current| current == getpgrp() || current == group);
        self.lent = is_ours && self.set_foreground(group);
        self.lent
    }

    /// Makes the supervisor's process group the foreground group again, and restores the modes.
    pub(crate) fn take_back(&mut self) {
        if std::mem::take(&mut self.lent) && self.set_foreground(getpgrp()) {
            let modes = self.modes.as_ref();
            modes.map(|modes| tcsetattr(&self.tty, OptionalActions::Now, modes));
        }
    }

    /// Sets the foreground group. SIGTTOU is blocked meanwhile, because it would stop a process in the background.
    fn set_foreground(&self, group: Pid) -> bool {
        signals::while_blocked(SIGTTOU, || tcsetpgrp(&self.tty, group)).is_ok_and(|done| done.is_ok())
    }
}
