"""What Backstay raises."""

from __future__ import annotations

from backstay._shared import once

__all__ = [
    "CircuitBreakerError",
    "CircuitOpenError",
    "ConfigError",
    "HeartbeatError",
    "RateLimitError",
    "RateLimitExceededError",
    "ShutdownError",
    "WatchdogError",
    "WatchdogTimeoutError",
]


@once
class ConfigError(ValueError):
    """The configuration is broken: which file, line, column and key, and what is allowed."""


@once
class CircuitBreakerError(RuntimeError):
    """The base of what a circuit breaker raises."""


@once
class CircuitOpenError(CircuitBreakerError):
    """The circuit is open: the function was not called."""

    name: str | None = None
    """The breaker's name, if it has one."""

    def __init__(self, message: str, remaining_seconds: float, *, name: str | None = None) -> None:
        super().__init__(message, remaining_seconds)
        if name is not None:
            self.name = name

    @property
    def remaining_seconds(self) -> float:
        """Seconds until the next half-open call."""
        return float(self.args[1])

    def __str__(self) -> str:
        return str(self.args[0])


@once
class RateLimitError(RuntimeError):
    """The base of what a rate limiter raises."""


@once
class RateLimitExceededError(RateLimitError):
    """There is no token."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message, retry_after)

    @property
    def retry_after(self) -> float:
        """Seconds until there is a token."""
        return float(self.args[1])

    def __str__(self) -> str:
        return str(self.args[0])


@once
class ShutdownError(RuntimeError):
    """A shutdown refused something."""


@once
class HeartbeatError(RuntimeError):
    """A heartbeat could not be written or read."""


@once
class WatchdogError(RuntimeError):
    """The base of what a watchdog raises."""


@once
class WatchdogTimeoutError(WatchdogError):
    """Nobody pinged in time."""

    def __init__(self, message: str, seconds_inactive: float) -> None:
        super().__init__(message, seconds_inactive)

    @property
    def seconds_inactive(self) -> float:
        """Seconds since the last ping."""
        return float(self.args[1])

    def __str__(self) -> str:
        return str(self.args[0])
