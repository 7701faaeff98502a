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

use super::message::{Said, parse};
use super::sender::{self, Sender};
use crate::output::printable;

/// The socket that the program sends notifications to.
#[derive(Debug)]
pub(crate) struct Ear(UnixDatagram);

/// Maximum length of a message, in bytes.
const LONGEST: usize = 8192;

impl Ear {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // Before anything can come: each message then has its sender with it.
        set_socket_passcred(&socket, true)?;
        socket.set_nonblocking(true)?;
        bind(&socket, path)?;
        Ok(Self(socket))
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Everything of one message, and its sender; `None` where there is no other message.
    pub(crate) fn hear(&self) -> Option<(Sender, Vec<Said>)> {
        let mut bytes = [0; LONGEST];
        loop {
            // One whose sender is unknown is passed over: the kernel says it with each.
            if let (length, Some(sender)) = sender::receive(self.as_fd(), &mut bytes).ok()? {
                let shown = |said| match said {
                    Said::Status(text) => Said::Status(printable(&text)),
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
pub(crate) struct Mouth {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// Interval of WATCHDOG=1.
    pub(crate) every: Option<Duration>,
}

impl Mouth {
    /// As the environment asks.
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

    pub(crate) fn say(&self, message: &str) {
        if let Some((socket, address)) = &self.to {
            let _ = socket.set_nonblocking(true);
            let _ = socket.send_to_addr(message.as_bytes(), address);
        }
    }
}
