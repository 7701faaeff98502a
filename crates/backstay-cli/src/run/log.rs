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
use super::news::News;
use crate::output::{Paint, Tone, is_dumb, json as json_text, now, printable};

/// A reader of the log that reads nothing for this long loses lines, so that it cannot block the supervisor.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// Maximum length of a text in the log, in characters.
const LONGEST: usize = 1000;
/// In bytes: a pipe takes as much in one piece, or not at all. One is for the end of a line before ours.
const PIPE_BUF: usize = 4096 - 1;

/// How, and under which name, the supervisor logs.
#[derive(Clone)]
pub(crate) struct Log {
    name: String,
    format: LogFormat,
    quiet: bool,
    paint: Paint,
    /// Whether lines have a time stamp: a person at a terminal needs none, and the journal has its own.
    is_stamped: bool,
    output: Arc<Output>,
}

/// A stream that the program's output is passed on to.
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

/// Whether the output that was passed on last ended in the middle of a line, for each stream. Locked while it is written to,
/// so that no line of ours comes between the output and this fact.
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

/// The lock, if it is free soon: a thread that waits for a slow reader holds it.
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

/// Output that is not passed on by us can be looked at where it is in a file.
fn file_ends_in_a_line() -> bool {
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

/// Moves the cursor of the terminal on standard error to an empty line, as shells do before their prompt: as many spaces
/// as the terminal has columns wrap only if the line is not empty. What a program writes to a terminal that it has
/// inherited, and what a person types (`^C`), cannot be seen here.
fn to_line_start() -> Option<String> {
    let stderr = io::stderr();
    if !stderr.is_terminal() || is_dumb() {
        return None;
    }
    // A terminal that does not know its size says 0.
    let columns = tcgetwinsize(&stderr).ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)?;
    Some(format!("{:columns$}\r", ""))
}

/// Whether standard error is systemd's journal, which says so in the environment.
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

    /// Passes on output of the program.
    pub(crate) fn pass_on(&self, to: Stream, write: impl FnOnce() -> io::Result<()>, last: u8) -> io::Result<()> {
        let output = match to {
            Stream::Stdout => &self.output.stdout,
            Stream::Stderr => &self.output.stderr,
        };
        let mut in_a_line = output.lock().unwrap_or_else(PoisonError::into_inner);
        write()?;
        *in_a_line = last != b'\n';
        Ok(())
    }

    pub(crate) fn tell(&self, news: &News) {
        if self.quiet && !news.is_bad() {
            return;
        }
        let line = self.line_that_fits(news);
        let stderr = io::stderr();
        let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
        if poll(&mut fds, Some(&PATIENCE)).is_ok_and(|ready| ready > 0) {
            let mut locks = [lock_soon(&self.output.stderr), None];
            if self.output.is_one {
                locks[1] = lock_soon(&self.output.stdout);
            }
            // Our line ends the one of the program.
            let in_a_line =
                locks.iter_mut().flatten().map(|lock| std::mem::take(&mut **lock)).filter(|is| *is).count() > 0;
            let before = match to_line_start() {
                Some(wrap) => wrap,
                None if in_a_line || file_ends_in_a_line() => "\n".to_owned(),
                None => String::new(),
            };
            let _ = stderr.lock().write_all(format!("{before}{line}").as_bytes());
        }
    }

    fn line_that_fits(&self, news: &News) -> String {
        let mut longest = LONGEST;
        let mut line = self.line(news, longest);
        while line.len() >= PIPE_BUF && longest > 0 {
            longest /= 2;
            line = self.line(news, longest);
        }
        line.push('\n');
        line
    }

    /// No text of it longer than so many characters.
    fn line(&self, news: &News, longest: usize) -> String {
        let cut = |text: &str| text.chars().take(longest).collect::<String>();
        match self.format {
            LogFormat::Text => {
                let text = cut(&printable(&news.text()));
                let tone = if news.is_bad() { Tone::Warning } else { Tone::Faint };
                let stamp = if self.is_stamped { format!("{} ", now()) } else { String::new() };
                self.paint.apply(tone, &format!("{stamp}backstay: {}: {text}", printable(&self.name)))
            }
            LogFormat::Json => {
                let level = if news.is_bad() { "warning" } else { "info" };
                let mut object = Map::new();
                for (key, value) in [
                    ("time", json!(now())),
                    ("level", json!(level)),
                    ("name", json!(self.name)),
                    ("event", json!(news.event())),
                    ("message", json!(cut(&news.text()))),
                ] {
                    object.insert(key.to_owned(), value);
                }
                for (key, value) in news.fields() {
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

    // More than a pipe takes in one piece would wait for a reader who does not read.
    #[test]
    fn no_line_is_longer_than_a_pipe_takes() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let log = Log::new(&"\u{1}".repeat(100), format, false);
            for text in ["x", "\u{1}", "\u{1f600}"] {
                let long = text.repeat(10_000);
                for news in [News::NotStarted { error: long.clone() }, News::Configured { files: vec![long.into(); 3] }]
                {
                    let line = log.line_that_fits(&news);
                    assert!(line.len() <= PIPE_BUF && line.ends_with('\n'), "{} bytes", line.len());
                    assert!(line.len() > 600, "{line}");
                }
            }
        }
    }
}
