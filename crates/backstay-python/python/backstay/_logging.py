"""Where the native module's words arrive."""

from __future__ import annotations

_DEBUG = 10


def listens_to_debug() -> bool:
    """Whether somebody wants to know everything."""
    # Imported before anything runs: a forked child must not find it half imported.
    import logging

    import backstay._threads  # noqa: F401

    return logging.getLogger("backstay").isEnabledFor(_DEBUG)


def say(level: int, message: str, fields: dict[str, str]) -> None:
    """Logs one event; below it the stack of the thread that froze, where there is one."""
    import logging

    logger = logging.getLogger("backstay")
    if not logger.isEnabledFor(level):
        return
    if "stack" in fields:
        message = f"{message}\n{fields['stack']}"
    logger.log(level, "%s", message, extra={"backstay": fields})
