//! `--watch`: on a terminal a table that is redrawn in place, with keys; elsewhere plain lines.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use clap::ValueEnum;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::stdio::stdin;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};

use super::lines::Lines;
use super::terminal::Screen;
use super::{look, nothing, sort, table, worst};
use crate::arguments::{Sort, Status};
use crate::output::{self, Paint, Tone};
use crate::verdict::Verdict;

/// Why the next look is taken.
enum Woken {
    Due,
    Key(u8),
    /// The size changed.
    Resized,
    Ended,
}

/// Looks until it is told to end; the worst of the last look.
pub(super) fn watch(arguments: &Status) -> Verdict {
    let Some((ends, resized)) = signals() else {
        output::error("no pipe for signals");
        return Verdict::Unreadable;
    };
    let screen = if arguments.json { None } else { Screen::open() };
    let (mut by, mut reverse) = (arguments.sort, arguments.reverse);
    let paint = Paint::for_stream(&io::stdout());
    let mut lines = Lines::default();
    let mut keys = screen.as_ref().is_some_and(Screen::has_keys);
    loop {
        let mut services = look(arguments);
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
                let foot = format!("{}  by {name}{order}   s sort  r reverse  q quit", output::now());
                screen.draw(&table, &paint.apply(Tone::Faint, &foot));
            }
        }
        let worst = worst(&services);
        if output::is_closed() {
            return worst;
        }
        match wait(arguments, keys, &ends, &resized) {
            Woken::Due | Woken::Resized => {}
            Woken::Key(b's') => by = next(by),
            Woken::Key(b'r') => reverse = !reverse,
            // q, Escape, Ctrl-C, Ctrl-D
            Woken::Key(b'q' | 27 | 3 | 4) | Woken::Ended => return worst,
            // The keyboard was closed.
            Woken::Key(0) => keys = false,
            Woken::Key(_) => {}
        }
    }
}

fn next(by: Sort) -> Sort {
    let all = Sort::value_variants();
    let at = all.iter().position(|sort| *sort == by).unwrap_or_default();
    all[(at + 1) % all.len()]
}

/// A byte comes through the first for a signal that ends us, through the second for a new size.
fn signals() -> Option<(UnixStream, UnixStream)> {
    let pipe = |signals: &[i32]| -> io::Result<UnixStream> {
        let (read, write) = UnixStream::pair()?;
        for signal in signals {
            signal_hook::low_level::pipe::register(*signal, write.try_clone()?)?;
        }
        read.set_nonblocking(true)?;
        Ok(read)
    };
    Some((pipe(&[SIGINT, SIGTERM, SIGHUP]).ok()?, pipe(&[SIGWINCH]).ok()?))
}

fn wait(arguments: &Status, keys: bool, ends: &UnixStream, resized: &UnixStream) -> Woken {
    let timeout = Timespec::try_from(arguments.every.max(std::time::Duration::from_millis(20))).ok();
    let mut fds = vec![watched(ends.as_fd()), watched(resized.as_fd())];
    if keys {
        fds.push(watched(stdin()));
    }
    // A signal that interrupts it has written its byte by then.
    while poll(&mut fds, timeout.as_ref()) == Err(rustix::io::Errno::INTR) {}
    let ready = |index: usize| fds.get(index).is_some_and(|fd: &PollFd<'_>| !fd.revents().is_empty());
    let mut bytes = [0; 64];
    if ready(0) {
        return Woken::Ended;
    }
    if ready(1) {
        while rustix::io::read(resized, &mut bytes).is_ok_and(|read| read > 0) {}
        return Woken::Resized;
    }
    if ready(2) {
        let read = rustix::io::read(stdin(), &mut bytes).unwrap_or(0);
        return match &bytes[..read] {
            [] => Woken::Key(0),
            // What begins with Escape and goes on is an arrow or the like.
            [27, _, ..] => Woken::Due,
            [key, ..] => Woken::Key(*key),
        };
    }
    Woken::Due
}

fn watched(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::from_borrowed_fd(fd, PollFlags::IN)
}
