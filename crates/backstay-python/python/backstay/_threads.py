"""Threads of Python, as the native module has to know them."""

from __future__ import annotations

import sys
import threading


def is_main_thread() -> bool:
    """Whether signal handlers of Python run in this thread."""
    return threading.current_thread() is threading.main_thread()


def stack_of(native_id: int) -> str | None:
    """What the thread with this number of the operating system is doing now, as a traceback shows it."""
    import traceback

    for thread in threading.enumerate():
        if thread.native_id == native_id and thread.ident is not None:
            frame = sys._current_frames().get(thread.ident)
            if frame is not None:
                return "".join(traceback.format_stack(frame)).rstrip()
    return None
