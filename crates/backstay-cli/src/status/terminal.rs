//! A terminal that is redrawn in place and read key by key. Dropping it restores the terminal.

use std::io::{self, IsTerminal};

use rustix::stdio::{stdin, stdout};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::output;

/// Alternate screen, no cursor, no line wrap.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

pub(super) struct Screen {
    /// The modes of the keyboard before, if standard input is a terminal.
    before: Option<Termios>,
}

impl Screen {
    /// Returns `None` if standard output is not a terminal that can be redrawn.
    pub(super) fn open() -> Option<Self> {
        if !io::stdout().is_terminal() || output::is_dumb() {
            return None;
        }
        let screen = Self { before: tcgetattr(stdin()).ok() };
        screen.enter();
        Some(screen)
    }

    /// Sets up the terminal, also after another program has used it.
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

    /// Redraws the screen in one write, so that it does not flicker. The footer is always visible.
    pub(super) fn draw(&self, text: &str, footer: &str) {
        let rows = tcgetwinsize(stdout()).map_or(0, |size| usize::from(size.ws_row));
        // A terminal without a known size is assumed to have 24 rows.
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
        frame += &format!("\x1b[K\r\n{footer}\x1b[K\x1b[J");
        output::text(&frame);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}
