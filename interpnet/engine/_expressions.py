"""Expressions: how one tensor was made, value by value, from one map and constants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import ref

import torch
from torch import Tensor

from interpnet.engine._operators import Operator


@dataclass(eq=False, slots=True)
class Map:
    """A tensor that expressions start from: what some other operator made."""

    tensor: ref[Tensor]
    shape: torch.Size

    @property
    def root(self) -> Map:
        """The map itself."""
        return self


@dataclass(eq=False, slots=True)
class Constant:
    """A tensor that does not depend on the images: of one known value, or any."""

    shape: torch.Size
    value: Any = None
    tensor: Tensor | None = None
    root: None = None


@dataclass(eq=False, slots=True)
class Result:
    """What a pointwise operator made of one map and of constants."""

    func: Callable[..., Any]
    operator: Operator
    # As they were given, with an expression in the place of each tensor.
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    root: Map
    # It overwrites its first argument.
    writes: bool
    depth: int
    # True and False; True and False as numbers; values picked by a mask, which have lost their places.
    boolean: bool = False
    cast: bool = False
    picked: bool = False
    # More than sums and products with constants; it may have a kink.
    curved: bool = False
    bends: bool = False
    # An activation; the same, or one scaled and shifted: what is made of it alone is no activation written by hand.
    active: bool = False
    done: bool = False
    # An activation is in it.
    tamed: bool = False
    # What it is by its values, see curve_of(), as a function of what: its map, or an activation of it.
    curve: str = ""
    start: Map | Result | None = None
    # Of an activation: its own tensor, another activation may start there.
    tensor: ref[Tensor] | None = None

    @property
    def parts(self) -> Iterator[Result]:
        """The results that it was made of."""
        return (a for a in (*self.args, *self.kwargs.values()) if isinstance(a, Result))

    @property
    def rectifies(self) -> bool:
        """Whether it is a rectifier written by hand."""
        return self.curve not in {"", "known", "hinged", "bent", "curved"}


Expression = Map | Constant | Result


def starts(result: Result) -> list[Map | Result]:
    """Return what a result is a function of: the activations that all of its map goes through, latest first; the map.

    Of ``swish(relu(x))`` these are the rectifier and x.
    """
    inside = {id(part): part for part in _inside(result) if part.active}
    found = [part for part in inside.values() if not _reaches(result, part)]
    return [*sorted(found, key=lambda part: -part.depth), result.root]


def _inside(result: Result) -> Iterator[Result]:
    for part in result.parts:
        yield part
        yield from _inside(part)


def _reaches(result: Result, without: Result) -> bool:
    """Whether some way from a result to its map does not go through a part."""
    own = [a for a in (*result.args, *result.kwargs.values()) if isinstance(a, Map | Result) and a is not without]
    return any(isinstance(a, Map) or _reaches(a, without) for a in own)


def evaluate(
    expression: Expression,
    start: Map | Result | None,
    x: Tensor,
    constant: Callable[[Constant, Tensor], Tensor] | None = None,
) -> Tensor:
    """Return the value of an expression with ``x`` in the place of ``start``; gradients are recorded as usual."""
    done: dict[int, Tensor] = {}

    def value(part: Any) -> Any:
        if part is start:
            return x
        if isinstance(part, Constant):
            return (constant or _constant)(part, x)
        if not isinstance(part, Result):
            return part
        if id(part) not in done:
            done[id(part)] = _run(part, [value(a) for a in part.args], {n: value(a) for n, a in part.kwargs.items()}, x)
        return done[id(part)]

    result: Tensor = value(expression)
    return result


def _run(part: Result, args: list[Any], kwargs: dict[str, Any], x: Tensor) -> Tensor:
    if part.cast:
        # Whatever the type of number.
        mask: Tensor = next(a for a in (*args, *kwargs.values()) if isinstance(a, Tensor))
        return mask.to(x.dtype)
    if part.writes:
        # What it overwrites may be wanted by another part.
        args[0] = args[0].clone()
    out: Tensor | None = part.func(*args, **kwargs)
    if out is None:
        # An assignment returns nothing.
        out = args[0]
    return out


def _constant(part: Constant, x: Tensor) -> Tensor:
    if part.tensor is not None:
        return part.tensor
    return filled(part, x, part.value)


def filled(part: Constant, x: Tensor, value: float) -> Tensor:
    """Return ``value`` in the place of a constant: as a number where that has one, else in the shape of ``x``."""
    # What is made by zeros_like may be assigned to, also for a map of one number.
    if part.tensor is None and (part.shape.numel() > 1 or len(part.shape) > 1):
        return torch.full_like(x, value)
    return x.new_full((), value)
