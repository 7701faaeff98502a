"""The page's trading bot: breaker and limiter before every request, a heartbeat for the monitor outside, a watchdog
over its loop, and a shutdown that closes positions first."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from backstay import (
    CircuitBreaker,
    CircuitOpenError,
    GracefulShutdown,
    Heartbeat,
    RateLimiter,
    RateLimitExceededError,
    Watchdog,
)

from client import PATIENCE, Client, ExchangeError, OurMistake, Throttled
from screen import Screen

HURRY = 0.05
"""Seconds that an order may wait for the limiter."""
RHYTHM = 0.09
"""Seconds between two looks at the price."""
DIP = 1 - 0.002
"""A fall of the price by which it is worth buying, five orders at once."""

T = TypeVar("T")


class TradingBot:
    def __init__(self, client: Client, state_file: Path, day: float, screen: Screen) -> None:
        self.client: Client | None = client
        self.screen = screen
        self.freeze_at = day * 0.73
        self.positions: set[int] = set()
        self.trading = asyncio.Lock()
        self.last_price: float | None = None
        self.quiet_until = 0.0
        self.orders = 0
        self.missed = 0
        self.beats = 0

        # Watchdog over the loop: tells of a freeze while it lasts
        self.watchdog = Watchdog(timeout=1, on_alert=self.on_freeze, name="trading-loop")

        # Heartbeat for liveness monitoring; while the loop is frozen it says "degraded"
        self.heartbeat = Heartbeat(
            state_file=state_file,
            interval=1,
            metadata={"version": "1.0.0"},
            target=self.watchdog,
            on_beat=self.on_beat,
            on_target_dead=lambda: screen.event("warning", "heartbeat", "says degraded"),
        )

        # Circuit breaker for exchange API
        self.exchange_cb = CircuitBreaker(
            max_failures=3,
            reset_timeout=max(1, day / 20),
            excluded_exceptions=OurMistake,
            name="exchange-api",
        )
        self.limiter = RateLimiter(rate=10, burst=5, name="exchange-api")

        # Graceful shutdown with priority-ordered callbacks
        self.shutdown = GracefulShutdown(timeout=10)
        self.shutdown.register("positions", self.close_positions, priority=10, timeout=6)  # First: close positions
        self.shutdown.register("connections", self.cleanup, priority=50)  # Then: cleanup
        self.shutdown.register("heartbeat", self.stop_heartbeat, priority=100)  # Last: stop heartbeat

    async def run(self) -> None:
        self.heartbeat.start()
        self.shutdown.install()
        threading.Thread(target=self.announce_end, daemon=True).start()
        began = time.monotonic()
        frozen = False
        try:
            async with self.watchdog:
                while not self.shutdown.is_shutting_down:
                    await self.watchdog.aping()
                    await self.process_trades()
                    if not frozen and time.monotonic() - began >= self.freeze_at:
                        frozen = True
                        self.freeze()
        finally:
            await self.shutdown.atrigger()

    async def process_trades(self) -> None:
        """One turn of the loop: looks at the price, and buys when it has dropped far enough."""
        price = await self.price()
        if price is not None:
            before, self.last_price = self.last_price, price
            if before is not None and price < before * DIP:
                for _ in range(5):
                    await self.buy()
        await asyncio.sleep(RHYTHM)

    async def price(self) -> float | None:
        """Worth waiting for: a price, with some patience for the limiter."""
        try:
            await self.limiter.acquire_async(timeout=PATIENCE)
        except RateLimitExceededError:
            return None
        return await self.ask(lambda client: client.price())

    async def buy(self) -> None:
        """Hardly worth waiting for: soon the chance is gone."""
        try:
            await self.limiter.acquire_async(timeout=HURRY)
        except RateLimitExceededError:
            self.missed += 1
            return
        # Closing waits for an order that is under way.
        async with self.trading:
            if not self.shutdown.is_shutting_down:
                position = await self.ask(lambda client: client.order())
                if position is not None:
                    self.positions.add(position)
                    self.orders += 1

    async def ask(self, request: Callable[[Client], T]) -> T | None:
        """A request through the breaker. What goes wrong is said here, and is `None`."""
        if self.client is None or time.monotonic() < self.quiet_until:
            return None
        try:
            return await self.exchange_cb.acall(asyncio.to_thread, request, self.client)
        except CircuitOpenError:
            pass  # The breaker has said so.
        except (ExchangeError, OurMistake) as error:
            if isinstance(error, Throttled):
                self.quiet_until = time.monotonic() + error.pause
            self.screen.event("warning", "request", f"failed: {error}")
        return None

    async def close_positions(self) -> None:
        """Close all open trading positions: each is tried until the callback's time is over, breaker or not."""
        async with self.trading:
            client, total = self.client, len(self.positions)
            while client and self.positions:
                position = next(iter(self.positions))
                try:
                    await asyncio.to_thread(client.close, position)
                    self.positions.discard(position)
                except Throttled as error:
                    await asyncio.sleep(error.pause)
                except (ExchangeError, OurMistake):
                    await asyncio.sleep(RHYTHM)
        self.screen.event("", "shutdown", f"positions closed: {total}")

    def cleanup(self) -> None:
        """Close API connections."""
        self.client = None
        self.screen.event("", "shutdown", "connections closed")

    def stop_heartbeat(self) -> None:
        self.heartbeat.stop()
        self.screen.event("", "shutdown", "heartbeat stopped")

    def announce_end(self) -> None:
        """In the moment in which the shutdown begins, says so; in the heartbeat as well."""
        self.shutdown.wait()
        self.heartbeat.set_status("stopping")
        self.screen.event("strong", "shutdown", "shutdown began; Ctrl-C again ends at once")

    def freeze(self) -> None:
        """What must not happen in a task, and does: something blocks."""
        self.screen.event("faint", "bot", "blocks its own loop, on purpose")
        time.sleep(2)
        self.screen.event("good", "bot", "goes on")

    def on_freeze(self, channel: str, message: str, context: Mapping[str, Any]) -> None:
        """Called while the loop stands still, with what it stands at."""
        *_, where, line = (context["stack"] or "?\n?").strip().splitlines()
        seconds = context["seconds_inactive"]
        self.screen.event("bad", channel, f"{context['name']} froze for {seconds:.2f} s at: {line.strip()}")
        self.screen.event("faint", channel, where.strip())

    def on_beat(self) -> None:
        self.beats += 1
