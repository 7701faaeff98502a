//! The log on standard error.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::termios::tcgetwinsize;
use serde_json::{Map, Value, json};

use super::arguments::LogFormat;
use super::log_event::LogEvent;
use crate::output::{Paint, Tone, is_dumb, json as json_text, now, printable};

/// How long to wait for a slow reader of the log. After that the line is dropped, so that the reader cannot block the
/// supervisor.
const READER_TIMEOUT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// Maximum length of a text in the log, in characters.
const MAX_TEXT: usize = 1000;
/// Maximum length of a line, in bytes: a pipe takes up to 4096 bytes in one write. One byte is for a newline before the
/// line.
const PIPE_BUF: usize = 4096 - 1;

/// The name and the format of the supervisor's log.
#[derive(Clone)]
pub(crate) struct Log {
    name: String,
    format: LogFormat,
    quiet: bool,
    paint: Paint,
    /// Whether lines have a timestamp: not on a terminal, and not in the journal, which adds its own.
    is_stamped: bool,
    output: Arc<Output>,
}

/// A stream that the program's output is forwarded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub(crate) fn try_clone(self) -> io::Result<OwnedFd> {
        match self {
            Self::Stdout => io::stdout().as_fd().try_clone_to_owned(),
            Self::Stderr => io::stderr().as_fd().try_clone_to_owned(),
        }
    }
}

/// For each stream, whether the forwarded output ended in the middle of a line. Locked during a write, so that no log line
/// comes between the output and the update of this flag.
#[derive(Debug, Default)]
struct Output {
    stdout: Mutex<bool>,
    stderr: Mutex<bool>,
    /// Both streams are the same file or terminal.
    is_one: bool,
}

impl Output {
    fn of_process() -> Self {
        let file = |fd: BorrowedFd<'_>| fstat(fd).ok().map(|stat| (stat.st_dev, stat.st_ino));
        let stdout = file(io::stdout().as_fd());
        Self { is_one: stdout.is_some() && stdout == file(io::stderr().as_fd()), ..Self::default() }
    }
}

/// Locks, if possible within 100 ms: a thread that waits for a slow reader holds the lock.
fn lock_soon(output: &Mutex<bool>) -> Option<MutexGuard<'_, bool>> {
    for _ in 0..100 {
        match output.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => std::thread::park_timeout(Duration::from_millis(1)),
        }
    }
    None
}

/// Whether standard error is a file that ends in the middle of a line. This detects inherited output, which the supervisor
/// does not forward.
fn file_ends_mid_line() -> bool {
    let ends = || -> io::Result<bool> {
        let stat = fstat(io::stderr())?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size == 0 {
            return Ok(false);
        }
        let mut last = [b'\n'];
        File::open("/proc/self/fd/2")?.read_exact_at(&mut last, u64::try_from(stat.st_size - 1).unwrap_or(0))?;
        Ok(last != [b'\n'])
    };
    ends().unwrap_or(false)
}

/// Returns a text that moves the cursor of the terminal on standard error to an empty line, as shells do before their
/// prompt: as many spaces as the terminal has columns wrap only if the line is not empty. The supervisor cannot see what a
/// program writes to an inherited terminal, or what a person types (`^C`).
fn to_line_start() -> Option<String> {
    let stderr = io::stderr();
    if !stderr.is_terminal() || is_dumb() {
        return None;
    }
    // A terminal without a known size reports 0.
    let columns = tcgetwinsize(&stderr).ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)?;
    Some(format!("{:columns$}\r", ""))
}

/// Whether standard error is systemd's journal, according to `JOURNAL_STREAM`.
fn is_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    fstat(io::stderr()).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

impl Log {
    pub(crate) fn new(name: &str, format: LogFormat, quiet: bool) -> Self {
        Self {
            name: name.to_owned(),
            format,
            quiet,
            paint: Paint::for_stream(&io::stderr()),
            is_stamped: !io::stderr().is_terminal() && !is_journal(),
            output: Arc::new(Output::of_process()),
        }
    }

