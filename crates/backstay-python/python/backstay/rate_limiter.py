"""Rate limiter: a token bucket, for threads and tasks alike."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ParamSpec, TypeVar, overload

    from typing_extensions import Self

    from backstay._decorated import _Limited
    from backstay._values import RateLimiterStats as RateLimiterStats

    _P = ParamSpec("_P")
    _R = TypeVar("_R")

from backstay import _native
from backstay.exceptions import RateLimitError, RateLimitExceededError

__all__ = [
    "KeyedRateLimiter",
    "RateLimitError",
    "RateLimitExceededError",
    "RateLimiter",
    "RateLimiterStats",
    "rate_limiter",
]


class RateLimiter(_native.RateLimiter):
    """Grants `rate` tokens per `per` seconds, and up to `burst` at once after a pause.

    The default rate is the configuration's, or 10 per second. `burst` defaults to `rate`, so that up to twice `rate` pass in
    the first `per`; `burst=1` spaces calls evenly. The bucket holds at least one token and starts full; with `burst=0` it
    starts empty. Waiters, threads and tasks together, get tokens in the order in which they came.

    >>> limiter = RateLimiter(rate=10, per=1.0)
    >>> limiter.acquire()
    True

    Raises:
        ValueError: an invalid number.
        TypeError: an argument of the wrong kind.
        ConfigError: the configuration is broken.
    """

    @classmethod
    def named(cls, name: str) -> Self:
        """The process's limiter of this name, the same for everyone who asks.

        The first to ask has it built from the configuration's `rate_limiter.instances`. It stays, so names should not
        be made from requests: `KeyedRateLimiter` is for those.

        Raises:
            ConfigError: the configuration is broken.
        """
        from backstay._named import named

        return named(cls, name)

    @classmethod
    def instances(cls) -> list[Self]:
        """Every named limiter of the process, in the order of names: for exporters and dashboards."""
        return [cls.named(name) for name in cls._names()]

    @property
    def stats(self) -> RateLimiterStats:
        """A snapshot of what the limiter has done so far."""
        from backstay._values import RateLimiterStats

        return RateLimiterStats(*self._stats())

    async def acquire_async(self, *, timeout: float | None = None, tokens: int | None = None) -> bool:
        """Waits in a task for a token, or for `tokens` of them. Cancelled, it returns them to the limiter.

        Raises:
            RateLimitExceededError: they would come after more than `timeout` seconds, or never, being more than the
                bucket holds.
        """
        pending = self._reserve(timeout, tokens)
        if pending is not None:
            from backstay._waiting import wait

            await wait(pending)
        return True

    async def __aenter__(self) -> Self:
        await self.acquire_async()
        return self

    async def __aexit__(self, *exception: object) -> None:
        pass

    def __repr__(self) -> str:
        name = "" if self.name is None else f", name={self.name!r}"
        return f"RateLimiter(rate={self.rate}, per={self.per}{name})"


class KeyedRateLimiter(_native.KeyedRateLimiter):
    """Limits each key (a user, an address) separately: `rate` tokens per `per` seconds, up to `burst` at once.

    Rejects and never waits. Keeps up to `max_keys` keys (default: a million) in 16 bytes each. A key whose bucket is full
    again is dropped when room is needed, which changes nothing for it. A key that is being limited is never dropped: while
    there are `max_keys` of those, new keys are rejected. A key is a `str`, `bytes`, `int`, `float`, `None`, or a tuple of
    them.

    >>> limiter = KeyedRateLimiter(rate=10)
    >>> limiter.try_acquire("alice")
    True

    Raises:
        ValueError: an invalid number.
        TypeError: an argument of the wrong kind.
    """

    @property
    def stats(self) -> RateLimiterStats:
        """A snapshot of what the limiter has done so far, all keys together."""
        from backstay._values import RateLimiterStats

        return RateLimiterStats(*self._stats())

    def __repr__(self) -> str:
        name = "" if self.name is None else f", name={self.name!r}"
        return f"KeyedRateLimiter(rate={self.rate}, per={self.per}, max_keys={self.max_keys}{name})"


if TYPE_CHECKING:

    @overload
    def rate_limiter(fn: Callable[_P, _R], /) -> _Limited[_P, _R]: ...
    @overload
    def rate_limiter(
        fn: None = None,
        *,
        rate: float | None = None,
        per: float | None = None,
        burst: float | None = None,
        blocking: bool = True,
        timeout: float | None = None,
        name: str | None = None,
    ) -> Callable[[Callable[_P, _R]], _Limited[_P, _R]]: ...


def rate_limiter(
    fn: Callable[..., Any] | None = None,
    *,
    rate: float | None = None,
    per: float | None = None,
    burst: float | None = None,
    blocking: bool = True,
    timeout: float | None = None,
    name: str | None = None,
) -> Any:
    """Takes a token of a limiter of its own before each call: `@rate_limiter(rate=100, per=60.0)`.

    With `blocking=False`, or where the token would come after `timeout` seconds, the call is not made and
    `RateLimitExceededError` is raised. A generator takes its token when it is begun. The limiter is the function's
    `_rate_limiter`; that of a method is shared by all instances. An async function waits in its task. A plain one blocks
    its thread while it waits, also if it returns something to await: in a task that blocks the event loop, and a
    warning is logged once. `per` and `timeout` are in seconds.

    >>> @rate_limiter(rate=100, per=60.0)
    ... def call_api() -> None: ...

    Raises:
        ValueError, TypeError: an invalid number, or `fn` cannot be called.
        ConfigError: the configuration is broken.
        RateLimitExceededError: by the function, where it does not wait.
    """
    limiter = RateLimiter(rate, per, burst=burst, name=name)
    _native._patience("timeout", timeout)

    from functools import partial

    # All of them raise where a token cannot be had. `partial` is slow with keywords.
    take: Callable[[], object]
    if not blocking:
        take = limiter._check
    elif timeout is None:
        take = limiter.acquire
    else:
        take = partial(limiter.acquire, timeout=timeout)
    # Tokens that are there are taken without a coroutine.
    reserve: Callable[[], Any] = partial(limiter._reserve, timeout, None) if blocking else limiter._check

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        from functools import wraps

        from backstay._functions import async_generator, checked, is_async, is_async_generator, is_generator
        from backstay._waiting import wait

        checked(function)
        limited: Any
        if is_async(function):

            async def limited(*args: Any, **kwargs: Any) -> Any:
                if (pending := reserve()) is not None:
                    await wait(pending)
                return await (function(*args, **kwargs) if kwargs else function(*args))

        elif is_async_generator(function):

            async def made(*args: Any, **kwargs: Any) -> Any:
                if (pending := reserve()) is not None:
                    await wait(pending)
                return function(*args, **kwargs)

            limited = async_generator(made)
        elif is_generator(function):

            def limited(*args: Any, **kwargs: Any) -> Any:
                take()
                return (yield from function(*args, **kwargs))

        else:

            def limited(*args: Any, **kwargs: Any) -> Any:
                take()
                return function(*args, **kwargs) if kwargs else function(*args)

        limited = wraps(function)(limited)
        limited._rate_limiter = limiter
        return limited  # type: ignore[no-any-return]

    return decorate if fn is None else decorate(fn)


def __getattr__(name: str) -> Any:
    if name == "RateLimiterStats":
        from backstay._values import RateLimiterStats

        return RateLimiterStats
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
