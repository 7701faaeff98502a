//! Signals: who wants to hear of which, and the thread that tells them. A handler itself only notes (`handler.rs`).
//!
//! One handler a signal serves every taker of the process. The first take of a signal remembers what was there and
//! calls it on (others keep their turn); the last release puts it back, where the handler is still ours.

use std::fmt;
use std::sync::Arc;

// Under loom the protocol alone is modelled.
#[cfg(unix)]
#[cfg_attr(backstay_loom, allow(dead_code))]
mod chain;
#[cfg(all(unix, not(backstay_loom)))]
mod handler;
#[cfg(all(unix, not(backstay_loom)))]
mod registry;

#[cfg(all(unix, not(backstay_loom)))]
pub(crate) use handler::exit_at_once;
#[cfg(all(unix, not(backstay_loom)))]
pub(crate) use registry::{Taken, take};

/// A signal of the operating system.
///
/// ```
/// use backstay::shutdown::Signal;
///
/// assert_eq!(Signal::TERM.to_string(), "SIGTERM");
/// # #[cfg(unix)]
/// assert_eq!(Signal::from_raw(9), Signal::KILL);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

/// What hears of a signal, on the dispatcher's thread: it must not block.
pub(crate) type Listener = Arc<dyn Fn(Signal) + Send + Sync>;

/// Why a signal could not be taken.
#[derive(Debug)]
#[cfg_attr(any(backstay_loom, not(unix)), allow(dead_code))]
pub(crate) enum TakeError {
    /// No handler for this one, ever: the system does not allow it, or it says that a thread is broken.
    Uncatchable(Signal),
    System(Signal, std::io::Error),
}

macro_rules! signals {
    ($($(#[$meta:meta])* $name:ident = $number:expr, $text:literal;)*) => {
        impl Signal {
            $(#[doc = concat!("`", $text, "`.")] $(#[$meta])* pub const $name: Self = Self($number);)*

            /// The signal's name, where it has one.
            fn name(self) -> Option<&'static str> {
                $($(#[$meta])* if self.0 == $number { return Some($text); })*
                None
            }
        }
    };
}

signals! {
    INT = 2, "SIGINT";
    TERM = 15, "SIGTERM";
    #[cfg(unix)] HUP = libc::SIGHUP, "SIGHUP";
    #[cfg(unix)] QUIT = libc::SIGQUIT, "SIGQUIT";
    #[cfg(unix)] USR1 = libc::SIGUSR1, "SIGUSR1";
    #[cfg(unix)] USR2 = libc::SIGUSR2, "SIGUSR2";
    #[cfg(unix)] ALRM = libc::SIGALRM, "SIGALRM";
    #[cfg(unix)] PIPE = libc::SIGPIPE, "SIGPIPE";
    #[cfg(unix)] CHLD = libc::SIGCHLD, "SIGCHLD";
    #[cfg(unix)] CONT = libc::SIGCONT, "SIGCONT";
    #[cfg(unix)] TSTP = libc::SIGTSTP, "SIGTSTP";
    #[cfg(unix)] WINCH = libc::SIGWINCH, "SIGWINCH";
    #[cfg(unix)] KILL = libc::SIGKILL, "SIGKILL";
    #[cfg(unix)] STOP = libc::SIGSTOP, "SIGSTOP";
    #[cfg(unix)] ILL = libc::SIGILL, "SIGILL";
    #[cfg(unix)] TRAP = libc::SIGTRAP, "SIGTRAP";
    #[cfg(unix)] ABRT = libc::SIGABRT, "SIGABRT";
    #[cfg(unix)] BUS = libc::SIGBUS, "SIGBUS";
    #[cfg(unix)] FPE = libc::SIGFPE, "SIGFPE";
    #[cfg(unix)] SEGV = libc::SIGSEGV, "SIGSEGV";
    #[cfg(unix)] SYS = libc::SIGSYS, "SIGSYS";
}

impl Signal {
    /// The signal with that number, be it one or not: [`install`](crate::shutdown::GracefulShutdown::install) says
    /// whether it can be caught.
    #[must_use]
    pub const fn from_raw(number: i32) -> Self {
        Self(number)
    }

    /// The signal's number.
    #[must_use]
    pub const fn as_raw(self) -> i32 {
        self.0
    }

    /// With which code a process ends that dies of this signal, as shells count.
    #[must_use]
    pub const fn exit_code(self) -> i32 {
        128_i32.saturating_add(self.0)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}

#[cfg(any(not(unix), backstay_loom))]
mod elsewhere {
    use super::{Listener, Signal, TakeError};

    #[derive(Debug)]
    pub(crate) struct Taken;

    impl Taken {
        pub(crate) fn is_ours(&self) -> bool {
            true
        }
    }

    pub(crate) fn take(signals: &[Signal], _: &Listener) -> Result<Taken, TakeError> {
        signals
            .first()
            .map_or(Ok(Taken), |signal| Err(TakeError::System(*signal, std::io::ErrorKind::Unsupported.into())))
    }

    pub(crate) fn exit_at_once(code: i32) -> ! {
        std::process::exit(code)
    }
}
#[cfg(any(not(unix), backstay_loom))]
pub(crate) use elsewhere::{Taken, exit_at_once, take};
