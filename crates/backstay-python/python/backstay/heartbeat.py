"""Heartbeat: a file by which other processes see that this one is alive."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from typing import Any

    from typing_extensions import Self

    from backstay._states import HeartbeatState as HeartbeatState
    from backstay._states import HeartbeatTarget as HeartbeatTarget
    from backstay.watchdog import OnAlertCallback

from backstay import _native
from backstay.exceptions import HeartbeatError

__all__ = ["Heartbeat", "HeartbeatState", "HeartbeatTarget", "OnAlertCallback"]


class Heartbeat(_native.Heartbeat):
    """Writes `state_file` every `interval` seconds (clamped to 1 to 300; default: the configuration's, or 10) while it
    runs. Missing folders are created. Without a file it only checks its target and calls its callbacks.

    `on_beat` is called after each beat, `on_missed_beat` with the error of one that could not be written. While
    `target.is_dead`, the file says "degraded", by "watchdog" where the target is a `Watchdog` and by "target" otherwise,
    and `on_target_dead` is called once. Callbacks may be plain or async.

    Where another heartbeat writes the same file, a warning is logged and `on_alert` is called, once for each other
    process, naming it. With `exclusive=True` the file is left to the other one instead: `start` raises
    `HeartbeatError`, and later each beat is a missed one, until the other has stopped or is silent. A file that was left
    behind by a process that is gone is free.

    >>> heartbeat = Heartbeat("/tmp/bot.heartbeat", interval=10)

    Raises:
        ValueError, TypeError: an invalid argument, or metadata that is no JSON.
        ConfigError: the configuration is broken.
    """

    _is_shutdown = False
    @property
    def state_file(self) -> Path | None:
        """The file, as it was given."""
        from pathlib import Path

        return None if self._state_file is None else Path(self._state_file)

    @property
    def is_shutdown(self) -> bool:
        """Whether `shutdown` was called, and it was not started since."""
        return self._is_shutdown and not self.is_running

    def start(self) -> None:
        """Beats at once, and then every `interval` seconds.

        Raises:
            HeartbeatError: it runs already, or it is exclusive and another heartbeat writes the file.
        """
        self._start(None)

    async def astart(self) -> None:
        """`start` for tasks: what callbacks return is awaited on this loop."""
        from backstay._callbacks import Loop, running_loop

        loop = running_loop()
        self._start(None if loop is None else Loop(loop))

    def stop(self) -> None:
        """Ends the beating, with a last state that says so, and waits for callbacks, 5 seconds at most; in a callback it
        waits for nothing. Of one that does not beat, nothing happens.
        """
        from backstay._callbacks import blocked, is_inside

        if is_inside(self._component):
            self._stop_soon()
        else:
            with blocked():
                self._stop()

    async def astop(self) -> None:
        """`stop` for tasks."""
        from backstay._callbacks import is_inside
        from backstay._waiting import wait

        if is_inside(self._component):
            self._stop_soon()
        else:
            await wait(self._astop())

    def __del__(self) -> None:
        # The native half would wait for callbacks as well, but does not know which loop that blocks.
        if self._component is not None and self.is_running:
            try:
                self.stop()
            except ImportError:
                pass  # The interpreter is ending.

    def shutdown(self) -> None:
        """Ends the beating; what a graceful shutdown calls."""
        self.stop()
        self._is_shutdown = True

    async def ashutdown(self) -> None:
        """`shutdown` for tasks."""
        await self.astop()
        self._is_shutdown = True

    @staticmethod
    def read_state(state_file: str | Path) -> HeartbeatState | None:
        """What the file says; `None` where it is missing, damaged or no file. Never blocks."""
        from backstay._states import HeartbeatState

        state = _native.Heartbeat._read_state(state_file)
        return None if state is None else HeartbeatState.from_dict(state)

    @staticmethod
    def is_alive(state_file: str | Path, max_age_seconds: float = 30.0) -> bool:
        """Whether the last beat in the file is `max_age_seconds` old at most, its process exists, and it was not
        stopped by `stop`. A stopped process (SIGSTOP) is alive until its beat is too old. Never blocks.

        Raises:
            ValueError, TypeError: an invalid argument.
        """
        return _native.Heartbeat._is_alive(state_file, max_age_seconds)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await self.astart()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.astop()


def __getattr__(name: str) -> Any:
    if name in ("HeartbeatState", "HeartbeatTarget"):
        from backstay import _states

        return getattr(_states, name)
    if name == "OnAlertCallback":
        from backstay.watchdog import OnAlertCallback

        return OnAlertCallback
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
