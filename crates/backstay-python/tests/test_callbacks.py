"""What callbacks may do, and where they run."""

import asyncio
import gc
import sys
import threading
import time
import weakref

import pytest

from backstay import GracefulShutdown, Heartbeat

# Far below the five seconds, or more, for which one waits that waits for itself.
SOON = 3


# GS-4: a task that ends with SystemExit would take the loop along.
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), BaseException("x")])
def test_an_async_callback_may_raise_anything(error):
    ran = []

    async def raises():
        raise error

    async def cleanup():
        ran.append(1)

    async def main():
        shutdown = GracefulShutdown()
        shutdown.register("raises", raises, priority=1)
        shutdown.register("cleanup", cleanup, priority=2)
        await shutdown.atrigger()
        return shutdown.report

    (_, outcome, _), (_, completed, _) = asyncio.run(main())
    assert ran == [1] and completed == "completed" and "failed" in outcome


# GS-6: from a callback on the loop, too, which is not the thread that waits for it.
async def test_an_async_callback_may_trigger_its_own_shutdown():
    back = []
    shutdown = GracefulShutdown()

    async def triggers():
        await shutdown.atrigger()
        shutdown.trigger()
        async with shutdown:
            pass
        with shutdown:
            pass
        back.append(1)

    shutdown.register("triggers", triggers)
    start = time.monotonic()
    await shutdown.atrigger()
    assert back == [1] and time.monotonic() - start < SOON


# HB-5
async def test_a_heartbeat_stops_while_its_callbacks_need_the_loop(tmp_path):
    called = []

    async def on_beat():
        called.append(asyncio.get_running_loop())

    heartbeat = Heartbeat(tmp_path / "beat", on_beat=on_beat)
    await heartbeat.astart()
    start = time.monotonic()
    heartbeat.stop()
    assert called and time.monotonic() - start < SOON
    other = Heartbeat(tmp_path / "other", on_beat=on_beat)
    await other.astart()
    del other
    gc.collect()
    assert time.monotonic() - start < SOON


# HB-5
@pytest.mark.parametrize("how", ["await heartbeat.astop()", "heartbeat.stop()", "await asyncio.to_thread(heartbeat.stop)"])
async def test_an_async_callback_stops_its_own_heartbeat(tmp_path, how):
    stopped = asyncio.Event()
    space = {"asyncio": asyncio}
    exec(f"async def stop(heartbeat):\n    {how}", space)

    async def on_beat():
        await space["stop"](heartbeat)
        stopped.set()

    heartbeat = Heartbeat(tmp_path / "beat", on_beat=on_beat)
    start = time.monotonic()
    await heartbeat.astart()
    await asyncio.wait_for(stopped.wait(), 30)
    assert time.monotonic() - start < SOON and not heartbeat.is_running


# HB-5: `astop` needs none of the loop's own threads, which may all be busy.
def test_stopping_needs_no_executor(tmp_path):
    async def main():
        from concurrent.futures import ThreadPoolExecutor

        loop, over = asyncio.get_running_loop(), threading.Event()
        loop.set_default_executor(ThreadPoolExecutor(1))
        busy = loop.run_in_executor(None, over.wait)
        async with Heartbeat(tmp_path / "beat") as heartbeat:
            assert heartbeat.is_running
        async with GracefulShutdown() as shutdown:
            await shutdown.atrigger()
        over.set()
        await busy

    asyncio.run(main())


# HB-8
def test_what_is_followed_is_looked_at_first(tmp_path):
    class Method:
        def is_dead(self):
            return False

    class Raises:
        @property
        def is_dead(self):
            raise OSError("not now")

    for wrong in (3, Method(), object()):
        with pytest.raises(TypeError, match="target"):
            Heartbeat(tmp_path / "beat", target=wrong)
    Heartbeat(tmp_path / "beat", target=Raises())

    class Bot:
        is_dead = False

        def __init__(self):
            self.heartbeat = Heartbeat(tmp_path / "beat", target=self)

    bot = weakref.ref(Bot())
    gc.collect()
    assert bot() is None


# ALL-1: threads that run callbacks have as much stack as Python counts on.
def test_a_callback_may_recurse():
    limit = sys.getrecursionlimit()

    def recurses():
        return sorted([2, 1], key=lambda _: recurses())

    shutdown = GracefulShutdown()
    shutdown.register("recurses", recurses)
    try:
        sys.setrecursionlimit(3000)
        shutdown.trigger()
    finally:
        sys.setrecursionlimit(limit)
    assert "RecursionError" in shutdown.report[0][1]


# GS-7
async def test_awaiting_takes_sensible_times_alone():
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError, match="timeout"):
            await GracefulShutdown().await_shutdown(wrong)
