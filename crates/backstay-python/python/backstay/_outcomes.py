"""Judging what ends later than the call that made it."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Generator
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from backstay._functions import async_generator

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine

    from backstay._native import Permit


def follow(permit: Permit, result: Any) -> Any:
    """`result`, or what stands for it and reports to `permit` when it ends."""
    if type(result) is CoroutineType:
        return _awaited(permit, result)
    if _is_future(result):
        _report(permit, result)
        return result
    if is_awaitable(result):
        return _Followed(permit, result)
    if issubclass(type(result), Generator):
        return _generated(permit, result)
    if issubclass(type(result), AsyncGenerator):
        return async_generator(_made, permit)(result)
    permit.returned(result)
    return result


def _is_future(result: Any) -> bool:
    """Whether it tells others when it is done: a future or task of asyncio, a future of `concurrent.futures`, of gRPC."""
    kind = type(result)
    return all(callable(getattr(kind, name, None)) for name in ("add_done_callback", "done", "cancelled", "exception"))


def _report(permit: Permit, future: Any) -> None:
    """Tells `permit` how `future` ends, whether or not anything waits for it."""

    def done(future: Any) -> None:
        if future.cancelled():
            permit.cancelled()
            return
        try:
            # asyncio logs a failure that nothing asked for. To ask with `exception()` would silence that.
            error = future._exception
        except AttributeError:
            error = future.exception()
        if error is None:
            permit.returned(future.result())
        else:
            permit.raised(error)

    if future.done():
        done(future)
    else:
        future.add_done_callback(done)


def is_awaitable(result: Any) -> bool:
    """A proxy of what is gone answers no question, and is no promise either."""
    try:
        return inspect.isawaitable(result)
    except Exception:
        return False


def awaited(result: Any) -> Coroutine[Any, Any, Any] | None:
    """A coroutine that awaits `result`, where that can be awaited."""
    return _awaiting(result) if is_awaitable(result) else None


async def _awaiting(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def _awaited(permit: Permit, awaitable: Awaitable[Any]) -> Any:
    try:
        result = await awaitable
    except BaseException as error:
        permit.raised(error)
        raise
    permit.returned(result)
    return result


class _Followed:
    """Stands for an awaitable that is more than that, such as a context manager."""

    def __init__(self, permit: Permit, awaitable: Any) -> None:
        self._permit = permit
        self._awaitable = awaitable

    def __await__(self) -> Generator[Any, Any, Any]:
        return _awaited(self._permit, self._awaitable).__await__()

    async def __aenter__(self) -> Any:
        return await _awaited(self._permit, self._awaitable.__aenter__())

    async def __aexit__(self, *exception: object) -> Any:
        return await self._awaitable.__aexit__(*exception)

    def __aiter__(self) -> Any:
        return self._awaitable.__aiter__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._awaitable, name)

    def __repr__(self) -> str:
        return f"<followed by a circuit breaker: {self._awaitable!r}>"


def _generated(permit: Permit, generator: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    try:
        result = yield from generator
    except BaseException as error:
        permit.raised(error)
        raise
    permit.returned(result)
    return result


async def _made(generator: AsyncGenerator[Any, Any]) -> AsyncGenerator[Any, Any]:
    return generator


async def entered(permit: Permit) -> Permit:
    """What `async with permit` awaits at its beginning."""
    return permit


async def left(permit: Permit, error: BaseException | None) -> None:
    """What `async with permit` awaits at its end."""
    if error is None:
        permit.success()
    else:
        permit.raised(error)
