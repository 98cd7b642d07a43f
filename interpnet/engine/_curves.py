"""What function a pointwise expression is, by its values at some numbers."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor

from interpnet.engine._expressions import Constant, Map, Result, evaluate, filled

# On both sides of every kink that activations have, and far out.
_PLACES = (-20.0, -9.0, -6.5, -5.5, -3.5, -2.5, -1.5, -0.75, -0.25, -0.01, 0.0)
_AT = torch.tensor([*_PLACES, *(-p for p in reversed(_PLACES[:-1]))], dtype=torch.float64)
_ZERO = len(_PLACES) - 1
# Constants are float32 in most networks.
_CLOSE = 1e-6

_KNOWN: dict[Hashable, str] = {}
_MOST_KNOWN = 4096


def curve_of(result: Result, start: Map | Result) -> str:
    """Return the operator that a result is as a function of ``start``: relu, leaky_relu, relu6, by_hand, or a word.

    ``"by_hand"`` are the smooth rectifiers: near 0 far to the left, and the identity far to the right. The words are
    ``"known"`` for the values of an activation in it, ``"hinged"`` for a rectifier that is scaled or shifted,
    ``"bent"`` and ``"curved"`` for other functions with and without kinks, and ``""`` for what is straight between -20
    and 20 or makes something else of an activation.
    """
    # With an activation in it, the same function has another word.
    key = (result.tamed, _key(result, start))
    curve = _KNOWN.get(key)
    if curve is None:
        # Another thread may clear it meanwhile.
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        curve = _measured(result, start)
        _KNOWN[key] = curve
    return curve


def _key(part: Any, start: Map | Result) -> Hashable:
    """Return what two expressions of the same function share."""
    if part is start:
        return "start"
    if isinstance(part, Constant):
        return ("constant", *_extremes(part))
    if isinstance(part, Result):
        named = [(name, _key(value, start)) for name, value in part.kwargs.items()]
        return (part.func, part.writes, *[_key(a, start) for a in part.args], *named)
    return repr(part)


def _extremes(part: Constant) -> tuple[float, ...]:
    if part.tensor is None:
        return (part.value,)
    if part.tensor.device.type == "meta" or part.tensor.numel() == 0:
        return (float("nan"),)
    values = part.tensor.detach()
    if values.is_complex():
        return (float("nan"),)
    # A slope for each channel, say: the smallest and the largest stand for all.
    return tuple({float(values.min()), float(values.max())})


def _measured(result: Result, start: Map | Result) -> str:
    names = {_named(result, start, largest=largest) for largest in (False, True)}
    # The slope is zero in some channel.
    if "leaky_relu" in names and names <= {"relu", "leaky_relu", "known"}:
        return "leaky_relu"
    if len(names) > 1:
        # Another function in other channels has no name.
        return "bent"
    return names.pop()


def _named(result: Result, start: Map | Result, *, largest: bool) -> str:
    y = _values(result, start, largest=largest)
    if y is None:
        return ""
    inner = [_values(part, start, largest=largest) for part in result.parts if part.done and part is not start]
    if any(known is not None and _same(y, known) for known in inner):
        return "known"
    if _straight(y):
        return ""
    name = _rectifier(y)
    # What an activation is in needs no second one.
    if name or result.tamed:
        return name
    if _hinged(y):
        return "hinged"
    if result.bends:
        return "bent"
    return "curved"


def _values(result: Result, start: Map | Result, *, largest: bool) -> Tensor | None:
    """Return the values at the places, ``None`` where they cannot be computed or are not finite."""

    def constant(part: Constant, x: Tensor) -> Tensor:
        ends = sorted(_extremes(part))
        return filled(part, x, ends[-1 if largest else 0])

    try:
        with torch.no_grad():
            y = evaluate(result, start, _AT.clone(), constant)
    except (RuntimeError, TypeError, ValueError, IndexError):
        # An operator that needs more axes, say: no function of single values.
        return None
    if y.shape != _AT.shape or not bool(torch.isfinite(y).all()):
        return None
    return y.to(_AT.dtype)


def _same(a: Tensor, b: Tensor) -> bool:
    return bool(((a - b).abs() <= _CLOSE * b.abs()).all())


def _straight(y: Tensor) -> bool:
    slope = (y[-1] - y[0]) / (_AT[-1] - _AT[0])
    return bool(((y - y[_ZERO] - slope * _AT).abs() <= _CLOSE * (1 + y.abs().max())).all())


def _hinged(y: Tensor) -> bool:
    """Whether values are level on the left and rise on the right, and not only kept off zero by a small bound."""
    level = abs(float(y[1] - y[0])) < _CLOSE * (1 + abs(float(y[0])))
    rises = float(y[-1] - y[-2]) > _CLOSE
    return level and rises and float((y - _AT.clamp(min=0)).abs().max()) > 0.01


def _rectifier(y: Tensor) -> str:
    """Return the rectifier that has the values, ``""`` for none."""
    left = y[:_ZERO]
    right = y[_ZERO + 1 :]
    z = _AT[_ZERO + 1 :]
    slope = float(y[0] / _AT[0])
    cap = float(right[-1])
    if float(y[_ZERO]) == 0 and _same(right, z):
        if not bool(left.any()):
            return "relu"
        # Slopes that are learnt may be negative; at -1 it would be the absolute value.
        if -1 < slope < 1 and _same(left, slope * _AT[:_ZERO]):
            return "leaky_relu"
    if not bool(y[: _ZERO + 1].any()) and cap > 0 and _same(right, z.clamp(max=cap)):
        return "relu6"
    # Smooth ones: SiLU dips to -0.28, softplus is 0.69 at zero. One that is level up to its kink has it elsewhere.
    ends = abs(float(left[0])) < 1e-5 and abs(cap - float(z[-1])) < 1e-3
    bounded = float((left - left[0]).abs().max()) < 1 and bool((right > 0).all()) and bool((right.diff() > 0).all())
    shifted = _same(y, _AT.clamp(min=float(left[0])))
    if ends and bounded and not shifted and -0.1 < float(y[_ZERO]) < 1:
        return "by_hand"
    # ELU goes to -1.
    elu = float(y[_ZERO]) == 0 and _same(right, z) and -2 < float(left[0]) < 0 and bool((left.diff() >= 0).all())
    if elu:
        return "by_hand"
    return ""
