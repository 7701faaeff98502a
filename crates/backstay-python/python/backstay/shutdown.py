"""Graceful shutdown: what has to be closed is closed in order, on a signal or when told."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Iterable
    from types import FrameType
    from typing import Any

    from typing_extensions import Self

    from backstay._states import CleanupCallback as CleanupCallback

from backstay import _native
from backstay.exceptions import ShutdownError

__all__ = ["CleanupCallback", "GracefulShutdown", "ShutdownError"]


class _Unless(int):
    """A number that holds unless the configuration says another."""

    __slots__ = ()


_FORCE_EXIT_CODE = _Unless(1)


class GracefulShutdown(_native.GracefulShutdown):
    """Runs the registered callbacks once, lowest priority first, in `timeout` seconds in all (5 to 300, brought to the
    nearer bound; the configuration's, or 30).

    `install` lets SIGTERM and SIGINT, or `signals`, begin it. The callbacks then run beside a loop that is still in its
    turn. The first has its turn `drain_delay` seconds (up to a day; the configuration's, or 0) after `is_shutting_down`
    became true. On a signal, the process exits with `force_exit_code` (0 to 255; the configuration's, or 1) if a
    callback still runs when everything is over; a second signal exits at once, with 128 + its number.

    >>> shutdown = GracefulShutdown()
    >>> shutdown.register("database", print, priority=10)

    Raises:
        ValueError, TypeError: an argument that cannot be meant.
        ConfigError: the configuration is broken.
    """

    def __init__(
        self,
        *,
        timeout: float | None = None,
        signals: Iterable[signal.Signals] | None = None,
        force_exit_code: int = _FORCE_EXIT_CODE,
        drain_delay: float | None = None,
    ) -> None:
        self._build(timeout, None if force_exit_code is _FORCE_EXIT_CODE else force_exit_code, drain_delay)
        self._signals = None if signals is None else _checked(signals)
        # What lay under our handler, also while we are not installed: it may still be called by one that lies over it.
        self._previous: dict[int, Any] = {}

    _signals: tuple[int, ...] | None = None
    # The process in which the signals are taken.
    _owner: int | None = None
    # The frame of the delivery that is being handled.
    _handling: FrameType | None = None

    @property
    def is_installed(self) -> bool:
        """Whether the signals are taken, in this process."""
        import os

        return self._owner == os.getpid()

    def install(self) -> None:
        """Takes the signals. Handlers that were there keep their turn. Installed already, it changes nothing.

        Should the program end while callbacks have their turns, it waits for them.

        Raises:
            ShutdownError: not in the main thread, or a signal that cannot be caught.
        """
        import atexit
        import os
        import signal

        from backstay._threads import is_main_thread

        if self.is_installed:
            return
        if self._component is None:
            raise RuntimeError("GracefulShutdown.__init__ was not called")
        if not is_main_thread():
            raise ShutdownError("install() must be called in the main thread, where Python handles signals")
        wanted = dict.fromkeys((signal.SIGTERM, signal.SIGINT) if self._signals is None else self._signals)
        for number in wanted:
            if number in (getattr(signal, "SIGKILL", None), getattr(signal, "SIGSTOP", None)):
                raise ShutdownError(f"{_name(number)} cannot be caught; take SIGTERM, SIGINT, SIGHUP or SIGUSR1")
        taken = []
        refusal: Exception | None = None
        # From the first one on, a signal may come.
        self._owner = os.getpid()
        try:
            for number in wanted:
                try:
                    previous = signal.getsignal(number)
                    if previous != self._handle:  # Otherwise what lies beneath is known.
                        self._previous[number] = previous
                    signal.signal(number, self._handle)
                    taken.append(number)
                except (OSError, ValueError) as error:  # A signal that the platform lacks.
                    refusal = error
            if wanted and not taken:
                raise ShutdownError(f"no signal could be taken: {refusal}") from refusal
        except BaseException:
            self.uninstall()
            raise
        atexit.register(self._at_exit)
        self._note_loop()

    def uninstall(self) -> None:
        """Puts back what was there, where it is still ours. A shutdown that has begun goes on."""
        import atexit
        import signal

        was_installed, self._owner = self.is_installed, None
        if not was_installed:
            return
        atexit.unregister(self._at_exit)
        for number, handler in self._previous.items():
            if signal.getsignal(number) == self._handle:
                try:
                    signal.signal(number, signal.SIG_DFL if handler is None else handler)
                except ValueError:
                    pass  # Not in the main thread: ours stays, and passes everything on.

    def _handle(self, number: int, frame: FrameType | None) -> None:
        import os
        import signal

        if frame is not None and frame is self._handling:
            return  # One that we passed this delivery on to has passed it back.
        previous = self._previous.get(number)
        if self._owner == os.getpid():
            self._on_signal(number)
        elif signal.getsignal(number) == self._handle:
            # Uninstalled from another thread, or a forked child: as if we had never been there.
            signal.signal(number, signal.SIG_DFL if previous is None else previous)
            os.kill(os.getpid(), number)
            return
        if callable(previous) and not (self._owner == os.getpid() and _only_ends(previous)):
            self._handling, before = frame, self._handling
            try:
                previous(number, frame)
            finally:
                self._handling = before

    def _at_exit(self) -> None:
        if self.is_installed:
            self._settle()

    def _note_loop(self) -> None:
        from backstay._callbacks import running_loop

        loop = running_loop()
        if loop is not None:
            self._loop = loop

    _loop: Any = None

    def register(
        self, name: str, callback: Any, *, priority: int = 100, timeout: float | None = None
    ) -> None:
        """Registers a callback, plain or async: the lowest priority has its turn first, equal ones in order of
        registration. It may take `timeout` seconds, at most what is left of the total; without one, all that is left.
        One that takes longer is left behind, and the next has its turn.

        Raises:
            ShutdownError: the name is taken, or the shutdown has begun.
            ValueError: `timeout` is not above 0 and a day at most.
            TypeError: an argument of the wrong kind.
        """
        self._register(name, callback, priority, timeout)
        self._note_loop()
        self._on_loop(self._loop)

    def trigger(self) -> None:
        """Begins the shutdown, or joins the one that is under way, and waits for its end. In a callback it returns at
        once.
        """
        from backstay._callbacks import blocked, is_inside

        if not is_inside(self._component):
            with blocked():
                self._trigger()

    async def atrigger(self) -> None:
        """`trigger` for tasks. Cancelled, the shutdown goes on all the same."""
        from backstay._callbacks import is_inside
        from backstay._waiting import wait

        if not is_inside(self._component):
            self._note_loop()
            self._on_loop(self._loop)
            await wait(self._atrigger())

    async def await_shutdown(self, timeout: float | None = None) -> bool:
        """Waits in a task until the shutdown begins, `timeout` seconds at most: whether it has begun."""
        from backstay._waiting import wait_at_most

        self._note_loop()
        self._on_loop(self._loop)
        return await wait_at_most(self._begun(), timeout) or self.is_shutting_down

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(self, *exception: object) -> None:
        from backstay._callbacks import blocked, is_inside

        if not is_inside(self._component):
            with blocked():
                self._settle()
        self.uninstall()

    async def __aenter__(self) -> Self:
        self.install()
        return self

    async def __aexit__(self, *exception: object) -> None:
        from backstay._callbacks import is_inside
        from backstay._waiting import wait

        if not is_inside(self._component):
            await wait(self._asettle())
        self.uninstall()


def _checked(signals: Any) -> tuple[int, ...]:
    allowed = "allowed are numbers of signals, such as signal.SIGTERM"
    try:
        numbers = tuple(signals)
    except TypeError:
        raise TypeError(f"signals is {signals!r}, {allowed}") from None
    for number in numbers:
        if not isinstance(number, int):
            raise TypeError(f"signals has {number!r}, {allowed}")
        if not 0 < number < 2**31:
            raise ValueError(f"signals has {number!r}, {allowed}")
    return numbers


def _only_ends(handler: Any) -> bool:
    """Whether a handler does what the shutdown stands for: Python's own for Ctrl-C, and that of `asyncio.run`."""
    import signal

    if handler is signal.default_int_handler:
        return True
    function = getattr(handler, "func", None)
    where = (getattr(function, "__module__", None), getattr(function, "__qualname__", None))
    return where == ("asyncio.runners", "Runner._on_sigint")


def _name(number: int) -> str:
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def __getattr__(name: str) -> Any:
    if name == "CleanupCallback":
        from backstay._states import CleanupCallback

        return CleanupCallback
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
