"""Calling a program's own functions from threads of the native module."""

from __future__ import annotations

import contextlib
import contextvars
import inspect
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, Optional

from backstay._shared import shared
from backstay._waiting import wait

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator

    from backstay.shutdown import GracefulShutdown

# What a callback that was awaited ended with.
_Ended = Optional[BaseException]
# Loops whose thread waits in one of our blocking calls: nothing runs on them.
_blocked: list[Any] = shared("blocked", list)
# The components whose callbacks run here, by number: a thread or task of a callback's must not wait for its end.
_inside: contextvars.ContextVar[tuple[int | None, ...]] = shared(
    "inside", lambda: contextvars.ContextVar("backstay_inside", default=())
)
# Tasks that were left to a loop, which alone does not keep them.
_left: set[asyncio.Task[_Ended]] = shared("left", set)


def running_loop() -> Any:
    """The asyncio loop that runs in this thread; `None` where there is none."""
    # While another thread imports asyncio, the module is there and lacks the function; no loop runs here then.
    get_running_loop = getattr(sys.modules.get("asyncio"), "get_running_loop", None)
    if get_running_loop is None:
        return None
    try:
        return get_running_loop()
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
    loop: Loop | None,
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
            _await_in_thread(function, result, loop)
        else:
            task = here.create_task(_ended(result))
            _left.add(task)
            task.add_done_callback(_tell)
    finally:
        _inside.reset(before)


async def _ended(awaitable: Awaitable[Any]) -> _Ended:
    """What it raises is returned: a task that ends with `SystemExit` would end the loop that it runs on."""
    try:
        await awaitable
    except (SystemExit, KeyboardInterrupt) as error:
        return error
    return None


def _tell(task: asyncio.Task[_Ended]) -> None:
    _left.discard(task)
    if not task.cancelled() and task.exception() is None and (error := task.result()) is not None:
        from backstay._logging import say

        say(40, f"a callback raised {error!r}", {})


class Loop:
    """A loop on which what callbacks return is awaited, while it runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop

    def runs(self) -> bool:
        """Whether what is begun here gets to its end, as far as is known now."""
        return self.loop.is_running() and self.loop not in _blocked

    def begin(self, work: Coroutine[Any, Any, _Ended]) -> asyncio.Task[_Ended]:
        """Called on the loop."""
        return self.loop.create_task(work)


class KeptLoop(Loop):
    """The loop of a shutdown: should its main coroutine end, what was begun here is awaited first.

    `asyncio.run`, when its main coroutine has ended, cancels every task that it finds, then closes the loop's async
    generators, and then closes the loop. So our tasks are taken from those it finds, and an async generator of ours
    waits for them. A task that one of them has created is cancelled all the same.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, shutdown: GracefulShutdown) -> None:
        """Called on the loop."""
        super().__init__(loop)
        self._tasks: set[asyncio.Task[_Ended]] = set()
        self._is_closing = False
        self._keeper = self._keep(weakref.ref(shutdown))
        # The loop is to know it, and not to close it when it is collected.
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(finalizer=None)
        try:
            self._keeper.asend(None).send(None)
        except StopIteration:
            pass
        finally:
            sys.set_asyncgen_hooks(*hooks)

    def runs(self) -> bool:
        return not self._is_closing and super().runs()

    def begin(self, work: Coroutine[Any, Any, _Ended]) -> asyncio.Task[_Ended]:
        from asyncio import tasks

        task = super().begin(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        tasks._unregister_task(task)
        return task

    def _done(self, task: asyncio.Task[_Ended]) -> None:
        self._tasks.discard(task)

    async def _keep(self, shutdown: weakref.ref[GracefulShutdown]) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._is_closing = True
            if self._tasks and self.loop.is_running():
                await self._finish(shutdown())

    async def _finish(self, shutdown: GracefulShutdown | None) -> None:
        """Waits for the tasks, but no longer than the shutdown lasts; those that are left then are cancelled."""
        import asyncio

        over = asyncio.ensure_future(_nothing() if shutdown is None else wait(shutdown._asettle()))
        left: set[asyncio.Future[Any]] = {*self._tasks, over}
        while self._tasks and not over.done():
            await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            left = {*self._tasks, over}
        for task in left:
            task.cancel()
        await asyncio.wait(left)


async def _nothing() -> None:
    pass


def reserved(function: Any) -> Any:
    """`function`, with a loop of its own if it is async: raises `OSError` if no descriptor is free for that."""
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))
    if not is_async:
        return function
    import selectors

    if not hasattr(selectors, "PollSelector"):
        return function
    from backstay._reserve import Reserved

    return Reserved(function)


def _run_anew(function: Any, awaitable: Awaitable[Any]) -> None:
    """Awaits on the loop that `function` has reserved, or on a new one."""
    import asyncio

    from backstay._reserve import Reserved

    run = function.run if isinstance(function, Reserved) else asyncio.run
    _raise(run(_ended(awaitable)))


def _await_in_thread(function: Any, awaitable: Awaitable[Any], loop: Loop | None) -> None:
    """Awaits what `function` returned, on `loop` if it runs, otherwise on a loop of its own. This thread has none."""
    import concurrent.futures

    if loop is None or not loop.runs():
        return _run_anew(function, awaitable)
    ended: concurrent.futures.Future[_Ended] = concurrent.futures.Future()
    # Whoever has it awaits it: the loop, or this thread when the loop does not come to it.
    claim = threading.Lock()

    def begin() -> None:
        if loop.runs() and claim.acquire(blocking=False):
            loop.begin(_ended(awaitable)).add_done_callback(end)

    def end(task: asyncio.Task[_Ended]) -> None:
        if task.cancelled():
            ended.set_exception(RuntimeError("the event loop cancelled the callback"))
        elif error := task.exception():
            ended.set_exception(error)
        else:
            ended.set_result(task.result())

    with contextlib.suppress(RuntimeError):  # It was closed meanwhile.
        loop.loop.call_soon_threadsafe(begin)
    stopped = 0
    while not ended.done():
        concurrent.futures.wait([ended], timeout=0.1)
        if not loop.runs() and claim.acquire(blocking=False):
            return _run_anew(function, awaitable)
        # `asyncio.run` stops its loop for moments before it closes it.
        stopped = 0 if loop.loop.is_running() else stopped + 1
        if (loop.loop.is_closed() or stopped > 10) and not ended.done():
            # It will never get to its end.
            raise RuntimeError("the event loop ended before the callback did")
    _raise(ended.result())


def _raise(error: BaseException | None) -> None:
    if error is not None:
        raise error
