"""Graceful shutdown: runs callbacks in order, on a signal or when triggered."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Iterable
    from types import FrameType
    from typing import Any

    from typing_extensions import Self

    from backstay._callbacks import KeptLoop
    from backstay._states import CleanupCallback as CleanupCallback

from backstay import _native
from backstay.exceptions import ShutdownError

__all__ = ["CleanupCallback", "GracefulShutdown", "ShutdownError"]


class GracefulShutdown(_native.GracefulShutdown):
    """Runs the registered callbacks once, lowest priority first, within `timeout` seconds in total (clamped to 5 to 300;
    default: the configuration's, or 30).

    After `install`, SIGTERM and SIGINT, or `signals`, begin it. The callbacks run on another thread, while the main loop
    may still be in an iteration. The first one starts `drain_delay` seconds (0 to a day; default: the configuration's, or
    0) after `is_shutting_down` became true. On a signal, the process exits with `force_exit_code` (0 to 255; default: the
    configuration's, or 1) if a callback still runs at the end; a second signal exits at once, with 128 + its number.

    A `with` or `async with` block installs it; leaving the block, also by an exception, runs the callbacks if nothing
    has begun, waits for their end, then uninstalls. A forked child that leaves a block of its parent runs nothing.

    >>> shutdown = GracefulShutdown()
    >>> shutdown.register("database", print, priority=10)

    Raises:
        ValueError, TypeError: an invalid argument.
        ConfigError: the configuration is broken.
    """

    # The process of the last `install`, by a number that no forked child of it has: a block that was entered there is not
    # the child's to end.
    _owner: int | None = None
    # Whether the signals are taken there.
    _is_taken = False
    # The frame of the delivery that is being handled.
    _handling: FrameType | None = None

    @property
    def is_installed(self) -> bool:
        """Whether the signals are taken, in this process."""
        return self._is_taken and self._is_owner()

    def _is_owner(self) -> bool:
        return self._owner == _native._this_process()

    def install(self) -> None:
        """Installs the signal handlers. Handlers that were there before are called as well. Once installed, it does nothing.

        If the program ends while callbacks run, its end waits for them. In a forked child nothing is installed: there
        the handlers are those from before `install`, and a signal that arrives during the fork reaches them; the
        callbacks stay registered, and `install` may be called again.

        The end of `asyncio.run` waits for callbacks that are on its loop, but cancels tasks that they have created: prefer
        `async with shutdown`. On CPython 3.12.0 to 3.12.2 no thread starts once the main thread has ended, so a callback
        that needs one (`asyncio.to_thread`, executors, a loop's `getaddrinfo`) fails then: there, use `with shutdown`.

        Raises:
            ShutdownError: not in the main thread, or a signal that cannot be caught.
        """
        import atexit
        import signal

        from backstay import _signals
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
                raise ShutdownError(f"{_signals.name(number)} cannot be caught; take SIGTERM, SIGINT, SIGHUP or SIGUSR1")
        taken = []
        refusal: Exception | None = None
        # From the first handler on, a signal may come.
        self._owner = _native._this_process()
        self._is_taken = True
        try:
            for number in wanted:
                try:
                    previous = signal.getsignal(number)
                    if not _signals.passes_to(previous, self, number):  # Otherwise what lies beneath is known.
                        self._previous[number] = previous
                        _signals.take(self)
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
        """Restores the previous handlers where ours are still in place. A shutdown that has begun goes on."""
        import atexit

        was_installed, self._is_taken = self.is_installed, False
        if not was_installed:
            return
        atexit.unregister(self._at_exit)
        self._put_back()

    def _put_back(self) -> None:
        import signal

        from backstay import _signals

        for number, handler in self._previous.items():
            if signal.getsignal(number) == self._handle:
                try:
                    signal.signal(number, signal.SIG_DFL if handler is None else handler)
                except ValueError:
                    pass  # Not in the main thread: ours stays, and passes everything on.
        if not any(_signals.passes_to(signal.getsignal(number), self, number) for number in self._previous):
            _signals.release(self)

    def _forget(self) -> None:
        """What a fork does to the child's."""
        self._is_taken = False
        self._put_back()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        import os
        import signal

        from backstay import _signals

        if frame is not None and frame is self._handling:
            return  # One that we passed this delivery on to has passed it back.
        previous = self._previous.get(number)
        if self.is_installed:
            if not self.is_shutting_down:
                # What was imported since `install` may have put its hook before ours.
                _signals.settle_before_threads_end()
            self._on_signal(number)
        elif signal.getsignal(number) == self._handle:
            # Uninstalled from another thread, or a child of a fork that Python was not told of: as if we had never
            # been there.
            signal.signal(number, signal.SIG_DFL if previous is None else previous)
            os.kill(os.getpid(), number)
            return
        if callable(previous) and not (self.is_installed and _signals.only_ends(previous)):
            self._handling, before = frame, self._handling
            try:
                previous(number, frame)
            finally:
                self._handling = before

    def _at_exit(self) -> None:
        if self.is_installed:
            self._settle()

    def _note_loop(self) -> None:
        from backstay._callbacks import KeptLoop, running_loop

        loop = running_loop()
        if loop is not None and (self._loop is None or self._loop.loop is not loop):
            self._loop = KeptLoop(loop, self)
        self._on_loop(self._loop)

    # The loop on which async callbacks are awaited.
    _loop: KeptLoop | None = None

    def register(
        self, name: str, callback: Any, *, priority: int = 100, timeout: float | None = None
    ) -> None:
        """Registers a callback, plain or async. The lowest priority runs first, equal ones in order of registration.

        It may take `timeout` seconds, at most what is left of the total (the default). One that takes longer counts as
        timed out, and the next one runs.

        An async callback is awaited on the event loop that runs where this shutdown is used. If none runs when its turn
        comes, it gets a loop of asyncio's own: an `async def` reserves it at registration (two descriptors), so that it
        runs when no descriptor is free; for another function that returns an awaitable it is made then.

        Raises:
            ShutdownError: the name is taken, the shutdown has begun, or no descriptor is free for the loop.
            ValueError: `timeout` is not above 0 and a day at most.
            TypeError: an argument of the wrong kind.
        """
        from backstay._callbacks import reserved

        if not self.is_shutting_down:
            try:
                callback = reserved(callback)
            except (OSError, ImportError) as error:  # Without a descriptor, modules are not found.
                raise ShutdownError(
                    f"no event loop for the async callback {name!r}: {error}; register it again when descriptors are free"
                ) from error
        self._register(name, callback, priority, timeout)
        self._note_loop()

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
            await wait(self._atrigger())

    async def await_shutdown(self, timeout: float | None = None) -> bool:
        """Waits in a task until the shutdown begins, `timeout` seconds at most: whether it has begun."""
        from backstay._waiting import wait_at_most

        self._note_loop()
        return await wait_at_most(self._begun(), timeout) or self.is_shutting_down

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._is_owner():
            self.trigger()
            self.uninstall()

    async def __aenter__(self) -> Self:
        self.install()
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._is_owner():
            # Where this wait is cancelled, the signals stay taken and the end of the program waits for the callbacks.
            await self.atrigger()
            self.uninstall()


def __getattr__(name: str) -> Any:
    if name == "CleanupCallback":
        from backstay._states import CleanupCallback

        return CleanupCallback
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
