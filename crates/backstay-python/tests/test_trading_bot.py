"""The trading bot in Python, against the exchange of the Rust example: real HTTP, files and signals."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from backstay import Heartbeat

CRATE = Path(__file__).parent.parent
CARGO = ["cargo", "run", "--quiet", "--package", "backstay", "--all-features", "--example", "trading_bot", "--"]
DAY = 12


@pytest.fixture
def exchange():
    options = ["--exchange-only", f"--seconds={DAY}"]
    process = subprocess.Popen(
        CARGO + options, cwd=CRATE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process.stdout.readline().strip(), process
    process.stdin.close()
    process.stdout.close()
    process.wait(30)


def bot(url, heartbeat):
    script = [sys.executable, CRATE / "examples" / "trading_bot", "--exchange", url]
    return subprocess.Popen(
        [*script, f"--seconds={DAY}", "--heartbeat", heartbeat], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def in_order(text, *parts):
    pattern = ".*".join(re.escape(part) for part in parts)
    assert re.search(pattern, text, re.DOTALL), (parts, text)


# CB-1, CB-3, CB-4, GS-1, GS-4, HB-8, WD-6, WD-9
def test_the_bot_survives_its_bad_day(exchange, tmp_path):
    url, process = exchange
    heartbeat = tmp_path / "bot.heartbeat"
    child = bot(url, heartbeat)
    out, _ = child.communicate(timeout=120)
    assert child.returncode == 0, out
    in_order(out, "429, Retry-After: 1", "closed -> open", "open -> half-open", "half-open -> open", "half-open -> closed")
    in_order(out, "blocks its own loop", "trading-loop froze for", "time.sleep(2)", "goes on")
    in_order(out, "sends SIGTERM", "positions closed", "connections closed", "heartbeat stopped", "Summary")
    assert "says degraded" in out and "\x1b" not in out
    numbers = dict(re.findall(r"([a-z][a-z ]+?) {2,}(\d+)$", out, re.MULTILINE))
    assert int(numbers["orders placed"]) > 0 and int(numbers["refused while open"]) > 0
    assert numbers["positions left open"] == "0" and int(numbers["freezes"]) > 0
    assert json.loads(heartbeat.read_text())["status"] == "stopped" and not Heartbeat.is_alive(heartbeat)
    process.stdin.close()
    assert "0 left open" in process.stdout.read()


def test_ctrl_c_ends_it_in_order(exchange, tmp_path):
    child = bot(exchange[0], tmp_path / "beat")
    # The second one comes a second later: the signals are taken.
    awake = 0
    while awake < 2:
        awake += "awake" in child.stdout.readline()
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 0, out
    in_order(out, "shutdown began", "Summary")
    in_order(out, "positions closed", "connections closed", "heartbeat stopped")
