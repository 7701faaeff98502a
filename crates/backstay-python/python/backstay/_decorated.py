"""The types of decorated functions: for type checkers alone, since at run time they are functions."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec, Protocol, TypeVar, overload

    from typing_extensions import Self

    from backstay.circuit_breaker import CircuitBreaker
    from backstay.rate_limiter import RateLimiter

    _P = ParamSpec("_P")
    _P2 = ParamSpec("_P2")
    _R = TypeVar("_R")
    _R_co = TypeVar("_R_co", covariant=True)
    _T = TypeVar("_T")
    _T_contra = TypeVar("_T_contra", contravariant=True)

    class _TakesClass(Protocol[_T_contra, _P, _R_co]):
        """A function whose first parameter is a class: that of a class method."""

        def __call__(self, cls: type[_T_contra], /, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...

    class _TakesInstance(Protocol[_T_contra, _P, _R_co]):
        """A function whose first parameter is an instance: that of a method."""

        def __call__(self, instance: _T_contra, /, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...

    class _Decorated(Protocol[_P, _R_co]):
        """A function, which binds as a method, and also below `@classmethod`, `@staticmethod` and `@property`."""

        __name__: str
        __qualname__: str

        @property
        def __wrapped__(self) -> Callable[_P, _R_co]: ...
        def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...
        @overload
        def __get__(
            self: _TakesClass[_T, _P2, _R], instance: _T | None, owner: type[_T], /
        ) -> Callable[_P2, _R]: ...
        @overload
        def __get__(self, instance: None, owner: type, /) -> Self: ...
        @overload
        def __get__(
            self: _TakesInstance[_T, _P2, _R], instance: _T, owner: type, /
        ) -> Callable[_P2, _R]: ...
        @overload
        def __get__(self, instance: object, owner: type, /) -> Callable[_P, _R_co]: ...

    class _Guarded(_Decorated[_P, _R_co], Protocol[_P, _R_co]):
        """A function that is called through a circuit breaker."""

        _circuit_breaker: CircuitBreaker

    class _Limited(_Decorated[_P, _R_co], Protocol[_P, _R_co]):
        """A function that takes a token of a rate limiter before each call."""

        _rate_limiter: RateLimiter
