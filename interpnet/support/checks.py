"""Checks of arguments that many functions share; each names the argument, what came and what was expected."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, TypeGuard

import numpy as np

from interpnet.errors import InterpNetError, did_you_mean


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
