"""Programs that run on trio instead of asyncio."""

import sys

import pytest

from backstay import CircuitBreaker, GracefulShutdown, Heartbeat, RateLimiter, Watchdog, circuit_breaker

trio = pytest.importorskip("trio")


# PY-7
def test_the_components_on_trio(tmp_path):
    async def main():
        limiter = RateLimiter(100, burst=1)
        order = []

        async def one(number):
            await limiter.acquire_async()
            order.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(one, number)
        assert sorted(order) == list(range(5))

        empty = RateLimiter(1, 3600, burst=1)
        await empty.acquire_async()
        with trio.move_on_after(0.05) as scope:
            await empty.acquire_async()
        assert scope.cancelled_caught and empty.time_until_token() <= 3600

        breaker = CircuitBreaker(max_failures=1)
        with trio.move_on_after(0.01):
            await breaker.acall(trio.sleep, 60)
        assert breaker.failure_count == 0

        @circuit_breaker
        async def guarded():
            await trio.sleep(0)
            return 3

        assert await guarded() == 3
        async with Watchdog(timeout=5) as watchdog, Heartbeat(tmp_path / "beat"):
            await watchdog.aping()
        ran = []
        shutdown = GracefulShutdown()
        shutdown.register("plain", lambda: ran.append(1))
        assert await shutdown.await_shutdown(0.01) is False
        await shutdown.atrigger()
        assert ran == [1] and await shutdown.await_shutdown(1)

    trio.run(main)


def test_trio_needs_no_asyncio():
    import subprocess

    code = """
import sys, trio
from backstay import RateLimiter
async def main():
    limiter = RateLimiter(1000, burst=1)
    for _ in range(3):
        await limiter.acquire_async()
before = "asyncio" in sys.modules
trio.run(main)
print(before or "asyncio" not in sys.modules)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert out.stdout == "True\n", out.stderr


# CB-7: a nursery that is cancelled raises a group.
def test_a_cancelled_nursery_is_no_failure():
    breaker = CircuitBreaker(max_failures=1)

    async def work():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()

    async def main():
        with trio.move_on_after(0.01):
            await breaker.acall(work)

    trio.run(main)
    assert breaker.failure_count == 0


# PY-14: the coroutine of `acall` may be a task's own.
def test_acall_as_a_task():
    breaker = CircuitBreaker()

    async def answer(value):
        await trio.sleep(0)
        return value

    assert trio.run(breaker.acall, answer, 1) == 1

    async def main():
        started = trio.Event()

        async def wait():
            started.set()
            await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(breaker.acall, wait)
            nursery.start_soon(breaker.acall, answer, 2)
            await started.wait()
            while breaker.stats.successful_calls < 2:
                await trio.sleep(0)
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert breaker.stats.successful_calls == 2 and breaker.stats.ignored_calls == 1


# PY-14
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_acall_on_anyio(backend):
    anyio = pytest.importorskip("anyio")
    breaker = CircuitBreaker()

    async def main():
        started = anyio.Event()

        async def wait():
            started.set()
            await anyio.sleep_forever()

        async with anyio.create_task_group() as group:
            group.start_soon(breaker.acall, wait)
            group.start_soon(breaker.acall, anyio.sleep, 0)
            await started.wait()
            while breaker.stats.successful_calls < 1:
                await anyio.sleep(0)
            group.cancel_scope.cancel()
        with anyio.move_on_after(0.01) as scope:
            await breaker.acall(anyio.sleep_forever)
        assert scope.cancelled_caught

    anyio.run(main, backend=backend)
    anyio.run(breaker.acall, anyio.sleep, 0, backend=backend)
    assert breaker.stats.successful_calls == 2 and breaker.stats.ignored_calls == 2
