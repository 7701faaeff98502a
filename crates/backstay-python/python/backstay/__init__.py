"""Fault tolerance for long-running services: circuit breaker, rate limiter, graceful shutdown, heartbeat, watchdog."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from backstay._states import CleanupCallback, HeartbeatState, HeartbeatTarget
    from backstay._values import CircuitCause, CircuitSnapshot, CircuitState, CircuitStats, RateLimiterStats, WatchdogStats

from backstay._native import __version__
from backstay.circuit_breaker import CircuitBreaker, Outcome, circuit_breaker
from backstay.exceptions import (
    CircuitBreakerError,
    CircuitOpenError,
    ConfigError,
    HeartbeatError,
    RateLimitError,
    RateLimitExceededError,
    ShutdownError,
    WatchdogError,
    WatchdogTimeoutError,
)
from backstay.heartbeat import Heartbeat
from backstay.rate_limiter import KeyedRateLimiter, RateLimiter, rate_limiter
from backstay.shutdown import GracefulShutdown
from backstay.watchdog import Watchdog, watchdog_context

__all__ = [
    "CircuitBreaker",
    "CircuitBreakerError",
    "CircuitCause",
    "CircuitOpenError",
    "CircuitSnapshot",
    "CircuitState",
    "CircuitStats",
    "CleanupCallback",
    "ConfigError",
    "GracefulShutdown",
    "Heartbeat",
    "HeartbeatError",
    "HeartbeatState",
    "HeartbeatTarget",
    "KeyedRateLimiter",
    "Outcome",
    "RateLimitError",
    "RateLimitExceededError",
    "RateLimiter",
    "RateLimiterStats",
    "ShutdownError",
    "Watchdog",
    "WatchdogError",
    "WatchdogStats",
    "WatchdogTimeoutError",
    "__version__",
    "circuit_breaker",
    "rate_limiter",
    "watchdog_context",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from backstay import _states, _values

        return getattr(_states if hasattr(_states, name) else _values, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
