"""Which axis of a tensor holds the channels, and which input pixels each of its positions sees.

The channel axis is set by a convolution or linear map and followed exactly (docs/engine.md). Where an operator loses
it, the layout says which one did, and no guess is made.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from interpnet.engine._call import Call


@dataclass(frozen=True)
class Field:
    """The receptive field along one axis: position i sees input positions lo + i*jump to hi + i*jump."""

    # The spatial axis of the images that it refers to, 0 for the first.
    axis: int
    lo: float = 0.0
    hi: float = 0.0
    jump: float = 1.0

    def window(self, kernel: int, stride: int, before: int, dilation: int = 1) -> Field:
        """Return the field after a window (convolution or pooling) of ``kernel`` positions."""
        # Araujo, Norris & Sim, "Computing receptive fields of convolutional neural networks", Distill 2019.
        reach = dilation * (kernel - 1)
        lo = self.lo - before * self.jump
        hi = self.hi + (reach - before) * self.jump
        return Field(self.axis, lo, hi, self.jump * stride)

    def moved(self, positions: int, step: int = 1) -> Field:
        """Return the field of the positions from ``positions`` on, every ``step``-th."""
        shift = positions * self.jump
        return Field(self.axis, self.lo + shift, self.hi + shift, self.jump * step)

    def union(self, other: Field) -> Field | None:
        """Return the field that covers both; ``None`` (the whole axis) where their grids differ."""
        if other.axis != self.axis or not math.isclose(other.jump, self.jump):
            return None
        return Field(self.axis, min(self.lo, other.lo), max(self.hi, other.hi), self.jump)


@dataclass(frozen=True)
class Layout:
    """The channel axis of a tensor (``None``: lost, see ``why``) and the fields of its spatial axes."""

    axis: int | None
    # An axis that is missing here sees the whole input along every axis.
    fields: Mapping[int, Field] = field(default_factory=dict)
    why: str = ""

    def without(self, axes: Collection[int]) -> Layout:
        """Return the layout of a tensor whose positions along ``axes`` see everything that any of them saw."""
        return replace(self, fields={a: f for a, f in self.fields.items() if a not in axes})

    def renumbered(self, new_axis_of: Mapping[int, int], op: str) -> Layout:
        """Return the layout after ``op`` has moved the axes; one that is missing in ``new_axis_of`` is gone."""
        fields = {new_axis_of[a]: f for a, f in self.fields.items() if a in new_axis_of}
        if self.axis is None:
            return Layout(None, fields, self.why)
        if self.axis not in new_axis_of:
            return Layout(None, fields, f"{op!r} merged or removed the channel axis")
        return Layout(new_axis_of[self.axis], fields)


def input_layout(x: Tensor) -> Layout:
    """Return the layout of a batch of images (B, C, ...)."""
    return Layout(1, {a: Field(a - 2) for a in range(2, x.dim())})


Inputs = Sequence[tuple[Tensor, Layout]]


def propagate(call: Call, out: Tensor, inputs: Inputs) -> Layout:
    """Return the layout of ``out``, made by ``call`` from tensors of known layout (with their shapes now)."""
    axes = call.operator.axes
    # Weights put the channels where they belong, whatever came in.
    if not inputs and axes not in {"convolution", "transposed", "features"}:
        return Layout(None, why=f"the output of {call.op!r} does not depend on the images by a followed path")
    if axes in _RULES:
        return _RULES[axes](call, out, inputs)
    return Layout(None, why=f"{call.op!r} is not known to keep the channel axis")


def _features(_call: Call, out: Tensor, inputs: Inputs) -> Layout:
    """Put the channels on the last axis; where they were there before, the other axes stay."""
    last = out.dim() - 1
    if not inputs or inputs[0][1].axis != last:
        return Layout(last)
    return Layout(last, inputs[0][1].without({last}).fields)


def _convolution(call: Call, out: Tensor, inputs: Inputs) -> Layout:
    n = call.operator.dimensions
    if out.dim() != n + 2:
        return Layout(None, why=f"{call.op!r} was called without a batch axis")
    # A transposed convolution spreads each position over several; its fields are not followed.
    if not inputs or not call.operator.convolves:
        return Layout(1)
    kernel = call.argument(1, "weight").shape[2:]
    how = call.convolution()
    fields = {
        a: f.window(int(kernel[a - 2]), how.stride[a - 2], how.padding[a - 2][0], how.dilation[a - 2])
        for a, f in inputs[0][1].fields.items()
        if a >= 2
    }
    return Layout(1, fields)


def _same(_call: Call, out: Tensor, inputs: Inputs) -> Layout:
    """Merge the operands that have the output's shape; broadcast ones (gates, biases) only scale it."""
    full = [layout for x, layout in inputs if x.shape == out.shape]
    if not full:
        return Layout(None, why="broadcasting changed the axes")
    return functools.reduce(_merge, full)


