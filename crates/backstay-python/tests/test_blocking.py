"""A wait that blocks an event loop is logged."""

import asyncio
import contextlib
import logging
import threading
import time

import pytest

from backstay import GracefulShutdown, RateLimiter, rate_limiter

HOUR = 3600.0


def warnings(caplog, word):
    return [record.getMessage() for record in caplog.records if word in record.getMessage()]


def emptied(name):
    limiter = RateLimiter(1, HOUR, burst=1, name=name)
    assert limiter.try_acquire()
    return limiter


@contextlib.contextmanager
def served(limiter):
    """Serves the one wait in the block, once it has begun."""

    def serve():
        while limiter.time_until_token() <= HOUR:
            time.sleep(0.001)
        limiter.reset()

    thread = threading.Thread(target=serve)
    thread.start()
    yield
    thread.join()


# PY-7: once for each limiter, and the words name what to write instead.
@pytest.mark.parametrize("wait", [RateLimiter.acquire, RateLimiter.__enter__], ids=["acquire", "with"])
async def test_a_wait_in_a_task_is_logged_once(wait, caplog):
    limiter = emptied("in-a-task")
    for _ in range(3):
        with served(limiter):
            wait(limiter)
    (message,) = warnings(caplog, "in-a-task")
    assert "blocks the event loop" in message and "await limiter.acquire_async()" in message
    assert caplog.records[-1].levelno == logging.WARNING
    other = emptied("another")
    with served(other):
        wait(other)
    assert len(warnings(caplog, "another")) == 1


async def test_a_decorated_plain_function_in_a_task_is_logged(caplog):
    @rate_limiter(rate=1, per=HOUR, burst=1, name="decorated")
    def limited():
        return 1

    assert limited() == 1
    for _ in range(2):
        with served(limited._rate_limiter):
            assert limited() == 1
    (message,) = warnings(caplog, "decorated")
    assert "async def" in message


async def test_what_blocks_no_loop_is_not_logged(caplog):
    limiter = emptied("quiet")
    with served(limiter):
        await limiter.acquire_async()
    with served(limiter):
        async with limiter:
            pass
    with served(limiter):
        await asyncio.to_thread(limiter.acquire)
    assert limiter.acquire(blocking=False) is False
    limiter.reset()
    limiter.acquire()
    assert not warnings(caplog, "quiet")


def test_a_wait_in_a_thread_is_not_logged(caplog):
    limiter = emptied("threads")
    with served(limiter):
        limiter.acquire()
    with served(limiter):
        thread = threading.Thread(target=limiter.acquire)
        thread.start()
        thread.join()
    assert not warnings(caplog, "threads")


async def test_waiting_for_a_shutdown_in_a_task_is_logged_once(caplog):
    shutdown = GracefulShutdown()
    assert shutdown.wait(timeout=0) is False
    assert not warnings(caplog, "await_shutdown")
    for _ in range(2):
        assert shutdown.wait(timeout=0.001) is False
    assert len(warnings(caplog, "await shutdown.await_shutdown()")) == 1
    await shutdown.atrigger()
    assert GracefulShutdown.wait(shutdown, timeout=1) is True


def test_trio_is_a_loop_as_well(caplog):
    trio = pytest.importorskip("trio")
    limiter = emptied("in-trio")

    async def main():
        with served(limiter):
            limiter.acquire()

    trio.run(main)
    assert len(warnings(caplog, "in-trio")) == 1
