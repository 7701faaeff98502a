"""Watchdog callback not called: use the context manager, or call start()."""

import threading
import time

from backstay import Watchdog

called = threading.Event()


def callback() -> None:
    called.set()


# Wrong - watchdog not started
wd = Watchdog(timeout=1, on_timeout=callback)
# ... callback never called
print("not started:", called.wait(1.5))

# Correct - use context manager
with Watchdog(timeout=1, on_timeout=callback) as wd:
    print("context manager:", called.wait(30))

called.clear()
# Or explicitly start
wd = Watchdog(timeout=1, on_timeout=callback)
wd.start()
try:
    print("start:", called.wait(30))
finally:
    wd.stop()
