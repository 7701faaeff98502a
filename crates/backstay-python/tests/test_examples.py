"""Each code block of the page, run as a script, does what the page says of it (PY-1)."""

import os
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
PAGE_CONFIGURATION = """
resilience:
  circuit_breaker:
    max_failures: 5
    reset_timeout: 60
    half_open_max_calls: 3
  rate_limiter:
    default_rate: 10
    default_per: 1.0
  shutdown:
    default_timeout: 30
  heartbeat:
    interval: 10
  watchdog:
    timeout: 30
"""


@pytest.fixture
def command(tmp_path):
    """How to start an example: in a folder of its own, which is the temporary one, too."""

    def start(name):
        environment = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
        options = {"cwd": tmp_path, "env": environment, "text": True}
        return [sys.executable, str(EXAMPLES / f"{name}.py")], options

    return start


@pytest.fixture
def run(command):
    def run(name):
        arguments, options = command(name)
        done = subprocess.run(arguments, capture_output=True, timeout=120, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


# What each prints; what the page promises of it is in these words.
PRINTED = {
    "p01_tldr": "failed: BTC/USDT\n" * 3
    + "fallback: cached\napi called\nlimited for True\nalive: True pings: 1\ndatabase closed\n",
    "p02_circuit_breaker": "failed: BTC/USDT\n" * 3 + "open: cached after 3 calls, OPEN\n",
    "p03_rate_limiter": "10 at once, 1 refused, retry within 0.1 s: True\n",
    "p05_heartbeat": "version 1.0.0 mine: True fresh: True\n",
    "p06_watchdog": "Worker thread appears frozen!\npings: 3 timeouts: 1\n",
    "p10_async_circuit_breaker": "{'symbol': 'BTC/USDT'}\nfailed\nfailed\nopen\n",
    "p11_rate_limiter_decorator": "100 at once\n10 at once\nRate limited, retry after 0.10s\n",
    "p12_rate_limiter_with_timeout": "waited for the sixth: True\nTimeout! Retry after 60s, told at once: True\n",
    "p13_async_rate_limiter": "13 calls, the last three waited: True\n",
    "p14_circuit_breaker_decorator": "failed\n" * 3 + "open\n" * 2 + "3 calls of call_external_api\n",
    "p15_excluded_exceptions": "CLOSED after 10 ValueErrors\nOPEN after 3 ZeroDivisionErrors\n",
    "p17_async_graceful_shutdown": "database closed\ncache flushed\non the loop: True\n",
    "p18_watchdog_for_worker_threads": "Worker thread appears frozen - consider restart\ntold: True\n",
    "p19_async_watchdog": "pings: 5 timeouts: 0\n",
    "p20_watchdog_with_raise_on_timeout": "Timeout after 1s of inactivity\nrunning: False\n",
    "p21_circuit_stays_open_too_long": "open\n1 CLOSED\n",
    "p23_heartbeat_file_not_created": "created: True\ntold why: True\n",
    "p24_async_context": "1\n1\nTrue\n2 True\n",
    "p25_watchdog_triggers_unexpectedly": "timeouts: 0\n",
    "p26_watchdog_callback_not_called": "not started: False\ncontext manager: True\nstart: True\n",
    "p27_rate_limit_always_exceeded": "rate: True\nblocking: True\nburst: 50\n",
    "p28_rate_limiter_not_throttling": "20 at once: True\nthrottled: True\n",
}


@pytest.mark.parametrize("name", PRINTED)
def test_prints(run, name):
    assert run(name) == PRINTED[name]


def test_none_is_left_out():
    apart = {"p04", "p07", "p08", "p09", "p16", "p22"}
    names = {path.stem for path in EXAMPLES.glob("p[0-9]*.py")}
    assert names == set(PRINTED) | {name for name in names if name[:3] in apart} and len(names) == 28


# GS-1, GS-4: lower priority first, on either signal.
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_p04_graceful_shutdown(command, number):
    out = signalled(command("p04_graceful_shutdown"), number)
    assert out == "state saved\ndatabase closed\n['save_state', 'close_connections', 'flush_logs']\n"


def test_p22_shutdown_callbacks_not_running(command):
    assert signalled(command("p22_shutdown_callbacks_not_running"), signal.SIGTERM) == "cleaned up\nend\n"


# CF-1: the keys of the page are read, and what is given wins.
def test_p07_configuration(run, tmp_path):
    (tmp_path / "kstlib.conf.yml").write_text(PAGE_CONFIGURATION)
    page = "max_failures 5\nrate 10.0 per 1.0\nshutdown 30.0\nheartbeat 10.0\nwatchdog 30.0\n"
    assert run("p07_configuration") == page
    other = PAGE_CONFIGURATION
    for line in ("max_failures: 7", "default_rate: 3", "default_per: 2.5", "default_timeout: 40", "interval: 20"):
        key = line.split(":")[0]
        other = "\n".join(f"    {line}" if row.strip().startswith(key + ":") else row for row in other.split("\n"))
    (tmp_path / "kstlib.conf.yml").write_text(other.replace("    timeout: 30", "    timeout: 60"))
    changed = "max_failures 7\nrate 3.0 per 2.5\nshutdown 40.0\nheartbeat 20.0\nwatchdog 60.0\n"
    assert run("p07_configuration") == changed


def test_p08_per_instance_overrides(run, tmp_path):
    (tmp_path / "kstlib.conf.yml").write_text(PAGE_CONFIGURATION)
    out = run("p08_per_instance_overrides")
    assert out.startswith("3 failures;") and "payment-api" in out and out.endswith("within 10 s: True\n")


# GS-4, HB-6: the order of the end, also when triggered from within the loop.
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_p09_trading_bot(command, number):
    out = signalled(command("p09_trading_bot"), number, ready="trading\n")
    end = out.replace("trading\n", "")
    assert end == "positions closed\nconnections closed; beating: True\nbeating: False\n"


def test_p16_multi_process_heartbeat(run, tmp_path):
    def beat(service, age):
        timestamp = (datetime.now(tz=timezone.utc) - timedelta(seconds=age)).isoformat()
        state = f'{{"timestamp": "{timestamp}", "pid": 1, "hostname": "here", "metadata": {{}}}}'
        (tmp_path / f"{service}.heartbeat").write_text(state)

    beat("api-server", 0)
    beat("worker-1", 3600)
    assert run("p16_multi_process_heartbeat") == "api-server: ALIVE\nworker-1: DEAD\nworker-2: UNKNOWN\n"


def signalled(command, number, ready="ready\n"):
    """What it prints after it is ready and the signal has come."""
    arguments, options = command
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, **options)
    assert process.stdout.readline() == ready
    time.sleep(0.1)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return out
