//! `--watch`: a table that is redrawn in place, with keys, on a terminal; plain lines elsewhere.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use clap::ValueEnum;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, getpid, kill_process};
use rustix::stdio::stdin;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use super::arguments::{Sort, StatusArguments};
use super::lines::Lines;
use super::terminal::Screen;
use super::{check_all, nothing, sort, table, worst};
use crate::heartbeats::CheckResult;
use crate::output::{self, Paint, Tone};
use crate::run::can_pause;

type WatchSignals = SignalDelivery<UnixStream, SignalOnly>;

/// Why the wait ended.
enum Woken {
    /// The refresh is due, or the size of the terminal changed.
    Check,
    Keys(Vec<u8>),
    /// Standard input was closed.
    Closed,
    /// Ctrl-Z: the process is to stop.
    Stopped,
    /// The process was continued, and has the terminal again.
    Resumed,
    Ended,
}

/// Shows the services until a key or a signal ends it; returns the worst result of the last check.
pub(super) fn watch(arguments: &StatusArguments) -> CheckResult {
    let Ok(mut signals) = signals() else {
        output::error("no pipe for signals");
        return CheckResult::Unreadable;
    };
    let screen = if arguments.json { None } else { Screen::open() };
    let (mut by, mut reverse) = (arguments.sort, arguments.reverse);
    let paint = Paint::for_stream(&io::stdout());
    let mut lines = Lines::default();
    let mut keys = screen.as_ref().is_some_and(Screen::has_keys);
    loop {
        let mut services = check_all(arguments);
        sort(&mut services, by, reverse);
        match &screen {
            None => lines.show(&services, arguments.json),
            Some(screen) => {
                let table = match services.as_slice() {
                    [] => nothing(arguments),
                    services => table::draw(services, paint),
                };
                let name = by.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
                let order = if reverse { ", reversed" } else { "" };
                let footer = format!("{}  by {name}{order}   s sort  r reverse  q quit", output::now());
                screen.draw(&table, &paint.apply(Tone::Faint, &footer));
            }
        }
        let worst = worst(&services);
        if output::is_closed() {
            return worst;
        }
        match wait(arguments, keys, &mut signals) {
            Woken::Check => {}
            Woken::Stopped => pause(screen.as_ref()),
            Woken::Resumed => screen.iter().for_each(Screen::enter),
            Woken::Closed => keys = false,
            Woken::Ended => return worst,
            Woken::Keys(pressed) => {
                for key in pressed {
                    match key {
                        b's' => by = next(by),
                        b'r' => reverse = !reverse,
                        CTRL_Z => pause(screen.as_ref()),
                        b'q' | ESCAPE | CTRL_C | CTRL_D | CTRL_BACKSLASH => return worst,
                        _ => {}
                    }
                }
            }
        }
    }
}

const ESCAPE: u8 = 27;
const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const CTRL_Z: u8 = 26;
const CTRL_BACKSLASH: u8 = 28;

/// Stops this process. SIGCONT then wakes the loop, as after a SIGSTOP.
fn pause(screen: Option<&Screen>) {
    if can_pause() {
        screen.into_iter().for_each(Screen::leave);
        let _ = kill_process(getpid(), Signal::STOP);
    }
}

fn next(by: Sort) -> Sort {
    let all = Sort::value_variants();
    let at = all.iter().position(|sort| *sort == by).unwrap_or_default();
    all[(at + 1) % all.len()]
}

fn signals() -> io::Result<WatchSignals> {
    let (read, write) = UnixStream::pair()?;
    let received = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH];
    SignalDelivery::with_pipe(read, write, SignalOnly, received)
}

fn wait(arguments: &StatusArguments, keys: bool, signals: &mut WatchSignals) -> Woken {
    let timeout = Timespec::try_from(arguments.every).ok();
    let mut fds = vec![watched(signals.get_read().as_fd())];
    if keys {
        fds.push(watched(stdin()));
    }
    // After an interruption the signal's byte is in the pipe, so the next poll returns at once.
    while poll(&mut fds, timeout.as_ref()) == Err(rustix::io::Errno::INTR) {}
    let pressed = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
    let received: Vec<i32> = signals.pending().collect();
    if received.iter().any(|signal| matches!(*signal, SIGINT | SIGTERM | SIGHUP | SIGQUIT)) {
        Woken::Ended
    } else if received.contains(&SIGTSTP) {
        Woken::Stopped
    } else if received.contains(&SIGCONT) {
        Woken::Resumed
    } else if pressed {
        let mut bytes = [0; 64];
        let read = rustix::io::read(stdin(), &mut bytes).unwrap_or(0);
        if read == 0 { Woken::Closed } else { Woken::Keys(keys_of(&bytes[..read])) }
    } else {
        Woken::Check
    }
}

/// Returns the keys of one byte, without escape sequences (arrows and function keys).
fn keys_of(mut bytes: &[u8]) -> Vec<u8> {
    let mut keys = Vec::new();
    while let [key, rest @ ..] = bytes {
        bytes = match (*key, rest) {
            (ESCAPE, [b'[' | b'O', rest @ ..]) => {
                let end = rest.iter().position(|byte| matches!(byte, 0x40..=0x7e));
                end.map_or(&[], |end| &rest[end + 1..])
            }
            (ESCAPE, [_, rest @ ..]) => rest,
            (key, rest) => {
                keys.push(key);
                rest
            }
        };
    }
    keys
}

fn watched(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::from_borrowed_fd(fd, PollFlags::IN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_are_ignored() {
        assert_eq!(keys_of(b"rq"), b"rq");
        assert_eq!(keys_of(b"r\x1b[A\x1b[15~s\x1bOPq"), b"rsq");
        assert_eq!(keys_of(b"s\x1b"), [b's', ESCAPE]);
        assert_eq!(keys_of(b"\x1bq\x1b["), b"");
    }
}
