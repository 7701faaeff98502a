"""Threads of Python, as the native module has to know them."""

from __future__ import annotations

import os
import sys
import threading


def is_main_thread() -> bool:
    """Whether signal handlers of Python run in this thread."""
    return threading.current_thread() is threading.main_thread()


def stack_of(native_id: int) -> str | None:
    """What the thread with this number of the operating system is doing now, as a traceback shows it."""
    import traceback

    thread = next((thread for thread in threading.enumerate() if thread.native_id == native_id), None)
    if native_id == os.getpid():
        thread = threading.main_thread()  # In a forked child it may still go by the parent's number.
    if thread is None or thread.ident is None:
        return None
    frame = sys._current_frames().get(thread.ident)
    return None if frame is None else "".join(traceback.format_stack(frame)).rstrip()
