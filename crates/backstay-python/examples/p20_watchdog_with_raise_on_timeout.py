"""Watchdog with raise on timeout."""

import time

from backstay import watchdog_context, WatchdogTimeoutError


def slow_operation() -> None:
    time.sleep(1.3)


# Raise exception instead of calling callback; the page's timeout is 10.
wd = watchdog_context(timeout=1, raise_on_timeout=True)
try:
    with wd:
        while True:
            wd.ping()
            slow_operation()
except WatchdogTimeoutError as e:
    print(f"Timeout after {e.seconds_inactive:.0f}s of inactivity")
print("running:", wd.is_running)
