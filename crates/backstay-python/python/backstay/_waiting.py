"""Awaiting a future of the native module on the loop that runs: asyncio's, or trio's."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from backstay._native import _patience

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from backstay._native import Pending


async def wait_at_most(pending: Pending, seconds: float | None) -> bool:
    """Whether `pending` came to its end in so many seconds."""
    seconds = _patience("timeout", seconds)
    if seconds is None:
        await wait(pending)
        return True
    if _trio_runs():
        import trio

        with trio.move_on_after(seconds) as scope:
            await wait(pending)
        return not scope.cancelled_caught
    import asyncio

    try:
        await asyncio.wait_for(wait(pending), seconds)
    except asyncio.TimeoutError:
        return False
    return True


async def wait(pending: Pending) -> Any:
    """The result of `pending`. Cancelled, it gives up what it waited for."""
    try:
        if _trio_runs():
            return await _wait_on_trio(pending)
        return await _wait_on_asyncio(pending)
    finally:
        pending.close()


def _trio_runs() -> bool:
    trio = sys.modules.get("trio")
    if trio is None:
        return False
    try:
        trio.lowlevel.current_trio_token()
    except RuntimeError:
        return False
    return True


async def _wait_on_asyncio(pending: Pending) -> Any:
    import asyncio

    loop = asyncio.get_running_loop()
    while True:
        turn: asyncio.Future[None] = loop.create_future()
        result = pending.poll(_waker(loop.call_soon_threadsafe, partial(_end, turn)))
        if result is not None:
            return result[0]
        await turn


def _end(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


async def _wait_on_trio(pending: Pending) -> Any:
    import trio

    token = trio.lowlevel.current_trio_token()
    while True:
        turn = trio.Event()
        result = pending.poll(_waker(token.run_sync_soon, turn.set))
        if result is not None:
            return result[0]
        await turn.wait()


def _waker(soon: Callable[[Callable[[], Any]], Any], wake: Callable[[], Any]) -> Callable[[], None]:
    def waker() -> None:
        try:
            soon(wake)
        except RuntimeError:
            pass  # The loop has ended, and with it whoever waited. trio's RunFinishedError is one, too.

    return waker
