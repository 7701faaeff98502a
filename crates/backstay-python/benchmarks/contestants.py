"""What is measured: for each operation, a statement for each contestant, and how its names are made."""

from __future__ import annotations

import asyncio
import operator
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

Names = dict[str, Any]
Contestants = dict[str, tuple[str, Callable[[], Names]]]

OURS = "backstay"
PAGE = "kstlib"  # The package that the page describes.


def work() -> None:
    """What is guarded."""


async def awork() -> None:
    """What is guarded, for tasks."""


def fail() -> None:
    raise ConnectionError


async def forward(func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """What any `acall` written in Python costs at least."""
    return await func(*args, **kwargs)


def forwarding(func: Callable[..., Any]) -> Callable[..., Any]:
    """What any decorated function costs at least that is a function."""

    def forwarded(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs) if kwargs else func(*args)

    return forwarded


def aforwarding(func: Callable[..., Any]) -> Callable[..., Any]:
    """The same for an async one."""

    async def forwarded(*args: Any, **kwargs: Any) -> Any:
        return await (func(*args, **kwargs) if kwargs else func(*args))

    return forwarded


def limited(name: str, func: Callable[..., Any]) -> Any:
    return module(name).rate_limiter(rate=1e9, per=1.0)(func)


class Empty:
    """What any class costs at least whose `__init__` is written in Python."""

    def __init__(
        self,
        rate: float | None = None,
        per: float | None = None,
        *,
        burst: float | None = None,
        name: str | None = None,
    ) -> None: ...


def module(name: str) -> Any:
    import importlib

    return importlib.import_module(f"{PAGE}.resilience" if name == PAGE else name)


def breaker(name: str, **more: Any) -> Any:
    return module(name).CircuitBreaker(max_failures=5, reset_timeout=60, **more)


def opened(name: str) -> Any:
    one = breaker(name)
    for _ in range(5):
        with suppress(ConnectionError):
            one.call(fail)
    return one


def pybreaker_breaker(open_it: bool = False) -> Any:
    import pybreaker

    one = pybreaker.CircuitBreaker(fail_max=5, reset_timeout=60)
    if open_it:
        one.open()
    return one


def circuitbreaker_breaker(open_it: bool = False) -> Any:
    import circuitbreaker

    one = circuitbreaker.CircuitBreaker(failure_threshold=5, recovery_timeout=60)
    for _ in range(5 if open_it else 0):
        with suppress(ConnectionError):
            one.call(fail)
    return one


def purgatory_breaker(open_it: bool = False) -> Any:
    import purgatory

    factory = purgatory.SyncCircuitBreakerFactory(default_threshold=5, default_ttl=60)
    for _ in range(5 if open_it else 0):
        with suppress(ConnectionError), factory.get_breaker("x"):
            fail()
    return factory.get_breaker("x")


def limiter(name: str, rate: float = 1e9) -> Any:
    one = module(name).RateLimiter(rate=rate, per=1.0 if rate > 1 else 3600.0)
    return one


def empty(name: str) -> Any:
    one = limiter(name, 1)
    while one.try_acquire():
        pass
    return one


def limits_limiter(amount: int) -> Names:
    import limits

    one = limits.strategies.FixedWindowRateLimiter(limits.storage.MemoryStorage())
    item = limits.RateLimitItemPerHour(amount)
    one.hit(item, "x")
    return {"hit": one.hit, "item": item}


def pyrate_limiter(amount: int) -> Names:
    from pyrate_limiter import Duration, Limiter, Rate

    one = Limiter(Rate(amount, Duration.HOUR))
    one.try_acquire("x", blocking=False)
    return {"try_acquire": one.try_acquire, "try_acquire_async": one.try_acquire_async}


def aio_limiter() -> Names:
    import aiolimiter

    return {"acquire": aiolimiter.AsyncLimiter(1e9, 1.0).acquire}


def pinged(name: str) -> Names:
    one = module(name).Watchdog(timeout=60)
    one.start()
    return {"ping": one.ping, "_keep": one}


def beating(name: str) -> Names:
    one = module(name).Heartbeat(state_file=Path(tempfile.mkdtemp()) / "beat", interval=60)
    one.start()
    return {"beat": one.beat, "_keep": one}


def purgatory_async() -> Names:
    import purgatory

    factory = purgatory.AsyncCircuitBreakerFactory(default_threshold=5, default_ttl=60)
    return {"one": asyncio.run(factory.get_breaker("x")), "awork": awork}


BOTH = (OURS, PAGE)
CAUGHT = "try:\n    {}\nexcept error:\n    pass"
OPEN = "CircuitOpenError"


def of_both(statement: str, names: Callable[[str], Names]) -> Contestants:
    return {name: (statement, lambda name=name: names(name)) for name in BOTH}  # type: ignore[misc]


def rejection() -> Contestants:
    def of(one: Any, error: Any) -> Names:
        return {"call": one.call, "work": work, "error": error}

    def pybreaker() -> Names:
        import pybreaker

        return of(pybreaker_breaker(True), pybreaker.CircuitBreakerError)

    def circuitbreaker() -> Names:
        import circuitbreaker

        return {"work": circuitbreaker_breaker(True)(work), "error": circuitbreaker.CircuitBreakerError}

    def purgatory() -> Names:
        from purgatory.domain.model import OpenedState

        return {"one": purgatory_breaker(True), "work": work, "error": OpenedState}

    return {
        **of_both(CAUGHT.format("call(work)"), lambda name: of(opened(name), getattr(module(name), OPEN))),
        "pybreaker": (CAUGHT.format("call(work)"), pybreaker),
        "circuitbreaker": (CAUGHT.format("work()"), circuitbreaker),
        "purgatory": (CAUGHT.format("with one: work()"), purgatory),
    }


def rated(**more: Any) -> Any:
    """With a failure rate over the last ten seconds."""
    return module(OURS).CircuitBreaker(failure_rate=1.0, reset_timeout=60, **more)


def failing() -> Names:
    one = rated(minimum_calls=1_000_000)
    one.call(work)
    return {"call": one.call, "fail": fail, "error": ConnectionError}


def undecided(result: object, exception: Exception | None) -> None:
    """A classifier that leaves each call as it is."""


OPERATIONS: dict[str, Contestants] = {
    "call": {
        "a bare call": ("work()", lambda: {"work": work}),
        "a builtin that only forwards": ("call(work)", lambda: {"call": operator.call, "work": work}),
        **of_both("call(work)", lambda name: {"call": breaker(name).call, "work": work}),
        "pybreaker": ("call(work)", lambda: {"call": pybreaker_breaker().call, "work": work}),
        "circuitbreaker": ("call(work)", lambda: {"call": circuitbreaker_breaker().call, "work": work}),
        "purgatory": ("with one: work()", lambda: {"one": purgatory_breaker(), "work": work}),
    },
    "call, in a window": {
        OURS: ("call(work)", lambda: {"call": rated().call, "work": work}),
        "the same, of 100 calls": ("call(work)", lambda: {"call": rated(window_calls=100).call, "work": work}),
        "the same, slow calls of 1 s": ("call(work)", lambda: {"call": rated(slow_call=1).call, "work": work}),
        "the same, a classifier": ("call(work)", lambda: {"call": rated(classify=undecided).call, "work": work}),
        "the same, failing": (CAUGHT.format("call(fail)"), failing),
        "without a window": ("call(work)", lambda: {"call": breaker(OURS).call, "work": work}),
        "a permit": ("with permit(): work()", lambda: {"permit": rated().permit, "work": work}),
    },
    "rejection": rejection(),
    "decorated": {
        "a function that only forwards": ("work()", lambda: {"work": forwarding(work)}),
        **of_both("work()", lambda name: {"work": breaker(name)(work)}),
        "pybreaker": ("work()", lambda: {"work": pybreaker_breaker()(work)}),
        "circuitbreaker": ("work()", lambda: {"work": circuitbreaker_breaker()(work)}),
    },
    "try_acquire, granted": {
        **of_both("try_acquire()", lambda name: {"try_acquire": limiter(name).try_acquire}),
        "limits": ("hit(item, 'x')", lambda: limits_limiter(10**12)),
        "pyrate-limiter": ("try_acquire('x', blocking=False)", lambda: pyrate_limiter(10**6)),
    },
    "try_acquire, refused": {
        **of_both("try_acquire()", lambda name: {"try_acquire": empty(name).try_acquire}),
        "limits": ("hit(item, 'x')", lambda: limits_limiter(1)),
        "pyrate-limiter": ("try_acquire('x', blocking=False)", lambda: pyrate_limiter(1)),
    },
    "ping": of_both("ping()", pinged),
    "beat": of_both("beat()", beating),
    "acall": {
        "an `async def` that only forwards": ("await acall(awork)", lambda: {"acall": forward, "awork": awork}),
        **of_both("await acall(awork)", lambda name: {"acall": breaker(name).acall, "awork": awork}),
        "circuitbreaker": ("await awork()", lambda: {"awork": circuitbreaker_breaker()(awork)}),
        "purgatory": ("async with one: await awork()", purgatory_async),
    },
    "decorated, async": {
        "a function that only forwards": ("await awork()", lambda: {"awork": aforwarding(awork)}),
        **of_both("await awork()", lambda name: {"awork": breaker(name)(awork)}),
        "circuitbreaker": ("await awork()", lambda: {"awork": circuitbreaker_breaker()(awork)}),
    },
    "rate_limiter, decorated": of_both("work()", lambda name: {"work": limited(name, work)}),
    "rate_limiter, decorated, async": of_both("await awork()", lambda name: {"awork": limited(name, awork)}),
    "acquire_async": {
        **of_both("await acquire()", lambda name: {"acquire": limiter(name).acquire_async}),
        "aiolimiter": ("await acquire()", aio_limiter),
        "pyrate-limiter": ("await try_acquire_async('x', blocking=False)", lambda: pyrate_limiter(10**6)),
    },
    "CircuitBreaker()": {
        **of_both("make(max_failures=5, reset_timeout=60)", lambda name: {"make": module(name).CircuitBreaker}),
        "pybreaker": ("make()", lambda: {"make": pybreaker_breaker}),
        "circuitbreaker": ("make()", lambda: {"make": circuitbreaker_breaker}),
    },
    "RateLimiter()": {
        "an empty class": ("make(rate=10, per=1.0)", lambda: {"make": Empty}),
        **of_both("make(rate=10, per=1.0)", lambda name: {"make": module(name).RateLimiter}),
        "aiolimiter": ("make(10, 1.0)", lambda: {"make": __import__("aiolimiter").AsyncLimiter}),
    },
}

IMPORTS = {
    OURS: "backstay",
    PAGE: f"{PAGE}.resilience",
    "pybreaker": "pybreaker",
    "circuitbreaker": "circuitbreaker",
    "purgatory": "purgatory",
    "limits": "limits",
    "pyrate-limiter": "pyrate_limiter",
    "aiolimiter": "aiolimiter",
}

TIMES = {"try_acquire, granted": 12, "call": 12, "ping": 8, "rejection": 5}
"""How many times faster than the page's package ours has to be, on one thread."""
NANOSECONDS = {"CircuitBreaker()": 800.0, "RateLimiter()": 600.0, "acall": 250.0, "import": 15e6}
"""How long ours may take, on one thread."""
