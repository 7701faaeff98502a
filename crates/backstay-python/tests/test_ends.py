"""Callbacks of a shutdown while the program, or its event loop, ends."""

import asyncio
import signal
import sys
import threading

import pytest
from test_processes import run

from backstay import GracefulShutdown

HEAD = """
import asyncio, concurrent.futures, os, signal, threading, time
from backstay import GracefulShutdown

shutdown = GracefulShutdown()

def end_during(callback):
    # The main thread ends while the callback waits for that.
    shutdown.register("callback", callback)
    shutdown.install()
    os.kill(os.getpid(), signal.SIGTERM)
    shutdown.wait()
"""
STARTS_NONE = (3, 12) <= sys.version_info < (3, 12, 3)


# PY-13
@pytest.mark.skipif(STARTS_NONE, reason="CPython 3.12.0 to 3.12.2 start no thread once the main thread has ended")
@pytest.mark.parametrize(
    "work",
    [
        "print(list(pool.map(str, [1, 2])))",
        "print(concurrent.futures.ThreadPoolExecutor(1).submit(str, [1, 2]).result())",
        "thread = threading.Thread(target=print, args=([1, 2],)); thread.start(); thread.join()",
        "print(asyncio.run(asyncio.to_thread(str, [1, 2])))",
        "print(asyncio.run(asyncio.to_thread(str, [1, 2])) if asyncio.run(resolve()) else None)",
    ],
)
def test_a_callback_uses_threads_after_the_main_thread(work):
    code, out, err = run(
        HEAD
        + f"""
pool = concurrent.futures.ThreadPoolExecutor(1)
async def resolve():
    return await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80)
def callback():
    while not threading._SHUTTING_DOWN:
        time.sleep(0.001)
    {work}
end_during(callback)
"""
    )
    assert code == 0 and out.replace("'", "") == "[1, 2]\n", (code, out, err)


# PY-13: also where what the callback uses was imported, and has its hook for the end of the program, after `install`.
@pytest.mark.skipif(STARTS_NONE, reason="CPython 3.12.0 to 3.12.2 start no thread once the main thread has ended")
def test_a_callback_uses_what_was_imported_late():
    code, out, err = run(
        """
        import os, signal, threading, time
        from backstay import GracefulShutdown

        shutdown = GracefulShutdown()
        def callback():
            while not threading._SHUTTING_DOWN:
                time.sleep(0.001)
            time.sleep(0.2)  # What is not kept waiting comes meanwhile.
            print("ended" if over else "there")
        shutdown.register("callback", callback)
        shutdown.install()
        over = []
        threading._register_atexit(over.append, 1)
        os.kill(os.getpid(), signal.SIGTERM)
        shutdown.wait()
        """
    )
    assert (code, out) == (0, "there\n"), (code, out, err)


# GS-9: the callback is on the loop when the main coroutine returns, and awaits there to its end.
def test_the_end_of_a_loop_waits_for_what_is_on_it():
    begun, ended = asyncio.Event(), []
    shutdown = GracefulShutdown()

    async def close():
        begun.set()
        for _ in range(1000):  # More turns than the end of a loop takes.
            await asyncio.sleep(0)
        await asyncio.wait_for(asyncio.sleep(0), 60)
        ended.append(asyncio.get_running_loop())

    async def main():
        shutdown.register("close", close)
        threading.Thread(target=shutdown.trigger).start()
        await begun.wait()
        return asyncio.get_running_loop()

    loop = asyncio.run(main())
    shutdown.trigger()
    assert ended == [loop] and [outcome for _, outcome, _ in shutdown.report] == ["completed"]


# GS-9: the end of a loop waits no longer than the shutdown: a callback whose time is up is cancelled with the rest.
def test_a_callback_that_hangs_does_not_keep_its_loop():
    cancelled, begun = [], threading.Event()
    shutdown = GracefulShutdown()

    async def hangs():
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    async def main():
        shutdown.register("hangs", hangs, timeout=0.2)
        threading.Thread(target=shutdown.trigger).start()
        await asyncio.get_running_loop().run_in_executor(None, begun.wait, 60)

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive() and cancelled == [1]
    assert [outcome for _, outcome, _ in shutdown.report] == ["timed out"]


# GS-9: a loop that is stopped for a moment, as `asyncio.run` does before it closes it, has not ended.
def test_a_loop_may_stop_for_a_moment():
    asked, main_thread = threading.Semaphore(0), threading.current_thread()

    class Loop(asyncio.SelectorEventLoop):
        def is_running(self):
            is_running = super().is_running()
            if not is_running and threading.current_thread() is not main_thread:
                asked.release()
            return is_running

    loop, begun, go = Loop(), asyncio.Event(), asyncio.Event()
    shutdown = GracefulShutdown()

    async def close():
        begun.set()
        await go.wait()

    async def note():
        shutdown.register("close", close)
        threading.Thread(target=shutdown.trigger).start()
        await begun.wait()

    loop.run_until_complete(note())
    for _ in range(3):  # Twice each time that the callback's thread looks.
        assert asked.acquire(timeout=60)
    go.set()
    loop.run_until_complete(shutdown.atrigger())
    loop.close()
    assert [outcome for _, outcome, _ in shutdown.report] == ["completed"]


# GS-6, GS-9: a callback that waits for the thread of a loop is not waited for by that loop.
def test_a_callback_joins_the_thread_of_a_loop():
    shutdown, noted = GracefulShutdown(), threading.Event()

    async def main():
        asyncio.get_running_loop().call_soon(noted.set)
        await shutdown.await_shutdown()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert noted.wait(60)
    shutdown.register("join", thread.join)
    shutdown.trigger()
    assert [outcome for _, outcome, _ in shutdown.report] == ["completed"]


# GS-7: leaving the block runs the callbacks where nothing has begun, also when an exception leaves it.
@pytest.mark.parametrize("raises", [False, True])
def test_leaving_the_block_runs_the_callbacks(raises):
    before = signal.getsignal(signal.SIGUSR1)

    def leave(shutdown):
        with shutdown:
            assert shutdown.is_installed and not ran
            if raises:
                raise KeyError

    async def leave_async(shutdown):
        async with shutdown:
            assert shutdown.is_installed and not ran
            if raises:
                raise KeyError

    for left in (leave, lambda shutdown: asyncio.run(leave_async(shutdown))):
        ran = []

        async def close():
            ran.append(shutdown.is_installed)

        shutdown = GracefulShutdown(signals=(signal.SIGUSR1,))
        shutdown.register("close", close)
        try:
            left(shutdown)
        except KeyError:
            assert raises
        assert ran == [True] and shutdown.is_shutting_down and not shutdown.is_installed
        assert signal.getsignal(signal.SIGUSR1) == before
        with shutdown:
            pass
        assert ran == [True]
