"""Checks of arguments that many functions share; each names the argument, what came and what was expected."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Concatenate, ParamSpec, TypeGuard, TypeVar

import numpy as np

from interpnet.errors import InterpNetError, did_you_mean

T = TypeVar("T")
P = ParamSpec("P")


def is_whole(value: object) -> TypeGuard[int | np.integer[Any]]:
    """Whether ``value`` is a whole number, of Python's or numpy's kind; ``True`` and ``False`` are none.

    Examples
    --------
    >>> is_whole(3), is_whole(np.int64(3)), is_whole(True), is_whole(3.0)
    (True, True, False, False)
    """
    # To Python True is an int.
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether ``value`` is a real number (NaN and infinity are); ``True`` and ``False`` are none.

    Examples
    --------
    >>> is_number(0.5), is_number(np.float32(2)), is_number(True), is_number("2")
    (True, True, False, False)
    """
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def whole_number(
    value: Any,
    name: str,
    *,
    least: int | None = None,
    most: int | None = None,
    error: type[InterpNetError] = InterpNetError,
) -> int:
    """Return ``value`` as an int, or raise ``error`` where it is no whole number within the bounds.

    Examples
    --------
    >>> whole_number(np.int64(3), "steps", least=1)
    3
    """
    if is_whole(value) and (least is None or value >= least) and (most is None or value <= most):
        return int(value)
    bounds = "" if least is None else f" of at least {least}"
    if most is not None:
        bounds = f" of at most {most}" if least is None else f" from {least} to {most}"
    raise error(f"{name} is {value!r}; expected a whole number{bounds}")


def positive_number(value: Any, name: str, *, error: type[InterpNetError] = InterpNetError) -> float:
    """Return ``value`` as a float, or raise ``error`` where it is not a finite number above 0.

    Examples
    --------
    >>> positive_number(2, "mu")
    2.0
    """
    # NaN is not below infinity either.
    if is_number(value) and 0 < value < math.inf:
        return float(value)
    raise error(f"{name} is {value!r}; expected a number above 0")


def one_of(value: Any, name: str, known: Collection[str], *, error: type[InterpNetError] = InterpNetError) -> str:
    """Return ``value``, or raise ``error`` where it is none of the ``known`` names; close matches are named.

    Examples
    --------
    >>> one_of("l2", "norm", ("l2", "l2sq"))
    'l2'
    """
    if isinstance(value, str) and value in known:
        return value
    hint = did_you_mean(str(value), known)
    raise error(f"{name} is {value!r}; expected {' or '.join(map(repr, known))}{hint}")


def true_or_false(value: Any, name: str, *, error: type[InterpNetError] = InterpNetError) -> bool:
    """Return ``value`` as a bool, or raise ``error`` where it is neither ``True`` nor ``False``.

    Examples
    --------
    >>> true_or_false(np.True_, "positive")
    True
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise error(f"{name} is {value!r}; expected True or False")


def number(
    value: Any,
    name: str,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    error: type[InterpNetError] = InterpNetError,
) -> float:
    """Return ``value`` as a float, or raise ``error`` where it is not a finite number within the bounds.

    Examples
    --------
    >>> number(np.float32(0.5), "share", least=0, most=1)
    0.5
    """
    if is_number(value) and math.isfinite(value) and least <= value <= most:
        return float(value)
    bounds = "a number"
    if least > -math.inf and most < math.inf:
        bounds = f"a number from {least:g} to {most:g}"
    elif least > -math.inf:
        bounds = f"a number of at least {least:g}"
    raise error(f"{name} is {shown(value)}; expected {bounds}")


def text(value: Any, name: str, *, error: type[InterpNetError] = InterpNetError) -> str:
    """Return ``value``, or raise ``error`` where it is no string.

    Examples
    --------
    >>> text("scores", "key")
    'scores'
    """
    return instance_of(value, name, str, error=error)


def instance_of(
    value: Any, name: str, kind: type[T] | tuple[type[T], ...], *, error: type[InterpNetError] = InterpNetError
) -> T:
    """Return ``value``, or raise ``error`` where it is not of a ``kind``, or of one of several.

    Examples
    --------
    >>> instance_of("a", "name", (str, bytes))
    'a'
    """
    if isinstance(value, kind):
        return value
    kinds = kind if isinstance(kind, tuple) else (kind,)
    expected = " or ".join(one.__name__ for one in kinds)
    raise error(f"{name} is {shown(value)}, of type {type(value).__name__}; expected {expected}")


def optional(
    check: Callable[Concatenate[Any, str, P], T], value: Any, name: str, *args: P.args, **options: P.kwargs
) -> T | None:
    """Return ``None`` for ``None``, and what ``check(value, name, ...)`` returns for all else.

    Examples
    --------
    >>> optional(whole_number, None, "total", least=0), optional(whole_number, 3, "total", least=0)
    (None, 3)
    """
    return None if value is None else check(value, name, *args, **options)


def listed(values: Any, name: str, *, error: type[InterpNetError] = InterpNetError) -> list[Any]:
    """Return the entries of ``values``, or raise ``error`` where it is no list of several things (a string is one).

    Examples
    --------
    >>> listed((1, 2), "numbers")
    [1, 2]
    """
    if isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping):
        return list(values)
    raise error(f"{name} is {shown(values)}; expected a list")


def distinct_names(values: Any, name: str, *, error: type[InterpNetError] = InterpNetError) -> tuple[str, ...]:
    """Return names as a tuple, or raise ``error`` where one is no string or stands twice.

    Examples
    --------
    >>> distinct_names(["cat", "dog"], "classes")
    ('cat', 'dog')
    """
    names = listed(values, name, error=error)
    for one in names:
        text(one, f"a name in {name}", error=error)
    if len(set(names)) < len(names):
        twice = max(names, key=names.count)
        raise error(f"{name} has {twice!r} {names.count(twice)} times; every name must be its own")
    return tuple(names)


def shown(value: object, most: int = 80) -> str:
    """Return what came, as words that fit into a message.

    Examples
    --------
    >>> shown("yes"), shown(np.zeros((2, 3)))
    ("'yes'", 'an ndarray (2, 3) of float64')
    """
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape and not isinstance(value, type):
        return f"an {type(value).__name__} {tuple(shape)} of {getattr(value, 'dtype', 'unknown type')}"
    words = repr(value)
    if len(words) <= most:
        return words
    return f"{words[:most]}..."
