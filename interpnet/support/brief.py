"""How results show themselves: on one line, and as a small table in a notebook, whatever the size of their arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from dataclasses import fields
from html import escape
from typing import Any, TypeVar

_LONGEST = 60  # letters of a value
Kind = TypeVar("Kind", bound=type)


def brief(kind: Kind) -> Kind:
    """Let instances of a dataclass show each field briefly: an array by its type and shape, a long list by its size.

    Examples
    --------
    >>> import numpy as np
    >>> from dataclasses import dataclass
    >>> @brief
    ... @dataclass
    ... class Found:
    ...     mu: float
    ...     coef: np.ndarray
    >>> Found(5.0, np.zeros((10, 48)))
    Found(mu=5.0, coef=float64 (10, 48))
    """

    def text(self: Any) -> str:
        return f"{kind.__name__}({', '.join(f'{name}={value}' for name, value in _shown(self))})"

    def html(self: Any) -> str:
        cells = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{escape(value)}</td></tr>"
            for name, value in _shown(self)
        )
        return f"<b>{kind.__name__}</b><table>{cells}</table>"

    setattr(kind, "__repr__", text)  # noqa: B010 - of a class that is known at run time only
    setattr(kind, "_repr_html_", html)  # noqa: B010
    return kind


def _shown(result: Any) -> Iterable[tuple[str, str]]:
    """Yield the names and the brief values of what a result holds; what is not known is left out."""
    for entry in fields(result):
        value = getattr(result, entry.name)
        if entry.repr and not entry.name.startswith("_") and value is not None:
            yield entry.name, _brief(value)


def _brief(value: Any) -> str:
    shape = getattr(value, "shape", None)
    dtype = getattr(value, "dtype", None)
    # A number of numpy's or torch's has a shape, too, but no axes.
    if shape is not None and dtype is not None and len(shape):
        return f"{str(dtype).removeprefix('torch.')} ({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"
    # Without the text of arrays within.
    if isinstance(value, list | tuple | Mapping) and len(value) > _LONGEST // 2:
        return _counted(value)
    text = repr(value)
    if len(text) <= _LONGEST and "\n" not in text:
        return text
    if isinstance(value, str):
        return f"{text[:_LONGEST]}..."
    if isinstance(value, Sized):
        return _counted(value)
    return f"{type(value).__name__}(...)"


def _counted(values: Sized) -> str:
    words = {True: "entry", False: "entries"}[len(values) == 1]
    return f"{type(values).__name__} of {len(values):,} {words}"
