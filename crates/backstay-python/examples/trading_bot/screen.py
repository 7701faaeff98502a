"""What one sees: a line for each event, and below them one that is redrawn in place. Piped, it is a plain log."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time

CODES = {"faint": "2", "strong": "1", "good": "32", "warning": "33", "bad": "1;31"}


class Screen:
    """Standard output, shared by every thread that has something to say."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self.is_coloured = self.is_terminal and not os.environ.get("NO_COLOR")
        self._lock = threading.Lock()
        self._live: list[tuple[str, str]] = []
        self._piped_at = float("-inf")

    def event(self, tone: str, who: str, what: object) -> None:
        """Something happened to `who`: a line that stays."""
        self.line(f"{self._paint('faint', self._time())}  {who:<11} {self._paint(tone, str(what))}")

    def line(self, text: str) -> None:
        """A line that stays, without a time."""
        with self._lock:
            self._write(f"{self._erase()}{text}\n{self._fitted() if self.is_terminal else ''}")

    def live(self, pieces: list[tuple[str, str]]) -> None:
        """Redraws the live line; piped, it is one of its own now and then."""
        with self._lock:
            self._live = pieces
            if self.is_terminal:
                self._write(self._erase() + self._fitted())
            elif time.monotonic() - self._piped_at >= 1:
                self._piped_at = time.monotonic()
                self._write(f"{self._time()}  {''.join(text for _, text in pieces)}\n")

    def still(self) -> None:
        """Takes the live line away."""
        with self._lock:
            self._live = []
            self._write(self._erase())

    def _fitted(self) -> str:
        # First without what is faint: one that wraps could not be redrawn.
        width = shutil.get_terminal_size().columns - 1
        pieces = self._live
        if sum(len(text) for _, text in pieces) > width:
            pieces = [piece for piece in pieces if piece[0] != "faint"]
        line = ""
        for tone, text in pieces:
            line += self._paint(tone, text[:width])
            width -= len(text[:width])
        return line

    def _paint(self, tone: str, text: str) -> str:
        return f"\x1b[{CODES[tone]}m{text}\x1b[0m" if self.is_coloured and tone in CODES else text

    def _erase(self) -> str:
        return "\r\x1b[2K" if self.is_terminal else ""

    def _time(self) -> str:
        return f"{time.monotonic() - self.began:6.2f}s"

    def _write(self, text: str) -> None:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError:
            pass  # A reader that has gone (`| head`) is no reason to leave positions open.
