"""TL;DR: all five, in one small program."""

import tempfile
import time
from pathlib import Path

from backstay import (
    CircuitBreaker, CircuitOpenError,
    RateLimiter, RateLimitExceededError,
    GracefulShutdown, Heartbeat, Watchdog
)


class Database:
    def close(self) -> None:
        print("database closed")


def fetch_data(symbol: str) -> str:
    raise ConnectionError(symbol)


def cached_fallback() -> str:
    return "cached"


def call_api() -> None:
    print("api called")


def do_work() -> None:
    global running
    running = False


db = Database()
running = True

# Circuit breaker - prevent cascading failures
cb = CircuitBreaker(max_failures=3, reset_timeout=30)
for _ in range(4):
    try:
        result = cb.call(fetch_data, "BTC/USDT")  # calls fetch_data("BTC/USDT")
    except CircuitOpenError:
        result = cached_fallback()  # Circuit open after 3 failures - use fallback
        print("fallback:", result)
    except ConnectionError as error:
        print("failed:", error)

# Rate limiter - control request throughput
limiter = RateLimiter(rate=10, per=1.0)  # 10 requests per second
limiter.acquire()  # Blocks until token available
call_api()
try:
    while True:
        limiter.acquire(timeout=0)
except RateLimitExceededError as refusal:
    print(f"limited for {refusal.retry_after <= 0.1}")

# Graceful shutdown - clean process termination
shutdown = GracefulShutdown()
shutdown.register("database", db.close, priority=10)
shutdown.install()  # Handle SIGTERM/SIGINT

# Heartbeat - process liveness signaling (cross-platform path)
state_file = Path(tempfile.gettempdir()) / "bot.heartbeat"
heartbeat = Heartbeat(state_file=state_file, interval=10)
heartbeat.start()


# Watchdog - detect thread/process freezes
def on_freeze() -> None:
    print("Thread appears frozen!")


with Watchdog(timeout=30, on_timeout=on_freeze) as wd:
    while running:
        wd.ping()  # Reset timer periodically
        do_work()

while not state_file.exists():
    time.sleep(0.01)
print("alive:", Heartbeat.is_alive(state_file), "pings:", wd.stats.pings_total)
heartbeat.stop()
shutdown.trigger()
