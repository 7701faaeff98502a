//! What goes to standard output and to the terminal.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use unicode_width::UnicodeWidthStr;

static CLOSED: AtomicBool = AtomicBool::new(false);
static FAILED: AtomicBool = AtomicBool::new(false);

/// Writes text as it is.
pub(crate) fn text(text: &str) {
    let mut out = io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// What came of writing to standard output. A reader that went away has heard enough; all else is said, once.
pub(crate) fn written(result: io::Result<()>) {
    let Err(failed) = result else { return };
    if !CLOSED.swap(true, Ordering::Relaxed) && failed.kind() != io::ErrorKind::BrokenPipe {
        FAILED.store(true, Ordering::Relaxed);
        error(&format!("error: standard output: {failed}"));
    }
}

/// Whether output was lost for another reason than a closed pipe.
pub(crate) fn has_failed() -> bool {
    FAILED.load(Ordering::Relaxed)
}

/// Whether standard output took no more.
pub(crate) fn is_closed() -> bool {
    CLOSED.load(Ordering::Relaxed)
}

/// The time of day, for people and programs.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Writes one line.
pub(crate) fn line(line: &str) {
    text(&format!("{line}\n"));
}

/// Says what is wrong.
pub(crate) fn error(message: &str) {
    let _ = writeln!(io::stderr().lock(), "backstay: {}", printable_lines(message));
}

/// Text of others, without what would steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

/// Text of several lines, without what would steer a terminal.
pub(crate) fn printable_lines(text: &str) -> String {
    text.chars().map(|c| if steers(c) && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// One line of JSON, in which what would steer a terminal is escaped: JSON itself lets it pass beyond ASCII.
pub(crate) fn json(value: &serde_json::Value) -> String {
    let text = value.to_string();
    if !text.contains(steers) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        match c {
            // Only a string can hold one, and all are in the basic plane: one escape is enough.
            c if steers(c) => escaped += &format!("\\u{:04x}", u32::from(c)),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Control characters, and those that turn the direction of writing.
pub(crate) fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// How many cells of a terminal a text takes: two for a letter of Chinese or an emoji.
pub(crate) fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// The text, and spaces up to so many cells.
pub(crate) fn pad(text: &str, cells: usize) -> String {
    let spaces = cells.saturating_sub(width(text));
    format!("{text}{:spaces$}", "")
}

/// How a piece of text is meant; a colour, where there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Faint,
    Strong,
    Good,
    Warning,
    Bad,
}

/// Whether what goes to a stream may be coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paint(bool);

impl Paint {
    /// Colours for a terminal that has them, unless `NO_COLOR` is set.
    pub(crate) fn for_stream(stream: &impl IsTerminal) -> Self {
        Self(stream.is_terminal() && !is_set("NO_COLOR") && !is_dumb())
    }

    pub(crate) fn apply(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Faint => "2",
            Tone::Strong => "1",
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "1;31",
        };
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Whether the terminal can do no more than print.
pub(crate) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_steers_no_terminal() {
        let hostile = "a\x1b[2J\x07\u{9b}31m\u{202e}b\r\n";
        assert_eq!(printable(hostile), "a\u{fffd}[2J\u{fffd}\u{fffd}31m\u{fffd}b\u{fffd}\u{fffd}");
        assert_eq!(printable_lines("a\nb\x1b"), "a\nb\u{fffd}");
    }

    #[test]
    fn json_of_others_steers_no_terminal() {
        let value = serde_json::json!({"a\u{9b}": "\x1b[2J\u{9b}31m\u{202e}\u{7f}\n", "é": "\u{1f600}"});
        let text = json(&value);
        assert!(!text.contains(steers), "{text}");
        assert!(text.contains('é') && text.contains('\u{1f600}'));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
