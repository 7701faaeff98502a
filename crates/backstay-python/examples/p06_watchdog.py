"""Watchdog: detect thread/process freezes and hangs."""

import time

from backstay import Watchdog

work_queue = [0.0, 1.5, 0.0]


def process(item: float) -> None:
    time.sleep(item)


def on_freeze() -> None:
    print("Worker thread appears frozen!", flush=True)


# Start monitoring with 30-second timeout; here with one second, so that there is something to see.
with Watchdog(timeout=1, on_timeout=on_freeze) as wd:
    for item in work_queue:
        wd.ping()  # Reset timer before each work unit
        process(item)
print("pings:", wd.stats.pings_total, "timeouts:", wd.stats.timeouts_triggered)
