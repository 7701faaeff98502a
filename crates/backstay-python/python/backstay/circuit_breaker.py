"""Circuit breaker: stops calling what keeps failing, for a while."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from typing import Any, ParamSpec, TypeVar, overload

    from typing_extensions import Self

    from backstay._decorated import _Guarded
    from backstay._values import CircuitCause as CircuitCause
    from backstay._values import CircuitSnapshot as CircuitSnapshot
    from backstay._values import CircuitState as CircuitState
    from backstay._values import CircuitStats as CircuitStats

    _P = ParamSpec("_P")
    _R = TypeVar("_R")

from backstay import _native
from backstay._native import Outcome, Permit
from backstay.exceptions import CircuitBreakerError, CircuitOpenError

__all__ = [
    "CircuitBreaker",
    "CircuitBreakerError",
    "CircuitCause",
    "CircuitOpenError",
    "CircuitSnapshot",
    "CircuitState",
    "CircuitStats",
    "Outcome",
    "Permit",
    "circuit_breaker",
]


class CircuitBreaker(_native.CircuitBreaker):
    """Admits calls until `max_failures` in a row fail; then rejects them for `reset_timeout` seconds.

    Arguments that are not given are the configuration's, or the defaults: `max_failures` 1 to 100 (5), `reset_timeout` 1
    to 3600 seconds (60), `half_open_max_calls` 1 to 10 half-open calls at once (1). Out-of-range numbers are clamped, with
    a warning. `excluded_exceptions` count neither as success nor as failure.

    A half-open call that has not ended after `half_open_timeout` seconds (1 to 3600; default: `reset_timeout`) loses its
    slot, so that another call can be made. Its outcome still counts while that half-open period lasts: a service that is
    slower than the timeout closes the circuit. With `cancellation_is_failure`, cancelled calls count as failed, so that
    timeouts around them open the breaker.

    `failure_rate` opens it when a call fails and at least that share of the window's calls has failed: those of the last
    `window` seconds (0.1 to 86,400; default 10), or the last `window_calls` (1 to 1,000,000), if they are `minimum_calls`
    (20) at least. `max_failures` is then off unless it is given too. Calls that take more than `slow_call` seconds are slow;
    `slow_call_rate` (1) is the share of them that opens it, and a slow half-open call is a failure.

    `classify(result, exception)` decides how a call ended; `None` stands for the one that is absent. It returns an `Outcome`,
    or `None` for what holds without it. If it raises, the call is a failure, and the exception propagates. Cancellation and
    what ends the program are not passed to it.

    `on_state_change`, plain or async, is called with the old and the new state, after each change and in order; one that
    requires a third argument gets the `CircuitCause`. `on_call` is called with the outcome and the duration in seconds.
    Both can be added later.

    >>> breaker = CircuitBreaker(max_failures=3, reset_timeout=30)
    >>> breaker.call(len, "abc")
    3

    Raises:
        ValueError: an invalid number, such as nan.
        TypeError: an argument of the wrong kind.
        ConfigError: the configuration is broken.
    """

    @classmethod
    def named(cls, name: str) -> Self:
        """The process's breaker of this name, the same for everyone who asks.

        The first to ask has it built from the configuration's `circuit_breaker.instances`. It stays, so names should
        not be made from requests.

        Raises:
            ConfigError: the configuration is broken.
        """
        from backstay._named import named

        return named(cls, name)

    @classmethod
    def instances(cls) -> list[Self]:
        """Every named breaker of the process, in the order of names: for exporters and dashboards."""
        return [cls.named(name) for name in cls._names()]

    def snapshot(self) -> CircuitSnapshot:
        """The state and the window as of now. Changes nothing.

        >>> CircuitBreaker(failure_rate=0.5).snapshot().calls
        0
        """
        from backstay._values import CircuitSnapshot

        return CircuitSnapshot(*self._snapshot())

    @property
    def stats(self) -> CircuitStats:
        """A snapshot of what the breaker has done so far."""
        from backstay._values import CircuitStats

        return CircuitStats(*self._stats())

    if TYPE_CHECKING:

        @overload
        async def acall(
            self, func: Callable[_P, Awaitable[_R]], /, *args: _P.args, **kwargs: _P.kwargs
        ) -> _R: ...
        @overload
        async def acall(self, func: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...

    @_native._acall
    async def acall(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Calls `func`, plain or async, if the breaker admits it, and awaits what can be awaited. A future of a thread
        pool is returned, and judged when it is done.

        Raises:
            CircuitOpenError: the breaker is open; `func` was not called.
        """
        raise NotImplementedError  # It is native: this gives it its signature.

    def __call__(self, func: Callable[_P, _R]) -> _Guarded[_P, _R]:
        """Decorates `func` to be called through this breaker: `@breaker`. A generator is admitted when it is started."""
        from functools import partial, wraps

        from backstay._functions import async_generator, checked, is_async, is_async_generator, is_generator

        checked(func)
        call: Callable[..., Any] = partial(self.call, func)
        acall: Callable[..., Any] = partial(self.acall, func)
        guarded: Any
        # Without keywords no mapping of them is made, which is a third of the whole.
        if is_async(func):

            async def guarded(*args: Any, **kwargs: Any) -> Any:
                return await (acall(*args, **kwargs) if kwargs else acall(*args))

        elif is_async_generator(func):
            guarded = async_generator(acall)
        elif is_generator(func):

            def guarded(*args: Any, **kwargs: Any) -> Any:
                return (yield from call(*args, **kwargs))

        else:

            def guarded(*args: Any, **kwargs: Any) -> Any:
                return call(*args, **kwargs) if kwargs else call(*args)

        guarded = wraps(func)(guarded)
        guarded._circuit_breaker = self
        return guarded  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        name = "" if self.name is None else f", name={self.name!r}"
        return f"CircuitBreaker(state={self.state.name}, failure_count={self.failure_count}{name})"


