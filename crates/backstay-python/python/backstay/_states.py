"""Frozen values. In a module of their own, because `dataclasses` and `typing` are slow to import."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Optional, Protocol, Union, runtime_checkable

from backstay._shared import once

Callback = Union[Callable[[], None], Callable[[], Awaitable[None]]]


@once
@runtime_checkable
class HeartbeatTarget(Protocol):
    """Something that can die while the process lives on."""

    @property
    def is_dead(self) -> bool:
        """Whether it is dead now."""


@once
@dataclass(frozen=True, slots=True)
class HeartbeatState:
    """What a heartbeat file says.

    `status` is "starting", "ready", "degraded", "stopping" or "stopped". `degraded_by` says why it is "degraded":
    "watchdog" (one has fired), "target" (one is dead) or "service" (it set the status itself); otherwise it is `None`.
    `interval` is the time between two beats in seconds. All of these, `sequence` and `started_at` are `None` in a file
    that Backstay did not write.
    """

    timestamp: str
    pid: int
    hostname: str
    metadata: dict[str, Any] = field(default_factory=dict)
    status: Optional[str] = field(default=None, kw_only=True)
    sequence: Optional[int] = field(default=None, kw_only=True)
    interval: Optional[float] = field(default=None, kw_only=True)
    started_at: Optional[str] = field(default=None, kw_only=True)
    degraded_by: Optional[str] = field(default=None, kw_only=True)

    def to_dict(self) -> dict[str, Any]:
        """The state as a mapping, as in the file."""
        always = {
            "timestamp": self.timestamp,
            "pid": self.pid,
            "hostname": self.hostname,
            "metadata": dict(self.metadata),
        }
        known = {name: getattr(self, name) for name in _OURS}
        return always | {name: value for name, value in known.items() if value is not None}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> HeartbeatState:
        """The state of a mapping; what else is in it is passed over."""
        ours = {name: data.get(name) for name in _OURS}
        return cls(data["timestamp"], data["pid"], data["hostname"], dict(data.get("metadata") or {}), **ours)


# What the page's format lacks.
_OURS = ("status", "sequence", "interval", "started_at", "degraded_by")


@once
@dataclass(frozen=True, slots=True)
class CleanupCallback:
    """A callback of a graceful shutdown. `timeout` is in seconds."""

    name: str
    callback: Callback
    priority: int = 100
    timeout: Optional[float] = None
    is_async: bool = False
