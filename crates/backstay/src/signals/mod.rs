//! Signals: subscriptions, and the dispatcher thread that calls their listeners.
//!
//! A signal handler only counts the signal and wakes the dispatcher (`handler.rs`). One handler for each signal serves
//! all subscriptions of the process. The first subscription to a signal installs it; the handler calls the previous
//! one, so that other code still receives the signal. The end of the last subscription restores the previous handler,
//! unless a foreign handler has been installed over ours.

use std::fmt;
use std::sync::Arc;

// Under loom only the protocol of `chain` is modelled.
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
pub(crate) use registry::{SignalSubscription, subscribe};

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

/// A function that is called for each signal, on the dispatcher thread. It must not block.
pub(crate) type SignalListener = Arc<dyn Fn(Signal) + Send + Sync>;

/// A subscription failed.
#[derive(Debug)]
#[cfg_attr(any(backstay_loom, not(unix)), allow(dead_code))]
pub(crate) enum SubscribeError {
    /// The system does not allow a handler for this signal, or the signal reports an error of the thread itself.
    Uncatchable(Signal),
    /// The system rejected the handler, or has no thread or descriptor for the dispatcher.
    System(Signal, std::io::Error),
}

macro_rules! signals {
    ($($(#[$meta:meta])* $name:ident = $number:expr, $text:literal;)*) => {
        impl Signal {
            $(#[doc = concat!("`", $text, "`.")] $(#[$meta])* pub const $name: Self = Self($number);)*

            /// Returns the signal's name, if it is known.
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
    /// Returns the signal with this number.
    ///
    /// Does not check the number: [`install`](crate::shutdown::GracefulShutdown::install) returns an error for a signal
    /// that cannot be caught.
    #[must_use]
    pub const fn from_raw(number: i32) -> Self {
        Self(number)
    }

    /// Returns the signal's number.
    #[must_use]
    pub const fn as_raw(self) -> i32 {
        self.0
    }

    /// Returns the exit code that shells report for a process that this signal ended: 128 + its number.
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
    use super::{Signal, SignalListener, SubscribeError};

    #[derive(Debug)]
    pub(crate) struct SignalSubscription;

    impl SignalSubscription {
        pub(crate) fn is_ours(&self) -> bool {
            true
        }
    }

    pub(crate) fn subscribe(signals: &[Signal], _: &SignalListener) -> Result<SignalSubscription, SubscribeError> {
        signals.first().map_or(Ok(SignalSubscription), |signal| {
            Err(SubscribeError::System(*signal, std::io::ErrorKind::Unsupported.into()))
        })
    }

    pub(crate) fn exit_at_once(code: i32) -> ! {
        std::process::exit(code)
    }
}
#[cfg(any(not(unix), backstay_loom))]
pub(crate) use elsewhere::{SignalSubscription, exit_at_once, subscribe};
