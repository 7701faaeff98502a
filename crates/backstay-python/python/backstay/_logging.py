"""Where the native module's words arrive."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def is_enabled_for() -> Callable[[int], bool]:
    """Returns what tells whether the logger `backstay` logs at a level."""
    # Imported before anything runs: a forked child must not find it half imported.
    import logging

    import backstay._threads  # noqa: F401

    return logging.getLogger("backstay").isEnabledFor


def say(level: int, message: str, fields: dict[str, str]) -> None:
    """Logs one event; below it the stack of the thread that froze, where there is one."""
    import logging

    logger = logging.getLogger("backstay")
    if not logger.isEnabledFor(level):
        return
    if "stack" in fields:
        message = f"{message}\n{fields['stack']}"
    logger.log(level, "%s", message, extra={"backstay": fields})
