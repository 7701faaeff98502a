import asyncio
import logging
import os
import subprocess
import sys
import threading
import time

import pytest

from backstay import Heartbeat, Watchdog, WatchdogTimeoutError, watchdog_context


# WD-3, WD-6
def test_a_freeze_is_told_with_the_stack_of_who_froze(caplog):
    fired, alerts = threading.Event(), []

    def sleeps_too_long():
        assert fired.wait(30)

    with Watchdog(timeout=1, on_timeout=fired.set, on_alert=lambda *alert: alerts.append(alert), name="worker") as wd:
        wd.ping()
        with caplog.at_level(logging.ERROR, "backstay"):
            sleeps_too_long()
            while not alerts or not (said := [text for text in caplog.messages if "'worker'" in text or '"worker"' in text]):
                time.sleep(0.001)
        assert wd.is_triggered and wd.is_dead and wd.stats.timeouts_triggered == 1
        wd.ping()
        assert not wd.is_triggered
    channel, message, context = alerts[0]
    assert channel == "watchdog" and "worker" in message and context["seconds_inactive"] >= 1
    assert "sleeps_too_long" in context["stack"]
    assert "sleeps_too_long" in said[0]


# WD-5
def test_raise_on_timeout_raises_once():
    wd = watchdog_context(timeout=1, raise_on_timeout=True)
    with pytest.raises(WatchdogTimeoutError) as caught, wd:
        while not wd.is_triggered:
            time.sleep(0.001)
        wd.ping()
    assert caught.value.seconds_inactive >= 1 and not wd.is_running
    with pytest.raises(WatchdogTimeoutError), watchdog_context(timeout=1, raise_on_timeout=True) as wd:
        while not wd.is_triggered:
            time.sleep(0.001)


# WD-9
async def test_a_frozen_loop_is_told_while_it_is_frozen():
    told = threading.Event()

    async def on_timeout():
        told.set()

    async with Watchdog(timeout=1, on_timeout=on_timeout) as wd:
        await wd.aping()
        assert told.wait(30)  # freezes the loop


# WD-1
def test_starting_and_stopping():
    wd = Watchdog(timeout=5, name="x")
    assert repr(wd) == "Watchdog(timeout=5, status=stopped, name='x')" and wd.stats.start_time is None
    wd.stop()
    wd.start()
    assert wd.is_running and wd.stats.uptime >= 0 and abs(wd.stats.start_time - time.monotonic()) < 60
    with pytest.raises(RuntimeError, match="already running"):
        wd.start()
    asyncio.run(wd.astop())
    assert not wd.is_running and not wd.is_shutdown
    wd.shutdown()
    assert wd.is_shutdown
    assert Watchdog(timeout=0).timeout == 1 and Watchdog(timeout=1e9).timeout == 3600
    with pytest.raises(ValueError, match="timeout"):
        Watchdog(timeout=float("nan"))
    with pytest.raises(TypeError, match="on_timeout"):
        Watchdog(on_timeout=3)


# WD-8
def test_a_heartbeat_file_is_watched(tmp_path):
    fired = threading.Event()
    file = tmp_path / "missing"
    with Watchdog.from_state_file(file, max_age=1, on_timeout=fired.set) as wd:
        assert fired.wait(30)
    assert wd.name == f"state_file_watcher:{file}" and wd.state_file == file


# ALL-1
def test_a_callback_may_raise_anything_or_stop_its_watchdog(caplog):
    done = threading.Event()

    def on_timeout():
        wd.stop()
        done.set()
        raise SystemExit(3)

    wd = Watchdog(timeout=1, on_timeout=on_timeout)
    wd.start()
    assert done.wait(30)
    while not any("on_timeout raised" in record.getMessage() for record in caplog.records):
        time.sleep(0.001)


# HB-8
def test_a_heartbeat_follows_a_watchdog(tmp_path):
    wd = Watchdog(timeout=1)
    dead = threading.Event()
    heartbeat = Heartbeat(tmp_path / "beat", interval=1, target=wd, on_target_dead=dead.set)
    with wd, heartbeat:
        assert heartbeat.target is wd and dead.wait(30)


def test_the_garbage_collector_finds_cycles():
    import gc
    import weakref

    class Worker:
        def __init__(self):
            self.watchdog = Watchdog(timeout=5, on_timeout=self.frozen)
            self.heartbeat = Heartbeat(on_beat=self.frozen)

        def frozen(self):
            pass

    worker = weakref.ref(Worker())
    gc.collect()
    assert worker() is None


# CF-1, CF-3, WD-6
def test_everyone_who_asks_gets_the_watchdog_of_that_name():
    code = """
import logging, threading
from backstay import Watchdog
told = threading.Event()
class Told(logging.Handler):
    def emit(self, record):
        print(record.getMessage(), flush=True)
        told.set()
logging.getLogger("backstay").addHandler(Told())
def sleeps_too_long():
    assert told.wait(30)
with Watchdog.named("loop") as watchdog:
    assert Watchdog.named("loop") is watchdog and (watchdog.name, watchdog.timeout) == ("loop", 1)
    sleeps_too_long()
"""
    environment = os.environ | {"BACKSTAY_WATCHDOG__TIMEOUT": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0 and "sleeps_too_long" in done.stdout, done


# WD-5
def test_an_error_that_is_owed_hides_no_other():
    with pytest.raises(KeyError), watchdog_context(timeout=1, raise_on_timeout=True) as wd:
        while not wd.is_triggered:
            time.sleep(0.001)
        raise KeyError
    wd.ping()


# WD-6, PY-10: the main thread of a forked child may still go by the parent's number.
def test_a_forked_child_tells_its_stack():
    code = """
import os, threading
from backstay import Watchdog
def sleeps_too_long():
    assert told.wait(30)
pid = os.fork()
if pid == 0:
    told = threading.Event()
    def on_alert(channel, message, context):
        print("sleeps_too_long" in (context["stack"] or ""), flush=True)
        told.set()
    with Watchdog(timeout=1, on_alert=on_alert):
        sleeps_too_long()
    os._exit(0)
os.waitpid(pid, 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "True\n", done
