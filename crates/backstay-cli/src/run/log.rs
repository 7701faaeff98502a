//! The log on standard error.

use std::io::{self, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Map, Value, json};

use super::news::News;
use crate::arguments::LogFormat;
use crate::output::{Paint, Tone, now, printable};

/// A reader of our log who reads nothing for so long loses lines: nobody holds up the supervisor.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// In characters; a pipe takes what is not much longer in one piece.
const LONGEST: usize = 1000;

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
        let mut line = match self.format {
            LogFormat::Text => {
                let text: String = printable(&news.text()).chars().take(LONGEST).collect();
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
                    ("message", json!(news.text())),
                ] {
                    object.insert(key.to_owned(), value);
                }
                object.extend(news.fields().into_iter().map(|(key, value)| (key.to_owned(), value)));
                Value::Object(object).to_string()
            }
        };
        line.push('\n');
        let stderr = io::stderr();
        let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
        if poll(&mut fds, Some(&PATIENCE)).is_ok_and(|ready| ready > 0) {
            let _ = stderr.lock().write_all(line.as_bytes());
        }
    }
}
