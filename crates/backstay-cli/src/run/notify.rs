//! systemd's notification protocol, sd_notify(3): received from the program, and sent to the supervisor of this process.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use rustix::net::SocketAddrUnix;
use rustix::net::sockopt::set_socket_passcred;

use super::notification::{Notification, parse};
use super::sender::{self, Sender};
use crate::output::printable;

/// The socket that the program sends notifications to.
#[derive(Debug)]
pub(crate) struct NotifyListener(UnixDatagram);

/// Maximum length of a message, in bytes.
const MAX_MESSAGE: usize = 8192;

impl NotifyListener {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // Before the socket has a name, so that every message carries the credentials of its sender.
        set_socket_passcred(&socket, true)?;
        socket.set_nonblocking(true)?;
        bind(&socket, path)?;
        Ok(Self(socket))
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Receives one message: its sender and its notifications. `None` if no message is waiting.
    pub(crate) fn receive(&self) -> Option<(Sender, Vec<Notification>)> {
        let mut bytes = [0; MAX_MESSAGE];
        loop {
            // A message without credentials is skipped; the kernel adds them to every message.
            if let (length, Some(sender)) = sender::receive(self.as_fd(), &mut bytes).ok()? {
                let shown = |notification| match notification {
                    Notification::Status(text) => Notification::Status(printable(&text)),
                    other => other,
                };
                return Some((sender, parse(&bytes[..length]).into_iter().map(shown).collect()));
            }
        }
    }
}

fn bind(socket: &UnixDatagram, path: &Path) -> io::Result<()> {
    Ok(rustix::net::bind(socket, &SocketAddrUnix::new(path)?)?)
}

/// The notification socket of this process's own supervisor, if it has one.
#[derive(Debug, Default)]
pub(crate) struct SupervisorNotifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// Interval of WATCHDOG=1.
    pub(crate) every: Option<Duration>,
}

impl SupervisorNotifier {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub(crate) fn of_process() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let number = |name| variable(name).and_then(|value| value.to_str()?.parse::<u64>().ok());
        let Some(path) = variable("NOTIFY_SOCKET") else { return Self::default() };
        let address = match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            _ => SocketAddr::from_pathname(&path),
        };
        let to = address.ok().zip(UnixDatagram::unbound().ok()).map(|(address, socket)| (socket, address));
        let for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        // Twice as often as necessary, as sd_watchdog_enabled(3) recommends.
        let every =
            number("WATCHDOG_USEC").filter(|time| *time > 0 && for_us).map(|time| Duration::from_micros(time / 2));
        Self { every: every.filter(|_| to.is_some()), to }
    }

    pub(crate) fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.to {
            let _ = socket.set_nonblocking(true);
            let _ = socket.send_to_addr(message.as_bytes(), address);
        }
    }
}
