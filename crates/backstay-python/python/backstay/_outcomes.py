"""Judging what ends later than the call that made it."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from backstay._native import Permit


def follow(permit: Permit, result: Any) -> Any:
    """`result`, or what stands for it and reports to `permit` when it ends."""
    if inspect.isawaitable(result):
        return _awaited(permit, result)
    if isinstance(result, Generator):
        return _generated(permit, result)
    if isinstance(result, AsyncGenerator):
        return _generated_async(permit, result)
    permit.success()
    return result


async def _awaited(permit: Permit, awaitable: Awaitable[Any]) -> Any:
    try:
        result = await awaitable
    except BaseException as error:
        permit.raised(error)
        raise
    permit.success()
    return result


def _generated(permit: Permit, generator: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    try:
        result = yield from generator
    except BaseException as error:
        permit.raised(error)
        raise
    permit.success()
    return result


async def _generated_async(permit: Permit, generator: AsyncGenerator[Any, Any]) -> AsyncGenerator[Any, Any]:
    try:
        sent = None
        while True:
            try:
                value = await generator.asend(sent)
            except StopAsyncIteration:
                break
            try:
                sent = yield value
            except GeneratorExit:
                await generator.aclose()
                raise
            except BaseException as error:
                # What is thrown in is thrown in there; what it yields then is lost to nobody but the thrower.
                sent = await generator.athrow(error)
    except BaseException as error:
        permit.raised(error)
        raise
    permit.success()
