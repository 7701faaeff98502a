"""Waiting for a future of the native module: in a task, on asyncio's or trio's loop, or in a greenlet, on gevent's hub."""

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


def in_task() -> bool:
    """Whether an event loop runs in this thread."""
    from backstay._callbacks import running_loop

    return running_loop() is not None or _trio_runs()


def in_greenlet() -> bool:
    """Whether gevent has patched the threads, and runs a hub in this one."""
    # `None` also while another thread imports it.
    is_module_patched = getattr(sys.modules.get("gevent.monkey"), "is_module_patched", None)
    if is_module_patched is None or not is_module_patched("threading"):
        return False
    # `gevent.get_hub` would make one, in threads of ours as well.
    from gevent._hub_local import get_hub_if_exists

    return get_hub_if_exists() is not None


def wait_in_greenlet(pending: Pending, seconds: float | None) -> tuple[Any] | None:
    """The result of `pending` as a tuple, while other greenlets run; `None` where it takes more than `seconds`."""
    import gevent
    from gevent.event import Event

    turn = Event()
    # What other threads may reach a hub by; started, it tells the hub that there is something to wait for.
    alarm = gevent.get_hub().loop.async_()
    alarm.start(turn.set)
    try:
        with gevent.Timeout(seconds, False):
            while True:
                turn.clear()
                result = pending.poll(alarm.send)
                if result is not None:
                    return result
                turn.wait()
        return None
    finally:
        pending.close()
        alarm.stop()
        alarm.close()


def _trio_runs() -> bool:
    # `None` also while another thread imports it.
    current_trio_token = getattr(sys.modules.get("trio.lowlevel"), "current_trio_token", None)
    if current_trio_token is None:
        return False
    try:
        current_trio_token()
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
