"""PY-9: what type checkers know of decorated functions. `scripts/test-python` has mypy check it; it is never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

from typing_extensions import assert_type

from backstay import CircuitBreaker, RateLimiter, circuit_breaker, rate_limiter

T = TypeVar("T")
breaker = CircuitBreaker()


@rate_limiter(rate=10)
def limited(x: int) -> str:
    return str(x)


@circuit_breaker
async def guarded(x: int) -> str:
    return str(x)


@rate_limiter
def generic(x: T, *, times: int = 1) -> list[T]:
    return [x] * times


class Base:
    @rate_limiter(rate=10)
    def method(self, x: int) -> str:
        return str(x)

    @breaker
    async def method_async(self, x: int) -> str:
        return str(x)

    @staticmethod
    @circuit_breaker
    def static(x: int) -> str:
        return str(x)

    @classmethod
    @rate_limiter
    def of_class(cls, x: int) -> str:
        return str(x)

    @property
    @circuit_breaker(max_failures=2)
    def value(self) -> int:
        return 1

    @rate_limiter
    async def numbers_async(self) -> AsyncIterator[int]:
        yield 1

    @breaker
    def numbers(self) -> Iterator[int]:
        yield 1


class Derived(Base):
    """An override needs no decorator of its own."""

    def method(self, x: int) -> str:
        return super().method(x)

    async def method_async(self, x: int) -> str:
        return await super().method_async(x)

    @classmethod
    def of_class(cls, x: int) -> str:
        return super().of_class(x)

    @staticmethod
    def static(x: int) -> str:
        return Base.static(x)

    @property
    def value(self) -> int:
        return 2


def takes(function: Callable[[int], str]) -> None: ...


assert_type(limited(1), str)
assert_type(limited._rate_limiter, RateLimiter)
assert_type(limited.__name__, str)
assert_type(guarded._circuit_breaker, CircuitBreaker)
assert_type(generic("x", times=2), list[str])
assert_type(Base.method._rate_limiter, RateLimiter)
assert_type(Base.method(Base(), 1), str)
assert_type(Base().method(x=1), str)
assert_type(Base.static(1) + Base().static(2), str)
assert_type(Base.of_class(1) + Base().of_class(2) + Derived.of_class(3), str)
assert_type(Base().value, int)
takes(limited)
takes(Base().method)
takes(Base.static)
takes(Base.of_class)
limited("x")  # type: ignore[arg-type]
Base().method("x")  # type: ignore[arg-type]
guarded._rate_limiter  # type: ignore[attr-defined]


async def use() -> None:
    assert_type(await guarded(1), str)
    assert_type(await Base().method_async(1), str)
    async for number in Base().numbers_async():
        assert_type(number, int)
    for number in Base().numbers():
        assert_type(number, int)
