"""One argument by two names, where functions of different rooms call the same thing by different words."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from interpnet.errors import InterpNetError

F = TypeVar("F", bound=Callable[..., Any])


def also_called(**names: str) -> Callable[[F], F]:
    """Let a function take arguments by another name too: ``@also_called(target="classes")``.

    Both names at once are an :class:`InterpNetError`.

    Examples
    --------
    >>> @also_called(target="classes")
    ... def shown(*, classes=None):
    ...     return classes
    >>> shown(target=3), shown(classes=3)
    (3, 3)
    """

    def enter(function: F) -> F:
        @wraps(function)
        def call(*args: Any, **given: Any) -> Any:
            for other, name in names.items():
                if other in given:
                    if name in given:
                        raise InterpNetError(f"{name} and {other} both came, which are the same; give {name} alone")
                    given[name] = given.pop(other)
            return function(*args, **given)

        call.also_called = names  # type: ignore[attr-defined]
        return call  # type: ignore[return-value]

    return enter
