"""Shutdown callbacks not running: call install() before the main loop. Waits for a signal."""

import time

from backstay import GracefulShutdown


def cleanup_fn() -> None:
    print("cleaned up", flush=True)


shutdown = GracefulShutdown()
shutdown.register("cleanup", cleanup_fn)
shutdown.install()  # Must call this!

# Main loop here...
print("ready", flush=True)
while not shutdown.is_shutting_down:
    time.sleep(0.01)
shutdown.trigger()
print("end")
