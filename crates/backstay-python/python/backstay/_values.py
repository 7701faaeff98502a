"""What properties return. In a module of its own, because `dataclasses` and `enum` are slow to import."""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass

from backstay._shared import once


@once
class CircuitState(enum.Enum):
    """Where a circuit breaker stands."""

    CLOSED = 1
    OPEN = 2
    HALF_OPEN = 3


@once
@dataclass
class CircuitStats:
    """What a circuit breaker has done so far: a snapshot."""

    total_calls: int = 0
    successful_calls: int = 0
    failed_calls: int = 0
    rejected_calls: int = 0
    state_changes: int = 0

    @property
    def ignored_calls(self) -> int:
        """Calls that were neither success nor failure: excluded exceptions, cancelled calls."""
        return self.total_calls - self.successful_calls - self.failed_calls - self.rejected_calls

    def record_success(self) -> None:
        """Counts a call that succeeded."""
        self.total_calls += 1
        self.successful_calls += 1

    def record_failure(self) -> None:
        """Counts a call that failed."""
        self.total_calls += 1
        self.failed_calls += 1

    def record_rejection(self) -> None:
        """Counts a call that was rejected."""
        self.total_calls += 1
        self.rejected_calls += 1

    def record_state_change(self) -> None:
        """Counts a change of the state."""
        self.state_changes += 1


@once
@dataclass(frozen=True, slots=True)
class CircuitCause:
    """Why a circuit breaker changed its state.

    `name` is "consecutive_failures", "failure_rate", "slow_call_rate", "retry_after", "half_open_failure",
    "reset_timeout", "successes" or "manual". `count` is the number of failures, slow calls or successes, `calls` the number
    of calls in the window, `seconds` the time for which a service asked. `str` is a phrase with the numbers.
    """

    name: str
    text: str
    count: int | None = None
    calls: int | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        return self.text


@once
@dataclass(frozen=True, slots=True)
class CircuitSnapshot:
    """A circuit breaker's state and window, at one moment.

    `mode` is "normal" or "isolated". `calls`, `failed` and `slow` count the calls in the window, and the rates are shares
    from 0 to 1; they are `None` without `failure_rate` and `slow_call`. `half_open_in` is in seconds, `None` if the circuit
    is not open or was isolated.
    """

    state: CircuitState
    mode: str
    calls: int | None
    failed: int | None
    slow: int | None
    failure_rate: float | None
    slow_call_rate: float | None
    half_open_in: float | None

    def to_dict(self) -> dict[str, str | int | float | None]:
        """The snapshot as a mapping for JSON."""
        return {name: getattr(self, name) for name in self.__slots__} | {"state": self.state.name.lower()}


@once
@dataclass
class RateLimiterStats:
    """What a rate limiter has done so far: a snapshot. `total_waited` is in seconds."""

    total_acquired: int = 0
    total_rejected: int = 0
    total_waited: float = 0.0

    def record_acquired(self) -> None:
        """Counts a token."""
        self.total_acquired += 1

    def record_rejected(self) -> None:
        """Counts a rejection."""
        self.total_rejected += 1

    def record_wait(self, seconds: float) -> None:
        """Adds a wait."""
        self.total_waited += seconds


@once
@dataclass
class WatchdogStats:
    """What a watchdog has seen so far: a snapshot. Times are monotonic seconds."""

    pings_total: int = 0
    timeouts_triggered: int = 0
    last_ping_time: float | None = None
    start_time: float | None = None

    def record_ping(self) -> None:
        """Counts a ping, now."""
        self.pings_total += 1
        self.last_ping_time = time.monotonic()

    def record_timeout(self) -> None:
        """Counts a firing."""
        self.timeouts_triggered += 1

    def record_start(self) -> None:
        """Notes a start, now."""
        self.start_time = time.monotonic()

    @property
    def uptime(self) -> float:
        """Seconds since the start; 0 before it."""
        return 0.0 if self.start_time is None else time.monotonic() - self.start_time
