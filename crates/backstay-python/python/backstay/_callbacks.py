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
    """Calls `function`; what it returns that can be awaited is awaited, on `loop` while that runs. In a thread that has
    a loop of its own, it is left to that loop.
    """
    result = function(*arguments)
    if not inspect.isawaitable(result):
        return
    here = running_loop()
    if here is None:
        await_in_thread(result, loop)
    else:
        task = here.create_task(_awaited(result))
        _left.add(task)
        task.add_done_callback(_left.discard)


# A loop alone does not keep its tasks.
_left: set[asyncio.Task[None]] = set()


async def _awaited(awaitable: Awaitable[Any]) -> None:
    await awaitable


def await_in_thread(awaitable: Awaitable[Any], loop: asyncio.AbstractEventLoop | None) -> None:
    """Awaits on `loop` if it runs; otherwise on a loop of its own. This thread has none."""
    import asyncio
    import concurrent.futures

    if loop is None or not _runs(loop):
        asyncio.run(_awaited(awaitable))
        return
    ended: concurrent.futures.Future[None] = concurrent.futures.Future()
    # Whoever has it awaits it: the loop, or this thread when the loop does not come to it.
    claim = threading.Lock()

    def begin() -> None:
        if claim.acquire(blocking=False):
            loop.create_task(_awaited(awaitable)).add_done_callback(end)

    def end(task: asyncio.Task[None]) -> None:
        if task.cancelled():
            ended.set_exception(RuntimeError("the event loop cancelled the callback"))
        elif error := task.exception():
            ended.set_exception(error)
        else:
            ended.set_result(None)

    with contextlib.suppress(RuntimeError):  # It was closed meanwhile.
        loop.call_soon_threadsafe(begin)
    while not ended.done():
        concurrent.futures.wait([ended], timeout=0.1)
        if not _runs(loop) and claim.acquire(blocking=False):
            asyncio.run(_awaited(awaitable))
            return
        if not loop.is_running() and not ended.done():
            # It will never get to its end.
            raise RuntimeError("the event loop ended before the callback did")
    ended.result()


def _runs(loop: asyncio.AbstractEventLoop) -> bool:
    return loop.is_running() and loop not in _blocked
