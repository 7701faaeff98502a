"""Event loops that are made ahead, so that async callbacks of a shutdown run when no descriptor is free."""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
from typing import TYPE_CHECKING, Any, TypeVar

from backstay import _native

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

# What `asyncio.to_thread` and lookups of addresses import at their first use, which takes a descriptor. Nothing else needs
# it, and a process that has given up its privileges may not read it.
with contextlib.suppress(ImportError):
    import concurrent.futures.thread  # noqa: F401

_T = TypeVar("_T")


class Reserved:
    """An async callback and a loop on which it can be awaited.

    The loop polls, so that all it has is a pair of sockets: an epoll descriptor would be shared with forked children, and
    a child that closes its loop would change what the parent's loop waits for.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        """Raises `OSError` if no descriptor is free."""
        self._function = function
        self._process = _native._this_process()
        self._loop = _make()

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Runs `work` to its end, as `asyncio.run` does."""
        loop = self._own()
        try:
            return loop.run_until_complete(work)
        finally:
            try:
                loop.run_until_complete(_wind_up())
            finally:
                loop.close()

    def _own(self) -> asyncio.AbstractEventLoop:
        if self._process != _native._this_process():
            # A forked child shares the sockets with its parent. Closed, they make room for its own.
            self._loop.close()
            self._process = _native._this_process()
        if self._loop.is_closed():
            self._loop = _make()
        return self._loop

    def __del__(self) -> None:
        # At the end of the interpreter, parts of it may be gone.
        with contextlib.suppress(Exception):
            self._loop.close()


def _make() -> asyncio.AbstractEventLoop:
    # A loop that gets no sockets writes an error to stderr when it is collected.
    for end in socket.socketpair():
        end.close()
    return asyncio.SelectorEventLoop(selectors.PollSelector())


async def _wind_up() -> None:
    loop = asyncio.get_running_loop()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()
