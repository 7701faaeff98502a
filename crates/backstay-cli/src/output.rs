//! Output to standard output and to the terminal.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use unicode_width::UnicodeWidthStr;

static CLOSED: AtomicBool = AtomicBool::new(false);
static FAILED: AtomicBool = AtomicBool::new(false);

/// Writes text to standard output.
pub(crate) fn text(text: &str) {
    let mut out = io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// Handles the result of a write to standard output. An error is reported once; a closed pipe is not an error, because the
/// reader needs no more.
pub(crate) fn written(result: io::Result<()>) {
    let Err(failed) = result else { return };
    if !CLOSED.swap(true, Ordering::Relaxed) && failed.kind() != io::ErrorKind::BrokenPipe {
        FAILED.store(true, Ordering::Relaxed);
        error(&format!("error: standard output: {failed}"));
    }
}

/// Whether output was lost for a reason other than a closed pipe.
pub(crate) fn has_failed() -> bool {
    FAILED.load(Ordering::Relaxed)
}

/// Whether a write to standard output has failed.
pub(crate) fn is_closed() -> bool {
    CLOSED.load(Ordering::Relaxed)
}

/// The current time, as in RFC 3339.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Writes one line.
pub(crate) fn line(line: &str) {
    text(&format!("{line}\n"));
}

/// Writes an error message to standard error.
pub(crate) fn error(message: &str) {
    let _ = writeln!(io::stderr().lock(), "backstay: {}", printable_lines(message));
}

/// Replaces characters that control a terminal, in text from an untrusted source.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if controls_terminal(c) { '\u{fffd}' } else { c }).collect()
}

/// Replaces characters that control a terminal, except newlines.
pub(crate) fn printable_lines(text: &str) -> String {
    text.chars().map(|c| if controls_terminal(c) && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// Returns one line of JSON. Characters that control a terminal are escaped; JSON itself escapes only those of ASCII.
pub(crate) fn json(value: &serde_json::Value) -> String {
    let text = value.to_string();
    if !text.contains(controls_terminal) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        match c {
            // Only a string can contain such a character, and each is in the basic plane: one escape is enough.
            c if controls_terminal(c) => escaped += &format!("\\u{:04x}", u32::from(c)),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Whether a character controls a terminal: control characters, and those that change the direction of writing.
pub(crate) fn controls_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns the width of a text in terminal cells: two for a Chinese character or an emoji.
pub(crate) fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// Pads a text with spaces to a width in cells.
pub(crate) fn pad(text: &str, cells: usize) -> String {
    let spaces = cells.saturating_sub(width(text));
    format!("{text}{:spaces$}", "")
}

/// The tone of a text: its colour, if the terminal has colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Faint,
    Strong,
    Good,
    Warning,
    Bad,
}

/// Whether the output to a stream is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paint(bool);

impl Paint {
    /// Enables colours for a terminal that has them, unless `NO_COLOR` is set.
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

/// Whether the terminal cannot handle escape sequences.
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
    fn untrusted_text_cannot_control_the_terminal() {
        let hostile = "a\x1b[2J\x07\u{9b}31m\u{202e}b\r\n";
        assert_eq!(printable(hostile), "a\u{fffd}[2J\u{fffd}\u{fffd}31m\u{fffd}b\u{fffd}\u{fffd}");
        assert_eq!(printable_lines("a\nb\x1b"), "a\nb\u{fffd}");
    }

    #[test]
    fn untrusted_json_cannot_control_the_terminal() {
        let value = serde_json::json!({"a\u{9b}": "\x1b[2J\u{9b}31m\u{202e}\u{7f}\n", "é": "\u{1f600}"});
        let text = json(&value);
        assert!(!text.contains(controls_terminal), "{text}");
        assert!(text.contains('é') && text.contains('\u{1f600}'));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
