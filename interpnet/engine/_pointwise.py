"""How the results of one pass were made, value by value, from one map each: what finds activations written by hand.

``x * (x > 0)``, ``torch.where(x > 0, x, zeros)``, ``(x + x.abs()) / 2`` and ``x[x < 0] = 0`` compute one function. No
list of spellings is kept. Each result of a pointwise operator remembers the operator and where its arguments came
from, as long as all of them come from one map. Such an expression is evaluated at some numbers (:mod:`._curves`), and
what has the values of a rectifier is one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn

from interpnet.engine._call import overwrites, times_written
from interpnet.engine._curves import curve_of
from interpnet.engine._expressions import Constant, Expression, Map, Result, starts
from interpnet.engine._operators import Operator, argument

_ACTIVE = frozenset({"rectifier", "activation"})
# What zeros and ones fill with; other operators are given their number.
_ALWAYS = {-1: 0.0, -2: 1.0}
# Longer expressions are no activation of any network, and evaluating them goes one level down for each step.
_DEEPEST = 24


@dataclass(eq=False, slots=True)
class _Known:
    """An entry of :class:`Expressions`: a tensor, the number of times it was written to, and its expression."""

    tensor: ref[Tensor]
    version: int
    expression: Expression
    # The map that it was made of: a backward rule may ask for it as long as the tensor lives.
    kept: Tensor | None = None


class Expressions:
    """The expressions of one pass, by tensor; it keeps no tensor alive."""

    def __init__(self, model: nn.Module) -> None:
        held = [value for m in model.modules() for value in vars(m).values() if isinstance(value, Tensor)]
        # Kept, so that no tensor of a pass can have the identity of one of them.
        self._own = {id(t): t for t in [*model.parameters(), *model.buffers(), *held]}
        self._known: dict[int, _Known] = {}

    def clear(self) -> None:
        self._known.clear()

    def of(self, tensor: Tensor) -> Expression | None:
        """Return what is known of a tensor, unless it was written to since."""
        known = self._known.get(id(tensor))
        if known is not None and known.tensor() is tensor and known.version == times_written(tensor):
            return known.expression
        # No batch fits into a tensor of no axis.
        if id(tensor) in self._own or tensor.dim() == 0 or (tensor.dim() == 1 and tensor.numel() == 1):
            return Constant(tensor.shape, tensor=tensor)
        return None

    def made_by(
        self,
        func: Callable[..., Any],
        row: Operator,
        kind: str | None,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Result | Constant | None:
        """Return what a call of a pointwise operator is about to make, ``None`` where it has several maps or none."""
        if kind in _ACTIVE and len(args) == 1:
            return self._activation(func, row, args, kwargs)
        if row.fills is not None:
            return _filled(row.fills, args, kwargs)
        # Slices move values; a mask picks them.
        if row.name == "getitem" and not isinstance(args[1], Tensor):
            return None
        if "out" in kwargs:
            return None
        found = self._arguments((*args, *kwargs.values()))
        if found is None:
            return None
        root, depth, expressions = found
        if root is None:
            constant = next(iter(expressions.values()), None)
            if row.copies and isinstance(constant, Constant):
                return constant
            return None
        if depth > _DEEPEST:
            return None
        given = tuple(expressions.get(id(a), a) for a in args)
        named = {name: expressions.get(id(a), a) for name, a in kwargs.items()}
        result = Result(func, row, given, named, root, overwrites(func, args, kwargs), depth + 1)
        if not _describe(result, kind):
            return None
        if kind not in _ACTIVE and not (row.copies or result.boolean or result.picked):
            _name(result)
        return result

    def _activation(
        self, func: Callable[..., Any], row: Operator, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Result | None:
        """Return what an activation makes of one tensor: what most calls are, so it is short."""
        x = args[0]
        known = self.of(x)
        if known is None:
            known = Map(ref(x), x.shape)
            self._enter(x, known)
        root = known.root
        if root is None:
            return None
        result = Result(func, row, (known,), dict(kwargs), root, overwrites(func, args, kwargs), 1)
        if isinstance(known, Result):
            result.depth = known.depth + 1
        result.curved = result.active = result.done = True
        return result

    def _arguments(self, values: tuple[Any, ...]) -> tuple[Map | None, int, dict[int, Expression]] | None:
        """Return the one map of a call's tensors, their depth and expressions; ``None`` for several maps."""
        root: Map | None = None
        fresh: Tensor | None = None
        depth = 0
        expressions: dict[int, Expression] = {}
        for value in values:
            if isinstance(value, list | tuple) and any(isinstance(v, Tensor) for v in value):
                return None
            if not isinstance(value, Tensor):
                continue
            known = self.of(value)
            if known is None:
                if fresh is not None and fresh is not value:
                    return None
                fresh = value
                continue
            expressions[id(value)] = known
            if isinstance(known, Result):
                depth = max(depth, known.depth)
            if known.root is not None:
                if root is not None and root is not known.root:
                    return None
                root = known.root
        if fresh is not None:
            if root is not None or not fresh.is_floating_point():
                return None
            root = Map(ref(fresh), fresh.shape)
            self._enter(fresh, root)
            expressions[id(fresh)] = root
        return root, depth, expressions

    def settle(self, made: Result | Constant, out: Any) -> None:
        """Enter what a call made; ``out`` is what it overwrote where it returned nothing."""
        if not isinstance(out, Tensor):
            return
        expression: Expression | None = made
        kept = None
        if isinstance(made, Constant):
            if made.tensor is None:
                expression = Constant(out.shape, made.value)
        elif not made.picked and out.shape != made.root.shape:
            expression = None
        elif made.operator.copies and (not made.cast or out.dtype == torch.bool):
            expression = _copied(made, out)
        elif made.active:
            # Without the map, which its rule lets go of: that saves most memory.
            made.tensor = ref(out)
        elif torch.is_grad_enabled() and not made.done:
            # Without gradients no rule asks for the map.
            kept = made.root.tensor()
        if expression is None:
            self.forget(out)
        else:
            self._enter(out, expression, kept)

    def forget(self, tensor: Tensor) -> None:
        """Forget a tensor that was overwritten."""
        self._known.pop(id(tensor), None)

    def start_of(self, made: Result) -> Tensor | None:
        """Return the tensor that a result is a function of, if it still holds the values that were used."""
        if made.start is None or made.start.tensor is None:
            return None
        tensor = made.start.tensor()
        if tensor is None or self.of(tensor) is not made.start:
            return None
        return tensor

    def _enter(self, tensor: Tensor, expression: Expression, kept: Tensor | None = None) -> None:
        key = id(tensor)
        alive = ref(tensor)
        if kept is not None:
            # Another entry may have the identity of the dead tensor by then. Most entries keep nothing and may wait for
            # the end of the pass.
            known = self._known

            def gone(dead: ref[Tensor]) -> None:
                entry = known.get(key)
                if entry is not None and entry.tensor is dead:
                    del known[key]

            alive = ref(tensor, gone)
        self._known[key] = _Known(alive, times_written(tensor), expression, kept)


