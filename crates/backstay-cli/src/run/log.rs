//! The log on standard error.

use std::io::{self, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Map, Value, json};

use super::arguments::LogFormat;
use super::news::News;
use crate::output::{Paint, Tone, json as json_text, now, printable};

/// A reader of our log who reads nothing for so long loses lines: nobody holds up the supervisor.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// In characters: what is longer helps nobody.
const LONGEST: usize = 1000;
/// In bytes: so much a pipe takes in one piece, or not at all.
const PIPE_BUF: usize = 4096;

/// How, and under which name, there is something to tell.
#[derive(Clone)]
pub(crate) struct Log {
    name: String,
    format: LogFormat,
    quiet: bool,
    paint: Paint,
}

impl Log {
    pub(crate) fn new(name: &str, format: LogFormat, quiet: bool) -> Self {
        Self { name: name.to_owned(), format, quiet, paint: Paint::for_stream(&io::stderr()) }
    }

    pub(crate) fn tell(&self, news: &News) {
        if self.quiet && !news.is_bad() {
            return;
        }
        let line = self.line_that_fits(news);
        let stderr = io::stderr();
        let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
        if poll(&mut fds, Some(&PATIENCE)).is_ok_and(|ready| ready > 0) {
            let _ = stderr.lock().write_all(line.as_bytes());
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
                self.paint.apply(tone, &format!("backstay: {}: {text}", printable(&self.name)))
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
                    let value = value.as_str().map(|text| json!(cut(text))).unwrap_or(value);
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
                let news = News::NotStarted { error: text.repeat(10_000) };
                let line = log.line_that_fits(&news);
                assert!(line.len() <= PIPE_BUF && line.ends_with('\n'), "{} bytes", line.len());
                assert!(line.len() > 600, "{line}");
            }
        }
    }
}
