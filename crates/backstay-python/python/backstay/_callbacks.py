"""Calling a program's own functions from threads of the native module."""

from __future__ import annotations

import contextlib
import inspect
import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterator

_T = TypeVar("_T")

# Loops whose thread waits in one of our blocking calls: nothing runs on them.
_blocked: list[Any] = []


def running_loop() -> Any:
    """The asyncio loop that runs in this thread; `None` where there is none."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """While this lasts, the loop of this thread runs nothing."""
    loop = running_loop()
    _blocked.append(loop)
    try:
        yield
    finally:
        _blocked.remove(loop)


async def in_thread(function: Callable[[], _T]) -> _T:
    """Calls a blocking function without blocking the loop."""
    if running_loop() is None:
        return function()  # Not asyncio's: the call is short.
    import asyncio

    return await asyncio.to_thread(function)


def run(function: Callable[..., Any], arguments: tuple[Any, ...], loop: asyncio.AbstractEventLoop | None) -> None:
    """Calls `function`; what it returns that can be awaited is awaited, on `loop` while that runs."""
    result = function(*arguments)
    if inspect.isawaitable(result):
        await_in_thread(result, loop)


def await_in_thread(awaitable: Awaitable[Any], loop: asyncio.AbstractEventLoop | None) -> None:
    """Awaits on `loop` if it runs, in another thread than this one; otherwise on a loop of its own."""
    import asyncio
    import concurrent.futures

    begun = threading.Event()

    async def awaited() -> None:
        begun.set()
        await awaitable

    if loop is None or not loop.is_running() or loop in _blocked or loop is running_loop():
        asyncio.run(awaited())
        return
    coroutine = awaited()
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    while True:
        try:
            return future.result(timeout=0.1)
        except concurrent.futures.TimeoutError:
            if future.done():
                raise
            alive = loop.is_running() and loop not in _blocked
            if not alive and not begun.is_set() and future.cancel():
                coroutine.close()
                asyncio.run(awaited())
                return
            if not loop.is_running():
                # It will never get to its end.
                raise RuntimeError("the event loop ended before the callback did") from None
