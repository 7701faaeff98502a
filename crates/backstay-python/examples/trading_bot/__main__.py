"""A trading bot with full resilience, on an exchange that has a bad day: `python examples/trading_bot`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path

from bot import TradingBot
from client import Client
from screen import Screen

TONES = {"CLOSED": "good", "OPEN": "bad", "HALF_OPEN": "warning"}


def main() -> int:
    options = parsed()
    screen = Screen()
    logging.getLogger("backstay").addHandler(ToScreen(screen))
    logging.getLogger("backstay").setLevel(logging.INFO)
    exchange = None
    url = options.exchange
    if url is None:
        exchange, url = opened(options, screen)
    try:
        bot = TradingBot(Client(url), options.heartbeat, options.seconds, screen)
        screen.began = time.monotonic()
        screen.line(f"Trading at {url}, {options.seconds} s. Ctrl-C ends it in order.")
        screen.line(f"Its heartbeat is {options.heartbeat}, its process {os.getpid()}.\n")
        threading.Thread(target=show, args=(bot,), daemon=True).start()
        threading.Thread(target=terminate, args=(options.seconds, screen), daemon=True).start()
        if exchange is not None:
            threading.Thread(target=moods, args=(exchange, screen), daemon=True).start()
        began = time.monotonic()
        asyncio.run(bot.run())
    finally:
        if exchange is not None and exchange.stdin is not None:
            exchange.stdin.close()
    took = time.monotonic() - began
    screen.still()
    return summary(bot, took, screen)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="trading_bot", description=__doc__)
    heartbeat = Path(tempfile.gettempdir()) / "tradingbot.heartbeat"
    parser.add_argument("--seconds", type=int, default=20, help="how long the day is [%(default)s]")
    parser.add_argument("--seed", type=int, default=7, help="which day it is [%(default)s]")
    parser.add_argument("--exchange", metavar="URL", help="trade at http://HOST:PORT, not at an exchange of one's own")
    parser.add_argument("--heartbeat", type=Path, default=heartbeat, help="where the heartbeat goes [%(default)s]")
    options = parser.parse_args()
    if not 8 <= options.seconds <= 3600:
        parser.error(f"--seconds {options.seconds} is not a number from 8 to 3600")
    return options


def opened(options: argparse.Namespace, screen: Screen) -> tuple[subprocess.Popen[str], str]:
    """The exchange of the Rust example, in a process of its own, and where it is."""
    screen.line("Opening the exchange; the first time it is built, which takes some minutes ...")
    here = Path(__file__).parent
    example = ["--release", "--package", "backstay", "--example", "trading_bot"]
    # Not quiet: it shows how far it is. Ctrl-C ends it with us.
    if code := subprocess.run(["cargo", "build", *example], cwd=here).returncode:
        sys.exit(code)
    cargo = ["cargo", "run", "--quiet", *example, "--"]
    day = ["--exchange-only", f"--seconds={options.seconds}", f"--seed={options.seed}"]
    exchange = subprocess.Popen(
        cargo + day,
        cwd=here,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the bot; it closes the exchange when it has closed its positions.
    )
    assert exchange.stdout is not None
    url = exchange.stdout.readline().strip()
    if not url:
        sys.exit("the exchange did not open")
    return exchange, url


def moods(exchange: subprocess.Popen[str], screen: Screen) -> None:
    """Says how the exchange does."""
    for mood in exchange.stdout or ():
        screen.event("good" if "well" in mood else "warning", "exchange", mood.strip())


def terminate(seconds: float, screen: Screen) -> None:
    """Sends this process what an operator or an orchestrator would send."""
    time.sleep(seconds)
    screen.event("strong", "operator", "sends SIGTERM")
    os.kill(os.getpid(), signal.SIGTERM)


def show(bot: TradingBot) -> None:
    """Keeps the live line alive, from another thread than the loop that it shows: a frozen loop is shown as well."""
    past: deque[int] = deque(maxlen=11)
    while bot.heartbeat.is_running or not bot.shutdown.is_shutting_down:
        calls, tokens, state = bot.exchange_cb.stats, bot.limiter.stats, bot.exchange_cb.state.name
        past.append(calls.successful_calls)
        frozen = f"FROZEN {bot.watchdog.seconds_since_ping:.1f} s" if bot.watchdog.is_triggered else ""
        bot.screen.live(
            [
                ("", "bot "),
                ("bad", frozen) if frozen else ("good", "awake"),
                ("", " | breaker "),
                (TONES[state], state.lower()),
                ("", f" {past[-1] - past[0]}/s"),
                ("faint", f", {calls.failed_calls} failed, {calls.rejected_calls} refused"),
                ("", f" | limiter {bot.limiter.tokens:.1f} tokens"),
                ("faint", f", {tokens.total_rejected} refused"),
                ("", f" | heart #{bot.beats}"),
            ]
        )
        time.sleep(0.1)


def summary(bot: TradingBot, took: float, screen: Screen) -> int:
    """The day in numbers; 0 when it ended as it should."""
    calls, tokens, pings = bot.exchange_cb.stats, bot.limiter.stats, bot.watchdog.stats
    rows = [
        ("bot", "traded for", f"{took:.2f} s"),
        ("", "orders placed", bot.orders),
        ("", "chances missed for want of a token", bot.missed),
        ("", "positions left open", len(bot.positions)),
        ("breaker", "calls", calls.total_calls),
        ("", "successful", calls.successful_calls),
        ("", "failed", calls.failed_calls),
        ("", "refused while open", calls.rejected_calls),
        ("", "our own mistakes", calls.ignored_calls),
        ("", "changes of state", calls.state_changes),
        ("limiter", "granted", tokens.total_acquired),
        ("", "refused", tokens.total_rejected),
        ("", "waited in all", f"{tokens.total_waited:.2f} s"),
        ("watchdog", "pings", pings.pings_total),
        ("", "freezes", pings.timeouts_triggered),
    ]
    screen.line("\nSummary")
    for group, name, value in rows:
        screen.line(f"  {group:<8}  {name:<34}  {value!s:>8}")
    report = bot.shutdown.report or []
    screen.line("")
    for name, outcome, seconds in report:
        screen.line(f"  {name:<12} {outcome}, {seconds:.2f} s")
    return 0 if report and all(outcome == "completed" for _, outcome, _ in report) else 1


class ToScreen(logging.Handler):
    """Shows what the package logs of the breaker."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self.screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        fields = getattr(record, "backstay", {})
        if "breaker" in fields and "to" in fields:
            tone = {"closed": "good", "open": "bad"}.get(fields["to"], "warning")
            self.screen.event(tone, "breaker", f"{fields['from']} -> {fields['to']}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # Before the bot began.
        sys.exit(130)
