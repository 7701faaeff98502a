"""What a decorator has to know of the function that it is given."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backstay._native import Permit


def checked(function: Any) -> None:
    """Raises `TypeError` for what cannot be called, now and not at each call."""
    if not callable(function):
        kind = type(function).__name__
        advice = ": decorate the function below it" if isinstance(function, (classmethod, property)) else ""
        raise TypeError(f"a {kind} cannot be called, allowed is a function{advice}")


def requires_three(function: Any) -> bool:
    """Whether it has three positional parameters without defaults."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in positional and one.default is one.empty for one in parameters) == 3


def is_async(function: Any) -> bool:
    """Whether calling it certainly makes a coroutine."""
    return _is(inspect.iscoroutinefunction, function)


def is_generator(function: Any) -> bool:
    """Whether calling it certainly makes a generator."""
    return _is(inspect.isgeneratorfunction, function)


def is_async_generator(function: Any) -> bool:
    """Whether calling it certainly makes an async generator."""
    return _is(inspect.isasyncgenfunction, function)


def _is(test: Callable[[Any], bool], function: Any) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    return test(function) or test(getattr(type(function), "__call__", None))


def async_generator(
    make: Callable[..., Awaitable[AsyncGenerator[Any, Any]]], permit: Permit | None = None
) -> Callable[..., AsyncGenerator[Any, Any]]:
    """An async generator function that stands for the generators that `make` makes when they are begun: what `yield
    from` is for others. How one ends, `permit` is told.
    """

    async def generate(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        try:
            generator = await make(*args, **kwargs)
            # A loop that ends closes the generators that it knows: this one, and not the one within as well.
            hooks = sys.get_asyncgen_hooks()
            sys.set_asyncgen_hooks(None, None)
            try:
                step = generator.asend(None)
            finally:
                sys.set_asyncgen_hooks(*hooks)
            while True:
                try:
                    value = await step
                except StopAsyncIteration:
                    break
                try:
                    sent = yield value
                except GeneratorExit:
                    await generator.aclose()
                    raise
                except BaseException as error:
                    step = generator.athrow(error)
                else:
                    step = generator.asend(sent)
        except BaseException as error:
            if permit is not None:
                permit.raised(error)
            raise
        if permit is not None:
            permit.success()

    return generate