def _merge(a: Layout, b: Layout) -> Layout:
    # Where one operand's channel axis was lost, the sum has the other's; its positions see nobody knows what.
    if a.axis is None or b.axis is None:
        known = [layout.axis for layout in (a, b) if layout.axis is not None]
        return Layout(next(iter(known), None), {}, a.why or b.why)
    if a.axis != b.axis:
        return Layout(None, why="two maps with different channel axes were combined")
    unions = {axis: a.fields[axis].union(b.fields[axis]) for axis in a.fields.keys() & b.fields.keys()}
    return Layout(a.axis, {axis: union for axis, union in unions.items() if union is not None})


def _placeless(_call: Call, _out: Tensor, inputs: Inputs) -> Layout:
    """Keep the axes; where along them a value came from is not followed."""
    return replace(inputs[0][1], fields={})


def _pool(call: Call, out: Tensor, inputs: Inputs) -> Layout:
    x, layout = inputs[0]
    first = x.dim() - call.operator.dimensions
    fields = {a: f for a, f in layout.fields.items() if a < first}
    for a, window in enumerate(_windows(call, x, out), start=first):
        if a in layout.fields and window:
            fields[a] = layout.fields[a].window(*window)
    return Layout(layout.axis, fields, layout.why)


def _windows(call: Call, x: Tensor, out: Tensor) -> list[tuple[int, ...]]:
    """Return (kernel, stride, padding, dilation) of a pooling along each axis; ``()`` where windows differ in size."""
    n = call.operator.dimensions
    if call.op.startswith("adaptive"):
        sizes = zip(x.shape[-n:], out.shape[-n:], strict=True)
        return [(a // b, a // b, 0, 1) if b > 1 and a % b == 0 else () for a, b in sizes]
    window = call.pooling()
    return list(zip(window.kernel, window.stride, window.padding, window.dilation, strict=True))


def _reduce(call: Call, out: Tensor, inputs: Inputs) -> Layout:
    x, layout = inputs[0]
    dims = call.argument(1, "dim")
    if dims is None:
        dims = range(x.dim())
    elif isinstance(dims, int):
        dims = (dims,)
    gone = {d % x.dim() for d in dims}
    if layout.axis in gone:
        return Layout(None, why="the channel axis was summed over")
    kept = [a for a in range(x.dim()) if a not in gone]
    # With keepdim the axes that were summed over stay, with size 1.
    new = kept if out.dim() == x.dim() else range(len(kept))
    return layout.renumbered(dict(zip(kept, new, strict=True)), "mean")


def order_of(call: Call, dimensions: int) -> list[int]:
    """Return which axis of its input each axis of a permuted tensor is.

    Examples
    --------
    >>> import torch
    >>> order_of(Call(torch.movedim, (torch.zeros(2, 3, 4), 0, -1), {}, "movedim", None, "", ""), 3)
    [1, 2, 0]
    """
    if call.op == "permute":
        dims = call.argument(1, "dims")
        if isinstance(dims, int):
            dims = call.args[1:]
        return [int(d) % dimensions for d in dims]
    ends = [call.argument(1, "source"), call.argument(2, "destination")]
    source, destination = ([int(d) % dimensions for d in ([end] if isinstance(end, int) else end)] for end in ends)
    order = [d for d in range(dimensions) if d not in source]
    for to, d in sorted(zip(destination, source, strict=True)):
        order.insert(to, d)
    return order


def _permute(call: Call, _out: Tensor, inputs: Inputs) -> Layout:
    x, layout = inputs[0]
    return layout.renumbered({d: i for i, d in enumerate(order_of(call, x.dim()))}, "permute")


def _copied(call: Call, out: Tensor, inputs: Inputs) -> Layout:
    x, layout = inputs[-1]
    if x.shape != out.shape:
        return Layout(None, why=f"{call.op!r} broadcast what it copied")
    return layout


def _transpose(call: Call, _out: Tensor, inputs: Inputs) -> Layout:
    x, layout = inputs[0]
    first = int(call.argument(1, "dim0", call.kwargs.get("axis0", 0))) % x.dim()
    second = int(call.argument(2, "dim1", call.kwargs.get("axis1", 1))) % x.dim()
    return layout.renumbered({a: a for a in range(x.dim())} | {first: second, second: first}, "transpose")


def _reshape(_call: Call, out: Tensor, inputs: Inputs) -> Layout:
    """Follow every axis that survives whole: the same size, with as many elements before it."""
    x, layout = inputs[0]
    # An axis is known again by its size and by how many elements lie before it.
    old = {(math.prod(x.shape[:a]), x.shape[a]): a for a in reversed(range(x.dim())) if x.shape[a] > 1}
    mapping: dict[int, int] = {}
    for b in range(out.dim()):
        a = old.get((math.prod(out.shape[:b]), out.shape[b]))
        if a is not None:
            mapping.setdefault(a, b)
    axis = layout.axis
    if axis is not None and axis < out.dim():
        # A single channel looks like any other axis of size 1; it is the same one where nothing before it moved.
        unmoved = math.prod(x.shape[:axis]) == math.prod(out.shape[:axis])
        if unmoved and x.shape[axis] == out.shape[axis] == 1:
            mapping.setdefault(axis, axis)
    return layout.renumbered(mapping, "reshape")


def _getitem(call: Call, _out: Tensor, inputs: Inputs) -> Layout:
    x, layout = inputs[0]
    key = slices_of(call.args[1], x)
    if key is None:
        return Layout(None, why="indexing with a tensor")
    mapping: dict[int, int] = {}
    fields = dict(layout.fields)
    old = 0
    new = 0
    for k in key:
        if isinstance(k, slice):
            start, _, step = k.indices(x.shape[old])
            if old in fields:
                fields[old] = fields[old].moved(start, step)
            mapping[old] = new
        # A number takes its axis away, None adds one.
        old += k is not None
        new += k is None or isinstance(k, slice)
    return replace(layout, fields=fields).renumbered(mapping, "indexing")


def _setitem(call: Call, out: Tensor, inputs: Inputs) -> Layout:
    """Keep the axes of what is written to; where it had none, take those of what fills a part of it."""
    target = next((layout for x, layout in inputs if x is out), None)
    filling = [layout for x, layout in inputs if x is not out and x.dim() == out.dim() and x.is_floating_point()]
    # Where the values of a part came from is not followed.
    if target is not None:
        if not filling:
            return target
        return replace(target, fields={})
    key = slices_of(call.args[1], out)
    if filling and key is not None and all(isinstance(k, slice) for k in key):
        return Layout(filling[0].axis, {}, filling[0].why)
    return Layout(None, why="assigning to parts of a tensor")


def slices_of(key: Any, x: Tensor) -> list[Any] | None:
    """Return the key of ``x[key]`` with an ellipsis and left-off axes written out; ``None`` for tensors and lists.

    Examples
    --------
    >>> import torch
    >>> slices_of((0, ..., None), torch.zeros(2, 3, 4))
    [0, slice(None, None, None), slice(None, None, None), None]
    """
    parts: list[Any] = list(key) if isinstance(key, tuple) else [key]
    if any(isinstance(k, Tensor | list) for k in parts):
        return None
    rest = [slice(None)] * (x.dim() - sum(k is not None and k is not Ellipsis for k in parts))
    at = next((i for i, k in enumerate(parts) if k is Ellipsis), len(parts))
    return parts[:at] + rest + parts[at + 1 :]


def _pad(call: Call, _out: Tensor, inputs: Inputs) -> Layout:
    x, layout = inputs[0]
    fields = dict(layout.fields)
    # torch gives (before, after) of the last axis first.
    for i, before in enumerate(call.argument(1, "pad")[::2], start=1):
        if x.dim() - i in fields:
            fields[x.dim() - i] = fields[x.dim() - i].moved(-int(before))
    return replace(layout, fields=fields)


def _cat(call: Call, out: Tensor, inputs: Inputs) -> Layout:
    dim = int(call.argument(1, "dim", call.kwargs.get("axis", 0))) % out.dim()
    # Along the axis of the cut the positions of the later parts are shifted, so no one field holds.
    return functools.reduce(_merge, [layout for _, layout in inputs]).without({dim})


def _split(call: Call, out: Tensor, inputs: Inputs) -> Layout:
    return inputs[0][1].without({int(call.argument(2, "dim", 0)) % out.dim()})


def _resize(_call: Call, out: Tensor, inputs: Inputs) -> Layout:
    x, layout = inputs[0]
    fields: dict[int, Field] = {}
    for a, f in layout.fields.items():
        scale = x.shape[a] / out.shape[a]
        # Interpolation mixes at most two neighbours on each side (bicubic).
        fields[a] = Field(f.axis, f.lo - 2 * f.jump, f.hi + 2 * f.jump, f.jump * scale)
    return replace(layout, fields=fields)


_RULES: dict[str, Callable[[Call, Tensor, Inputs], Layout]] = {
    "convolution": _convolution,
    "transposed": _convolution,
    "features": _features,
    "same": _same,
    "placeless": _placeless,
    "roll": _placeless,
    "pool": _pool,
    "reduce": _reduce,
    "permute": _permute,
    "copied": _copied,
    "transpose": _transpose,
    "reshape": _reshape,
    "getitem": _getitem,
    "setitem": _setitem,
    "pad": _pad,
    "cat": _cat,
    "split": _split,
    "resize": _resize,
}
