"""What stays the same when the package is imported again, or one of its modules reloaded.

The native module exists once per process, so what it raises, returns and calls must be what the rest of the package
knows: `except CircuitOpenError` catches whichever import the class came from.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    _Class = TypeVar("_Class", bound=type)
    _T = TypeVar("_T")

from backstay._native import _shared


def once(made: _Class) -> _Class:
    """Decorates a class: the first one of its name is the only one."""
    first: _Class = _shared.setdefault(made.__qualname__, made)
    return first


def shared(name: str, make: Callable[[], _T]) -> _T:
    """The process's object of this name."""
    if name not in _shared:
        _shared.setdefault(name, make())
    value: _T = _shared[name]
    return value
