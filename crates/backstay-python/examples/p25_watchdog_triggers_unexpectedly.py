"""Watchdog triggers unexpectedly: ping before each potentially slow operation."""

import time

from backstay import Watchdog

large_dataset = range(3)


def slow_process(item: int) -> None:
    time.sleep(0.6)


# Three times 0.6 s is more than the timeout, each alone is not.
with Watchdog(timeout=1) as wd:
    for item in large_dataset:
        wd.ping()  # Reset timer before processing
        slow_process(item)  # May take 5+ seconds
print("timeouts:", wd.stats.timeouts_triggered)
