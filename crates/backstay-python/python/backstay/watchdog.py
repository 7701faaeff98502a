"""Watchdog: tells when a thread, a task or a process does nothing any more."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path
    from typing import Any

    from typing_extensions import Self

    from backstay._values import WatchdogStats as WatchdogStats

    OnAlertCallback = Callable[[str, str, Mapping[str, Any]], Awaitable[None] | None]

from backstay import _native
from backstay.exceptions import WatchdogError, WatchdogTimeoutError

__all__ = ["OnAlertCallback", "Watchdog", "WatchdogStats", "watchdog_context"]


class Watchdog(_native.Watchdog):
    """Fires when there was no ping for `timeout` seconds (clamped to 1 to 3600; default: the configuration's,
    or 30). Time in which the whole process did not run (SIGSTOP, a suspended machine) does not count.

    Firing logs the frozen thread's name and stack, then calls `on_timeout`, plain or async, and `on_alert` with a channel,
    a message and a mapping, on a thread of their own: neither waits for the frozen thread or loop.

    >>> with Watchdog(timeout=30) as watchdog:
    ...     watchdog.ping()

    Raises:
        ValueError, TypeError: an invalid argument.
        ConfigError: the configuration is broken.
    """

    _is_shutdown = False

    @classmethod
    def from_state_file(
        cls,
        state_file: str | Path,
        *,
        check_interval: float | None = None,
        max_age: float = 30.0,
        on_timeout: Callable[[], Awaitable[None] | None] | None = None,
        on_alert: OnAlertCallback | None = None,
        name: str | None = None,
    ) -> Self:
        """Watches the heartbeat file of another process: fires when it is missing, damaged or older than `max_age`
        seconds, or its process is gone. Looks at once, and then every `check_interval` seconds (1 to 3600, brought to
        the nearer bound; `max_age / 2`).

        Raises:
            ValueError, TypeError: an invalid argument.
        """
        self = cls.__new__(cls)
        if name is None:
            # Not every path is UTF-8.
            name = f"state_file_watcher:{state_file}".encode(errors="backslashreplace").decode()
        self._build_for_file(state_file, check_interval, max_age, on_timeout, on_alert, name)
        return self

    @classmethod
    def named(cls, name: str) -> Self:
        """The process's watchdog of this name, the same for everyone who asks; whoever is to run it starts it.

        The first to ask has it built from the configuration's `watchdog.instances`. Firing is logged.

        Raises:
            ConfigError: the configuration is broken.
        """
        from backstay._named import named

        return named(cls, name)

    @classmethod
    def instances(cls) -> list[Self]:
        """Every named watchdog of the process, in the order of names: for exporters and dashboards."""
        return [cls.named(name) for name in cls._names()]

    @property
    def state_file(self) -> Path | None:
        """The heartbeat file that is watched."""
        from pathlib import Path

        path = self._state_file()
        return None if path is None else Path(path)

    @property
    def stats(self) -> WatchdogStats:
        """A snapshot of what the watchdog has seen so far."""
        from backstay._values import WatchdogStats

        return WatchdogStats(*self._stats())

    @property
    def is_shutdown(self) -> bool:
        """Whether `shutdown` was called, and it was not started since."""
        return self._is_shutdown and not self.is_running

    def shutdown(self) -> None:
        """Ends the watch; what a graceful shutdown calls."""
        self.stop()
        self._is_shutdown = True

    async def ashutdown(self) -> None:
        """`shutdown` for tasks."""
        self.shutdown()

    async def aping(self) -> None:
        """`ping` for tasks."""
        self.ping()

    async def astart(self) -> None:
        """`start` for tasks."""
        self.start()

    async def astop(self) -> None:
        """`stop` for tasks."""
        self.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        self.stop()
        try:
            self._check()
        except WatchdogTimeoutError:
            # What already ends the block is not to be hidden.
            if kind is None:
                raise

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        self.__exit__(kind, *exception)

    def __repr__(self) -> str:
        status = "running" if self.is_running else "stopped"
        name = "" if self.name is None else f", name={self.name!r}"
        return f"Watchdog(timeout={self.timeout:g}, status={status}{name})"


def watchdog_context(
    timeout: float | None = None,
    on_timeout: Callable[[], Awaitable[None] | None] | None = None,
    *,
    raise_on_timeout: bool = False,
    name: str | None = None,
) -> Watchdog:
    """A watchdog for a `with` block. With `raise_on_timeout` the next ping after it fired, or the end of the block,
    raises `WatchdogTimeoutError`. `timeout` is in seconds, with the bounds and the default of `Watchdog`.

    >>> with watchdog_context(timeout=10, raise_on_timeout=True) as watchdog:
    ...     watchdog.ping()

    Raises:
        ValueError, TypeError: an invalid argument.
        ConfigError: the configuration is broken.
    """
    arguments: dict[str, Any] = {"_raise_on_timeout": raise_on_timeout}  # no argument of the public signature
    return Watchdog(timeout=timeout, on_timeout=on_timeout, name=name, **arguments)


def __getattr__(name: str) -> Any:
    if name == "WatchdogStats":
        from backstay._values import WatchdogStats

        return WatchdogStats
    if name == "OnAlertCallback":
        from collections.abc import Awaitable, Callable, Mapping
        from typing import Any, Optional, Union

        return Callable[[str, str, Mapping[str, Any]], Optional[Awaitable[None]]]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
