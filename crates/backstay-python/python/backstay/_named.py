"""Named instances: the same for everyone in the process who asks."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol, TypeVar

    class _Named(Protocol):
        def _build_named(self, name: str) -> None: ...

    _T = TypeVar("_T", bound=_Named)

_known: dict[tuple[type, str], Any] = {}


def named(kind: type[_T], name: str) -> _T:
    """The instance of this name. The native half knows it by the name alone; here it has one object, too."""
    instance: _T | None = _known.get((kind, name))
    if instance is None:
        instance = kind.__new__(kind)
        instance._build_named(name)
        instance = _known.setdefault((kind, name), instance)
    return instance
