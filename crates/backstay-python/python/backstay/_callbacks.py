"""Calling a program's own functions from threads of the native module."""

from __future__ import annotations

import contextlib
import contextvars
import inspect
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterator

# Loops whose thread waits in one of our blocking calls: nothing runs on them.
_blocked: list[Any] = []
# The components whose callbacks run here, by number: a thread or task of a callback's must not wait for its end.
_inside: contextvars.ContextVar[tuple[int | None, ...]] = contextvars.ContextVar("backstay_inside", default=())
# Tasks that were left to a loop, which alone does not keep them.
_left: set[asyncio.Task[BaseException | None]] = set()


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


def is_inside(component: int | None) -> bool:
    """Whether what runs here is a callback of that component, or was begun by one."""
    return component in _inside.get()


def run(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    loop: asyncio.AbstractEventLoop | None,
    component: int,
) -> None:
    """Calls `function`; what it returns that can be awaited is awaited, on `loop` while that runs. In a thread that has
    a loop of its own, it is left to that loop.
    """
    before = _inside.set((*_inside.get(), component))
    try:
        result = function(*arguments)
        if not inspect.isawaitable(result):
            return
        here = running_loop()
        if here is None:
            _await_in_thread(result, loop)
        else:
            task = here.create_task(_ended(result))
            _left.add(task)
            task.add_done_callback(_tell)
    finally:
        _inside.reset(before)


async def _ended(awaitable: Awaitable[Any]) -> BaseException | None:
    """What it raises is returned: a task that ends with `SystemExit` would end the loop that it runs on."""
    try:
        await awaitable
    except (SystemExit, KeyboardInterrupt) as error:
        return error
    return None


def _tell(task: asyncio.Task[BaseException | None]) -> None:
    _left.discard(task)
    if not task.cancelled() and task.exception() is None and (error := task.result()) is not None:
        from backstay._logging import say

        say(40, f"a callback raised {error!r}", {})


def _await_in_thread(awaitable: Awaitable[Any], loop: asyncio.AbstractEventLoop | None) -> None:
    """Awaits on `loop` if it runs; otherwise on a loop of its own. This thread has none."""
    import asyncio
    import concurrent.futures

    if loop is None or not _runs(loop):
        return _raise(asyncio.run(_ended(awaitable)))
    ended: concurrent.futures.Future[BaseException | None] = concurrent.futures.Future()
    # Whoever has it awaits it: the loop, or this thread when the loop does not come to it.
    claim = threading.Lock()

    def begin() -> None:
        if claim.acquire(blocking=False):
            loop.create_task(_ended(awaitable)).add_done_callback(end)

    def end(task: asyncio.Task[BaseException | None]) -> None:
        if task.cancelled():
            ended.set_exception(RuntimeError("the event loop cancelled the callback"))
        elif error := task.exception():
            ended.set_exception(error)
        else:
            ended.set_result(task.result())

    with contextlib.suppress(RuntimeError):  # It was closed meanwhile.
        loop.call_soon_threadsafe(begin)
    while not ended.done():
        concurrent.futures.wait([ended], timeout=0.1)
        if not _runs(loop) and claim.acquire(blocking=False):
            return _raise(asyncio.run(_ended(awaitable)))
        if not loop.is_running() and not ended.done():
            # It will never get to its end.
            raise RuntimeError("the event loop ended before the callback did")
    _raise(ended.result())


def _raise(error: BaseException | None) -> None:
    if error is not None:
        raise error


def _runs(loop: asyncio.AbstractEventLoop) -> bool:
    return loop.is_running() and loop not in _blocked
