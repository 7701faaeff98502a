"""The signals that shutdowns take, at forks and at the end of the program."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from backstay import _native
from backstay._shared import shared

if TYPE_CHECKING:
    from backstay.shutdown import GracefulShutdown

# The shutdowns of this process whose handlers may be in place, in the order of `install`.
_taken: list[GracefulShutdown] = shared("taken", list)


def take(shutdown: GracefulShutdown) -> None:
    """Notes that `shutdown` is about to put its handlers in place."""
    shared("settles", settle_before_threads_end)  # Once per process.
    if shutdown in _taken:
        _taken.remove(shutdown)
    _taken.append(shutdown)
    _hold()


def release(shutdown: GracefulShutdown) -> None:
    """Notes that none of its handlers is in place any more."""
    if shutdown in _taken:
        _taken.remove(shutdown)
    _hold()


def _hold() -> None:
    _native._hold_at_forks([number for shutdown in _taken for number in shutdown._previous])


def after_fork_in_child() -> None:
    """Puts back, in a forked child, what was there before each `install`, the last one first."""
    while _taken:
        _taken.pop()._forget()
    _hold()


def settle_before_threads_end() -> None:
    """Has the end of the program wait for running callbacks while threads and executors still work.

    The hooks of `threading` run when the main thread has ended, the last one first. That of `concurrent.futures` ends
    every executor, so it must be there before ours.
    """
    import concurrent.futures.thread  # noqa: F401
    import threading

    try:
        threading._register_atexit(_settle)  # type: ignore[attr-defined]
    except (AttributeError, RuntimeError):
        pass  # The main thread has ended already: `atexit` waits, too.


def _settle() -> None:
    for shutdown in tuple(_taken):
        shutdown._at_exit()


def only_ends(handler: Any) -> bool:
    """Whether a handler does what the shutdown stands for: Python's own for Ctrl-C, and that of `asyncio.run`."""
    if handler is signal.default_int_handler:
        return True
    function = getattr(handler, "func", None)
    where = (getattr(function, "__module__", None), getattr(function, "__qualname__", None))
    return where == ("asyncio.runners", "Runner._on_sigint")


def passes_to(handler: Any, shutdown: GracefulShutdown, number: int) -> bool:
    """Whether `handler` is a shutdown's that passes the signal on, perhaps through others of ours, to `shutdown`."""
    owner = getattr(handler, "__self__", None)
    while isinstance(owner, _native.GracefulShutdown):
        if owner is shutdown:
            return True
        owner = getattr(owner._previous.get(number), "__self__", None)
    return False


def checked(signals: Any) -> tuple[int, ...]:
    """Raises `TypeError` or `ValueError` for what are not numbers of signals."""
    allowed = "allowed are numbers of signals, such as signal.SIGTERM"
    try:
        numbers = tuple(signals)
    except TypeError:
        raise TypeError(f"signals is {signals!r}, {allowed}") from None
    for number in numbers:
        if not isinstance(number, int):
            raise TypeError(f"signals has {number!r}, {allowed}")
        if not 0 < number < 2**31:
            raise ValueError(f"signals has {number!r}, {allowed}")
    return numbers


def name(number: int) -> str:
    """The signal's name, or its number where it has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