    /// Forwards output of the program by calling `write`; `last` is its last byte.
    pub(crate) fn forward(&self, to: Stream, write: impl FnOnce() -> io::Result<()>, last: u8) -> io::Result<()> {
        let output = match to {
            Stream::Stdout => &self.output.stdout,
            Stream::Stderr => &self.output.stderr,
        };
        let mut mid_line = output.lock().unwrap_or_else(PoisonError::into_inner);
        write()?;
        *mid_line = last != b'\n';
        Ok(())
    }

    pub(crate) fn write(&self, event: &LogEvent) {
        if self.quiet && !event.is_warning() {
            return;
        }
        let line = self.line_that_fits(event);
        let stderr = io::stderr();
        let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
        if poll(&mut fds, Some(&READER_TIMEOUT)).is_ok_and(|ready| ready > 0) {
            let mut locks = [lock_soon(&self.output.stderr), None];
            if self.output.is_one {
                locks[1] = lock_soon(&self.output.stdout);
            }
            // The log line begins with a newline, so the program's line is over.
            let mid_line =
                locks.iter_mut().flatten().map(|lock| std::mem::take(&mut **lock)).filter(|is| *is).count() > 0;
            let before = match to_line_start() {
                Some(wrap) => wrap,
                None if mid_line || file_ends_mid_line() => "\n".to_owned(),
                None => String::new(),
            };
            let _ = stderr.lock().write_all(format!("{before}{line}").as_bytes());
        }
    }

    fn line_that_fits(&self, event: &LogEvent) -> String {
        let mut max_length = MAX_TEXT;
        let mut line = self.line(event, max_length);
        while line.len() >= PIPE_BUF && max_length > 0 {
            max_length /= 2;
            line = self.line(event, max_length);
        }
        line.push('\n');
        line
    }

    /// The line, with each text cut to `max_length` characters.
    fn line(&self, event: &LogEvent, max_length: usize) -> String {
        let cut = |text: &str| text.chars().take(max_length).collect::<String>();
        match self.format {
            LogFormat::Text => {
                let text = cut(&printable(&event.text()));
                let tone = if event.is_warning() { Tone::Warning } else { Tone::Faint };
                let stamp = if self.is_stamped { format!("{} ", now()) } else { String::new() };
                self.paint.apply(tone, &format!("{stamp}backstay: {}: {text}", printable(&self.name)))
            }
            LogFormat::Json => {
                let level = if event.is_warning() { "warning" } else { "info" };
                let mut object = Map::new();
                for (key, value) in [
                    ("time", json!(now())),
                    ("level", json!(level)),
                    ("name", json!(self.name)),
                    ("event", json!(event.event())),
                    ("message", json!(cut(&event.text()))),
                ] {
                    object.insert(key.to_owned(), value);
                }
                for (key, value) in event.fields() {
                    let value = match value {
                        Value::String(text) => json!(cut(&text)),
                        Value::Array(texts) => texts.iter().filter_map(Value::as_str).map(cut).collect(),
                        other => other,
                    };
                    object.insert(key.to_owned(), value);
                }
                json_text(&Value::Object(object))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A longer write would block if the reader does not read.
    #[test]
    fn every_line_fits_into_one_write_to_a_pipe() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let log = Log::new(&"\u{1}".repeat(100), format, false);
            for text in ["x", "\u{1}", "\u{1f600}"] {
                let long = text.repeat(10_000);
                for event in
                    [LogEvent::NotStarted { error: long.clone() }, LogEvent::Configured { files: vec![long.into(); 3] }]
                {
                    let line = log.line_that_fits(&event);
                    assert!(line.len() <= PIPE_BUF && line.ends_with('\n'), "{} bytes", line.len());
                    assert!(line.len() > 600, "{line}");
                }
            }
        }
    }
}