def _copied(made: Result, out: Tensor) -> Expression | None:
    """Return what a copy is a copy of, ``None`` where it has lost numbers."""
    if not made.cast and not out.is_floating_point():
        return None
    return next(a for a in (*made.args, *made.kwargs.values()) if isinstance(a, Map | Result))


def _filled(position: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Constant | None:
    """Return the constant that ``zeros``, ``full`` and the like make; see :attr:`Operator.fills`."""
    value: Any = _ALWAYS.get(position)
    if value is None:
        value = argument(args, kwargs, position, "fill_value")
    if isinstance(value, int | float):
        # Its shape is known once it is made.
        return Constant(torch.Size(), float(value))
    return None


def _describe(result: Result, kind: str | None) -> bool:
    """Say what a result is made of; ``False`` where it is no pointwise function of its map after all."""
    row = result.operator
    own = [a for a in (*result.args, *result.kwargs.values()) if isinstance(a, Map | Result)]
    parts = list(result.parts)
    constants = [a for a in (*result.args, *result.kwargs.values()) if isinstance(a, Constant)]
    if row.name in {"max", "min"} and len(own) + len(constants) < 2:
        return False  # over positions
    if row.name == "where" and len(result.args) + len(result.kwargs) == 1:
        return False  # the positions of a mask
    size = result.root.shape
    if any(not _fits(c.shape, size) for c in constants):
        return False
    boolean = any(p.boolean for p in parts)
    picked = any(p.picked for p in parts)
    if row.name in {"getitem", "setitem"}:
        key = result.args[1]
        if not isinstance(key, Result) or not key.boolean:
            return False
    result.picked = row.name == "getitem" or (picked and row.name != "setitem")
    result.boolean = row.compares
    if row.copies and boolean:
        # A step.
        result.cast = result.bends = result.curved = True
        return True
    # A sum of two results is as straight as they are, a product is not.
    linear = row.affine and (len(own) < 2 or row.kind == "add")
    result.bends = row.bends or boolean or any(p.bends for p in parts)
    result.curved = not linear or any(p.curved for p in parts)
    result.tamed = any(p.tamed or p.active for p in parts)
    if kind in _ACTIVE:
        result.active = result.done = True
    elif linear and len(own) == 1 and parts:
        result.done = parts[0].done
    return True


def _name(result: Result) -> None:
    """Say what function a result is, and of what."""
    if result.done or not result.curved:
        return
    for start in starts(result):
        result.start = start
        result.curve = curve_of(result, start)
        if result.rectifies:
            result.active = True
            break
    result.done = result.active or result.curve == "known"


def _fits(shape: torch.Size, size: torch.Size) -> bool:
    """Whether a constant of a shape leaves the shape of a map as it is."""
    if len(shape) > len(size):
        return False
    pairs = zip(reversed(shape), reversed(size), strict=False)
    return all(n in {1, m} for n, m in pairs)
