//! systemd's notification protocol, sd_notify(3): heard from the program, and spoken to whoever supervises us.

use std::io;
use std::mem::discriminant;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use rustix::net::SocketAddrUnix;
use rustix::net::sockopt::set_socket_passcred;

use super::sender::{self, Sender};
use crate::output::printable;

/// What a program says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Ready,
    Alive,
    Trigger,
    Stopping,
    Status(String),
    Extend(Duration),
    WatchdogTime(Duration),
}

/// Where the program speaks to.
#[derive(Debug)]
pub(crate) struct Ear(UnixDatagram);

/// More than anyone says at once.
const LONGEST: usize = 8192;
/// A status longer than that helps nobody.
const STATUS_LENGTH: usize = 200;

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
                return Some((sender, parse(&bytes[..length])));
            }
        }
    }
}

fn bind(socket: &UnixDatagram, path: &Path) -> io::Result<()> {
    Ok(rustix::net::bind(socket, &SocketAddrUnix::new(path)?)?)
}

fn parse(message: &[u8]) -> Vec<Said> {
    let micros = |text: &str| text.parse().ok().map(Duration::from_micros);
    let lines = message.split(|byte| *byte == b'\n').map(String::from_utf8_lossy);
    let say = |line: &str| match line.split_once('=')? {
        ("READY", "1") => Some(Said::Ready),
        ("WATCHDOG", "1") => Some(Said::Alive),
        ("WATCHDOG", "trigger") => Some(Said::Trigger),
        ("STOPPING", "1") => Some(Said::Stopping),
        ("STATUS", text) => Some(Said::Status(printable(&text.chars().take(STATUS_LENGTH).collect::<String>()))),
        ("EXTEND_TIMEOUT_USEC", time) => micros(time).map(Said::Extend),
        // Zero would fire at once.
        ("WATCHDOG_USEC", time) => micros(time).filter(|time| !time.is_zero()).map(Said::WatchdogTime),
        _ => None,
    };
    // Of each kind what was said last: whoever fills a message with them gives no more work than others.
    let mut heard: Vec<Said> = Vec::new();
    for said in lines.filter_map(|line| say(&line)) {
        heard.retain(|earlier| discriminant(earlier) != discriminant(&said));
        heard.push(said);
    }
    heard
}

/// To whom we speak ourselves; to nobody where nobody asked.
#[derive(Debug, Default)]
pub(crate) struct Mouth {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// How often to say that we live.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood_and_nonsense_is_not() {
        let said =
            parse(b"READY=1\nSTATUS=all is well\nWATCHDOG=1\nMAINPID=7\nEXTEND_TIMEOUT_USEC=1500000\nX\n\xff=\n=1\n");
        let time = Duration::from_millis(1500);
        assert_eq!(said, [Said::Ready, Said::Status("all is well".to_owned()), Said::Alive, Said::Extend(time)]);
        assert_eq!(parse(b"WATCHDOG=trigger\nSTOPPING=1\nWATCHDOG_USEC=0"), [Said::Trigger, Said::Stopping]);
        assert_eq!(parse(b"EXTEND_TIMEOUT_USEC=99999999999999999999\nREADY=0"), []);
    }

    #[test]
    fn a_message_says_each_thing_once() {
        let flood = [&b"WATCHDOG_USEC=1\nSTATUS=old\nREADY=1\n".repeat(200)[..], b"STATUS=new\n"].concat();
        let times = Said::WatchdogTime(Duration::from_micros(1));
        assert_eq!(parse(&flood), [times, Said::Ready, Said::Status("new".to_owned())]);
    }
}
