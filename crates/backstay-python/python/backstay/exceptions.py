"""What Backstay raises."""

from __future__ import annotations

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


class ConfigError(ValueError):
    """The configuration is broken: which file, line, column and key, and what is allowed."""


class CircuitBreakerError(RuntimeError):
    """The base of what a circuit breaker raises."""


class CircuitOpenError(CircuitBreakerError):
    """The circuit is open: the function was not called.

    `remaining_seconds` is the time until the next trial.
    """

    remaining_seconds: float

    def __init__(self, message: str, remaining_seconds: float) -> None:
        super().__init__(message)
        self.remaining_seconds = remaining_seconds

    def __reduce__(self) -> tuple[type[CircuitOpenError], tuple[str, float]]:
        return type(self), (str(self), self.remaining_seconds)


class RateLimitError(RuntimeError):
    """The base of what a rate limiter raises."""


class RateLimitExceededError(RateLimitError):
    """There is no token. `retry_after` says in how many seconds there is one."""

    retry_after: float

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[type[RateLimitExceededError], tuple[str, float]]:
        return type(self), (str(self), self.retry_after)


class ShutdownError(RuntimeError):
    """A shutdown refused something."""


class HeartbeatError(RuntimeError):
    """A heartbeat could not be written or read."""


class WatchdogError(RuntimeError):
    """The base of what a watchdog raises."""


class WatchdogTimeoutError(WatchdogError):
    """Nobody pinged in time. `seconds_inactive` is for how long."""

    seconds_inactive: float

    def __init__(self, message: str, seconds_inactive: float) -> None:
        super().__init__(message)
        self.seconds_inactive = seconds_inactive

    def __reduce__(self) -> tuple[type[WatchdogTimeoutError], tuple[str, float]]:
        return type(self), (str(self), self.seconds_inactive)
