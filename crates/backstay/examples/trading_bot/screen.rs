//! What one sees: a line for each event, and below them one that is redrawn in place. Piped, it is a plain log.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How often the live line becomes a line of its own where it cannot be redrawn.
const PIPED_EVERY: Duration = Duration::from_secs(1);

/// How a piece of text is meant; a colour, where there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Faint,
    Strong,
    Good,
    Warning,
    Bad,
}

/// Pieces of the live line.
pub(crate) type Live = Vec<(Tone, String)>;

/// Standard output, shared by everyone who has something to say.
pub(crate) struct Screen {
    began: Instant,
    is_terminal: bool,
    is_coloured: bool,
    lines: Mutex<Lines>,
}

#[derive(Default)]
struct Lines {
    live: Live,
    piped_at: Option<Instant>,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let is_terminal = io::stdout().is_terminal() && !dumb;
        let is_coloured = is_terminal && !set("NO_COLOR");
        Self { began: Instant::now(), is_terminal, is_coloured, lines: Mutex::default() }
    }

    /// Something happened to `who`: a line that stays.
    pub(crate) fn event(&self, tone: Tone, who: &str, what: impl Display) {
        let time = self.paint(Tone::Faint, &self.time());
        self.line(&format!("{time}  {who:<11} {}", self.paint(tone, &what.to_string())));
    }

    /// A line that stays, without a time.
    pub(crate) fn line(&self, text: &str) {
        let lines = self.lines();
        let redraw = if self.is_terminal { self.fit(&lines.live) } else { String::new() };
        self.write(&format!("{}{text}\n{redraw}", self.erase()));
    }

    /// Redraws the live line.
    pub(crate) fn live(&self, live: Live) {
        let mut lines = self.lines();
        lines.live = live;
        if self.is_terminal {
            let text = self.fit(&lines.live);
            self.write(&format!("{}{text}", self.erase()));
        } else if lines.piped_at.is_none_or(|at| at.elapsed() >= PIPED_EVERY) {
            lines.piped_at = Some(Instant::now());
            let text: String = lines.live.iter().map(|(_, text)| text.as_str()).collect();
            self.write(&format!("{}  {text}\n", self.time()));
        }
    }

    /// Takes the live line away.
    pub(crate) fn still(&self) {
        self.lines().live.clear();
        self.write(self.erase());
    }

    /// Rows of (group, name, value), values aligned to the right.
    pub(crate) fn table(&self, rows: &[(&str, &str, String)]) {
        let widest = |column: fn(&(&str, &str, String)) -> usize| rows.iter().map(column).max().unwrap_or(0);
        let widths = [widest(|row| row.0.len()), widest(|row| row.1.len()), widest(|row| row.2.chars().count())];
        let mut group = "";
        for (of, name, value) in rows {
            let head = if group == *of { "" } else { of };
            group = of;
            let head = self.paint(Tone::Strong, &format!("{head:<0$}", widths[0]));
            self.line(&format!("  {head}  {name:<0$}  {value:>1$}", widths[1], widths[2]));
        }
    }

    /// `text` in the colour of `tone`, where there are colours.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => "",
            Tone::Faint => "2",
            Tone::Strong => "1",
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "1;31",
        };
        if self.is_coloured && !code.is_empty() && !text.trim().is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// The live line as it fits into the terminal, first without what is faint: one that wraps could not be redrawn.
    fn fit(&self, live: &Live) -> String {
        let width = terminal_width().saturating_sub(1);
        let is_narrow = live.iter().map(|(_, piece)| piece.chars().count()).sum::<usize>() > width;
        let mut room = width;
        let mut text = String::new();
        for (tone, piece) in live.iter().filter(|(tone, _)| !(is_narrow && *tone == Tone::Faint)) {
            let piece: String = piece.chars().take(room).collect();
            room -= piece.chars().count();
            text += &self.paint(*tone, &piece);
        }
        text
    }

    fn erase(&self) -> &'static str {
        if self.is_terminal { "\r\x1b[2K" } else { "" }
    }

    fn time(&self) -> String {
        format!("{:6.2}s", self.began.elapsed().as_secs_f64())
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader that has gone (`| head`) is no reason to leave positions open.
    fn write(&self, text: &str) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

#[cfg(unix)]
fn terminal_width() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stdout());
    size.map(|size| usize::from(size.ws_col)).ok().filter(|width| *width > 0).unwrap_or(80)
}

#[cfg(not(unix))]
fn terminal_width() -> usize {
    80
}
