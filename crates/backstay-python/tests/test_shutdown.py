import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest

from backstay import GracefulShutdown, ShutdownError


# GS-1, GS-4, GS-8
def test_turns_follow_priority_and_all_come():
    order = []
    shutdown = GracefulShutdown()
    shutdown.register("last", lambda: order.append("last"), priority=100)
    shutdown.register("exits", lambda: sys.exit(3), priority=20)
    shutdown.register("first", lambda: order.append("first"), priority=10)
    shutdown.register("gone", lambda: order.append("gone"))
    with pytest.raises(ShutdownError, match="first"):
        shutdown.register("first", print)
    assert shutdown.unregister("gone") is True and shutdown.unregister("gone") is False
    assert not shutdown.is_shutting_down
    shutdown.trigger()
    shutdown.trigger()
    assert order == ["first", "last"] and shutdown.is_shutting_down and shutdown.wait(0)
    assert "SystemExit" in dict((name, outcome) for name, outcome, _ in shutdown.report)["exits"]
    with pytest.raises(ShutdownError):
        shutdown.register("late", print)
    with pytest.raises(TypeError, match="callback"):
        GracefulShutdown().register("x", 3)


# GS-9
async def test_async_callbacks_run_on_the_loop():
    loop, ran = asyncio.get_running_loop(), []

    async def cleanup():
        await asyncio.sleep(0)
        ran.append(asyncio.get_running_loop())

    shutdown = GracefulShutdown()
    shutdown.register("cleanup", cleanup, priority=10)
    await shutdown.atrigger()
    assert ran == [loop] and await shutdown.await_shutdown(0.1)


# GS-9: the page's bot triggers from within its loop.
async def test_triggered_while_the_loop_is_blocked():
    ran = []

    async def cleanup():
        ran.append(1)

    shutdown = GracefulShutdown(timeout=30)
    shutdown.register("cleanup", cleanup)
    shutdown.trigger()
    assert ran == [1]
    assert await GracefulShutdown().await_shutdown(0.01) is False


CHILD = """
import os, signal, sys, time
from backstay import GracefulShutdown
shutdown = GracefulShutdown()
shutdown.register("one", lambda: print("one", flush=True), priority=1)
shutdown.register("two", lambda: {body}, priority=2)
shutdown.install()
print("ready", flush=True)
shutdown.wait()
shutdown.trigger()
print("end", flush=True)
"""


def child(body):
    code = CHILD.format(body=body)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


# GS-2, GS-3, PY-11
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_shuts_down_in_order(number):
    process = child("print('two', flush=True)")
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert out == "one\ntwo\nend\n" and process.returncode == 0


# GS-5
def test_a_second_signal_exits_at_once():
    process = child("time.sleep(60)")
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "one\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM


# PY-11
def test_handlers_of_others_keep_their_turn():
    heard = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    shutdown = GracefulShutdown(signals=(signal.SIGUSR1,))
    try:
        with shutdown:
            assert shutdown.is_installed
            os.kill(os.getpid(), signal.SIGUSR1)
            assert shutdown.wait(30)
        assert heard == [signal.SIGUSR1] and not shutdown.is_installed
        assert signal.getsignal(signal.SIGUSR1) is not shutdown._handle
    finally:
        signal.signal(signal.SIGUSR1, before)
    refused = []

    def elsewhere():
        try:
            GracefulShutdown().install()
        except ShutdownError as error:
            refused.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert refused
    with pytest.raises(ShutdownError, match="SIGKILL"):
        GracefulShutdown(signals=(signal.SIGKILL,)).install()


# PY-10
def test_nothing_is_installed_in_a_forked_child():
    shutdown = GracefulShutdown(signals=(signal.SIGUSR1,))
    with shutdown:
        pid = os.fork()
        if pid == 0:
            os._exit(1 if shutdown.is_installed else 0)
        assert os.waitpid(pid, 0)[1] == 0


# GS-7
def test_readiness_goes_off_before_the_first_callback():
    ran = threading.Event()
    shutdown = GracefulShutdown(drain_delay=0.3)
    shutdown.register("callback", ran.set)
    thread = threading.Thread(target=shutdown.trigger)
    thread.start()
    assert shutdown.wait(30) and shutdown.is_shutting_down and not ran.is_set()
    thread.join(30)
    assert ran.is_set()
    for wrong in (-1, float("nan"), float("inf"), 1e9):
        with pytest.raises(ValueError, match="drain_delay"):
            GracefulShutdown(drain_delay=wrong)
