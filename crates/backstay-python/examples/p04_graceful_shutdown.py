"""Graceful shutdown: register cleanup callbacks with priorities. Waits for a signal."""

import logging

from backstay import GracefulShutdown

logger = logging.StreamHandler()


def save_state() -> None:
    print("state saved", flush=True)


def close_db() -> None:
    print("database closed", flush=True)


shutdown = GracefulShutdown()

# Lower priority = runs first
shutdown.register("flush_logs", logger.flush, priority=30)
shutdown.register("close_connections", close_db, priority=20)
shutdown.register("save_state", save_state, priority=10)

# Install signal handlers (SIGTERM, SIGINT)
shutdown.install()

print("ready", flush=True)
shutdown.wait()
shutdown.trigger()
print([name for name, _outcome, _seconds in shutdown.report or []])
