//! A terminal that is redrawn in place and gives single keys; put back as it was at the end.

use std::io::{self, IsTerminal};

use rustix::stdio::{stdin, stdout};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::output;

/// Another screen, no cursor, and long lines are cut.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

pub(super) struct Screen {
    /// How the keyboard was, where there is one.
    before: Option<Termios>,
}

impl Screen {
    /// `None` where nothing can be redrawn.
    pub(super) fn open() -> Option<Self> {
        if !io::stdout().is_terminal() || output::is_dumb() {
            return None;
        }
        let screen = Self { before: tcgetattr(stdin()).ok() };
        screen.enter();
        Some(screen)
    }

    /// Also after another program had the terminal.
    pub(super) fn enter(&self) {
        if let Some(before) = &self.before {
            let mut keys = before.clone();
            keys.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
            let _ = tcsetattr(stdin(), OptionalActions::Now, &keys);
        }
        output::text(ENTER);
    }

    pub(super) fn leave(&self) {
        output::text(LEAVE);
        if let Some(before) = &self.before {
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }

    pub(super) fn has_keys(&self) -> bool {
        self.before.is_some()
    }

    /// Replaces what is shown, in one write: nothing flickers. The foot is seen however much there is above it.
    pub(super) fn draw(&self, text: &str, foot: &str) {
        let rows = tcgetwinsize(stdout()).map_or(0, |size| usize::from(size.ws_row));
        // A terminal that does not know its size has the usual one.
        let room = if rows == 0 { 24 } else { rows.max(4) } - 2;
        let lines: Vec<&str> = text.lines().collect();
        let shown = if lines.len() <= room { lines.len() } else { room - 1 };
        let mut frame = String::from("\x1b[H");
        for line in &lines[..shown] {
            frame += &format!("{line}\x1b[K\r\n");
        }
        if shown < lines.len() {
            frame += &format!("… {} more\x1b[K\r\n", lines.len() - shown);
        }
        frame += &format!("\x1b[K\r\n{foot}\x1b[K\x1b[J");
        output::text(&frame);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}
