"""Watchdog for worker threads."""

import threading
import time

from backstay import Watchdog

frozen = threading.Event()
items = iter([0.0, 3600.0])


def process_next_item() -> None:
    time.sleep(next(items))


def on_worker_frozen() -> None:
    print("Worker thread appears frozen - consider restart")
    frozen.set()


def worker() -> None:
    # The page's timeout is 60; here it is one second, so that there is something to see.
    with Watchdog(timeout=1, on_timeout=on_worker_frozen, name="worker") as wd:
        while True:
            wd.ping()  # Must call before each long operation
            process_next_item()


thread = threading.Thread(target=worker, daemon=True)
thread.start()
print("told:", frozen.wait(30))