if TYPE_CHECKING:

    @overload
    def circuit_breaker(func: Callable[_P, _R], /) -> _Guarded[_P, _R]: ...
    @overload
    def circuit_breaker(
        func: None = None,
        *,
        max_failures: int | None = None,
        reset_timeout: float | None = None,
        half_open_max_calls: int | None = None,
        excluded_exceptions: type[BaseException] | Iterable[type[BaseException]] = (),
        name: str | None = None,
        failure_rate: float | None = None,
        window: float | None = None,
        window_calls: int | None = None,
        minimum_calls: int | None = None,
        slow_call: float | None = None,
        slow_call_rate: float | None = None,
        classify: Callable[[Any, Exception | None], Outcome | None] | None = None,
    ) -> CircuitBreaker: ...


def circuit_breaker(
    func: Callable[..., Any] | None = None,
    *,
    max_failures: int | None = None,
    reset_timeout: float | None = None,
    half_open_max_calls: int | None = None,
    excluded_exceptions: type[BaseException] | Iterable[type[BaseException]] = (),
    name: str | None = None,
    failure_rate: float | None = None,
    window: float | None = None,
    window_calls: int | None = None,
    minimum_calls: int | None = None,
    slow_call: float | None = None,
    slow_call_rate: float | None = None,
    classify: Callable[[Any, Exception | None], Outcome | None] | None = None,
) -> Any:
    """Guards a function by a breaker of its own: `@circuit_breaker`, or `@circuit_breaker(max_failures=3)`.

    The breaker is the function's `_circuit_breaker`. That of a method is shared by all instances; for one each, make a
    `CircuitBreaker` in `__init__` and use its `call`. Times are in seconds; bounds and defaults are those of
    `CircuitBreaker`. `@CircuitBreaker(...)` takes more than these arguments, and gives the breaker a name in the code.

    >>> @circuit_breaker(max_failures=3, reset_timeout=30)
    ... def price(symbol: str) -> float:
    ...     return 42.0

    Raises:
        ValueError: an invalid number, such as nan.
        TypeError: an argument of the wrong kind, or `func` cannot be called.
        ConfigError: the configuration is broken.
        CircuitOpenError: by the function, while the breaker is open.
    """
    breaker = CircuitBreaker(
        max_failures=max_failures,
        reset_timeout=reset_timeout,
        half_open_max_calls=half_open_max_calls,
        excluded_exceptions=excluded_exceptions,
        name=name,
        failure_rate=failure_rate,
        window=window,
        window_calls=window_calls,
        minimum_calls=minimum_calls,
        slow_call=slow_call,
        slow_call_rate=slow_call_rate,
        classify=classify,
    )
    return breaker if func is None else breaker(func)


def __getattr__(name: str) -> Any:
    if name in ("CircuitCause", "CircuitSnapshot", "CircuitState", "CircuitStats"):
        from backstay import _values

        return getattr(_values, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
