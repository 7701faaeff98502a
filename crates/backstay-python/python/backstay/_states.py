"""Frozen values. In a module of their own, because `dataclasses` and `typing` are slow to import."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Optional, Protocol, Union, runtime_checkable

Callback = Union[Callable[[], None], Callable[[], Awaitable[None]]]


@runtime_checkable
class HeartbeatTarget(Protocol):
    """Something that can die while the process lives on."""

    @property
    def is_dead(self) -> bool:
        """Whether it is dead now."""


@dataclass(frozen=True, slots=True)
class HeartbeatState:
    """What a heartbeat file says."""

    timestamp: str
    pid: int
    hostname: str
    metadata: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The state as a mapping, as in the file."""
        return {
            "timestamp": self.timestamp,
            "pid": self.pid,
            "hostname": self.hostname,
            "metadata": dict(self.metadata),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> HeartbeatState:
        """The state of a mapping; what else is in it is passed over."""
        return cls(data["timestamp"], data["pid"], data["hostname"], dict(data.get("metadata") or {}))


@dataclass(frozen=True, slots=True)
class CleanupCallback:
    """A callback of a graceful shutdown. `timeout` is in seconds."""

    name: str
    callback: Callback
    priority: int = 100
    timeout: Optional[float] = None
    is_async: bool = False
