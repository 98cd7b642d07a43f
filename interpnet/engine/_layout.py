"""Which axis of a tensor holds the channels, and which input pixels each of its positions sees.

The channel axis is told by the operator that made the tensor (a convolution puts it on axis 1, a
linear map on the last axis) and then followed exactly through permutes, reshapes, slices, pooling,
sums and concatenations. Where an operator loses it, the layout says which one did, and no guess is made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from interpnet.engine._operators import (
    CONVOLUTIONS,
    TRANSPOSED,
    argument,
    convolution_arguments,
    convolution_padding,
    operator_name,
    per_axis,
)


@dataclass(frozen=True)
class Field:
    """The receptive field along one axis: position i sees input positions lo + i*jump to hi + i*jump.

    ``axis`` is the spatial axis of the input (0 for the first) that it refers to.
    """

    axis: int
    lo: float = 0.0
    hi: float = 0.0
    jump: float = 1.0

    def window(self, kernel: int, stride: int, before: int, dilation: int = 1) -> Field:
        """Return the field after a window (convolution or pooling) of ``kernel`` positions."""
        reach = dilation * (kernel - 1)
        return Field(
            self.axis,
            self.lo - before * self.jump,
            self.hi + (reach - before) * self.jump,
            self.jump * stride,
        )

    def union(self, other: Field | None) -> Field | None:
        """Return the field that covers both; ``None`` (the whole axis) where their grids differ."""
        if other is None or other.axis != self.axis or not math.isclose(other.jump, self.jump):
            return None
        return Field(self.axis, min(self.lo, other.lo), max(self.hi, other.hi), self.jump)


@dataclass(frozen=True)
class Layout:
    """The channel axis of a tensor (``None``: lost, see ``why``) and the fields of its spatial axes.

    An axis that is missing in ``fields`` sees the whole input along every axis.
    """

    axis: int | None
    fields: Mapping[int, Field] = field(default_factory=dict)
    why: str = ""


def input_layout(x: Tensor) -> Layout:
    """Return the layout of a batch of images (B, C, ...)."""
    return Layout(1 if x.dim() > 1 else None, {a: Field(a - 2) for a in range(2, x.dim())})


# Operators whose output has its input's axes, element by element or along them.
_SAME = frozenset({
    "abs", "add", "alias", "alpha_dropout", "batch_norm", "bernoulli", "bfloat16", "celu", "clamp", "clamp_max",
    "clamp_min", "clip", "clone", "contiguous", "cos", "cpu", "cuda", "cumsum", "detach", "div", "divide", "double",
    "dropout", "dropout1d", "dropout2d", "dropout3d", "elu", "erf", "exp", "expm1", "feature_dropout", "fill",
    "float", "gelu", "group_norm", "half", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "identity",
    "instance_norm", "layer_norm", "leaky_relu", "local_response_norm", "log", "log1p", "log_softmax", "logsigmoid",
    "masked_fill", "max", "maximum", "min", "minimum", "mish", "mul", "multiply", "nan_to_num", "neg", "normalize",
    "pow", "prelu", "reciprocal", "relu", "relu6", "requires_grad", "requires_grad_", "rms_norm", "rrelu", "rsqrt",
    "rsub", "selu", "sigmoid", "sign", "silu", "sin", "softmax", "softmin", "softplus", "softshrink", "softsign",
    "sqrt", "square", "stochastic_depth", "sub", "tanh", "tanhshrink", "threshold", "to", "true_divide", "type",
    "type_as", "where",
})  # fmt: skip
_LOSES_PLACE = frozenset({"roll", "flip", "sort"})


def propagate(
    func: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    out: Tensor,
    inputs: Sequence[tuple[Tensor, Layout]],
) -> Layout:
    """Return the layout of ``out``, made by ``func`` from tensors of known layout (with their shapes now)."""
    op = operator_name(func)
    if op in CONVOLUTIONS or op in TRANSPOSED:
        return _convolution(op, args, kwargs, out, inputs)
    if op in {"linear", "bilinear", "matmul", "mm", "addmm", "einsum"} and _has_parameter(args):
        source = inputs[0][1] if inputs else Layout(None)
        fields = {a: f for a, f in source.fields.items() if a != out.dim() - 1 and source.axis == out.dim() - 1}
        return Layout(out.dim() - 1, fields)
    if not inputs:
        return Layout(None, why=f"the output of {op!r} does not depend on the images by a followed path")
    first, layout = inputs[0]
    handler = _HANDLERS.get(op)
    if handler is not None:
        return handler(args, kwargs, out, inputs)
    if op.endswith(("pool1d", "pool2d", "pool3d", "with_indices")):
        return _pool(op, args, kwargs, out, first, layout)
    if op in _SAME:
        return _elementwise(out, inputs)
    if op in _LOSES_PLACE and out.shape == first.shape:
        return Layout(layout.axis, {}, layout.why)
    return Layout(None, why=f"{op!r} is not known to keep the channel axis")


def _has_parameter(args: tuple[Any, ...]) -> bool:
    flat = [a for x in args for a in (x if isinstance(x, list | tuple) else (x,))]
    return any(isinstance(a, torch.nn.Parameter) for a in flat) or len(flat) > 1


def _elementwise(out: Tensor, inputs: Sequence[tuple[Tensor, Layout]]) -> Layout:
    """Merge the operands that have the output's shape; broadcast ones (gates, biases) only scale it."""
    full = [layout for x, layout in inputs if x.shape == out.shape]
    if not full:
        return Layout(None, why="broadcasting changed the axes")
    merged = full[0]
    for layout in full[1:]:
        merged = _merge(merged, layout)
    return merged


def _merge(a: Layout, b: Layout) -> Layout:
    if a.axis is None or b.axis is None:
        known = b if a.axis is None else a
        return Layout(known.axis, {}, a.why or b.why)
    if a.axis != b.axis:
        return Layout(None, why="two maps with different channel axes were combined")
    fields: dict[int, Field] = {}
    for axis in a.fields.keys() & b.fields.keys():
        union = a.fields[axis].union(b.fields[axis])
        if union is not None:
            fields[axis] = union
    return Layout(a.axis, fields)


def _convolution(
    op: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    out: Tensor,
    inputs: Sequence[tuple[Tensor, Layout]],
) -> Layout:
    n = int(op[-2])
    if out.dim() != n + 2:
        return Layout(None, why=f"{op!r} was called without a batch axis")
    if not inputs or op in TRANSPOSED:
        return Layout(1)
    call = convolution_arguments(args, kwargs)
    kernel = call["weight"].shape[2:]
    stride, dilation = per_axis(call["stride"], n), per_axis(call["dilation"], n)
    padding = convolution_padding(call, n)
    fields = {
        a: f.window(int(kernel[a - 2]), stride[a - 2], padding[a - 2][0], dilation[a - 2])
        for a, f in inputs[0][1].fields.items()
        if a >= 2
    }
    return Layout(1, fields)


def _pool(op: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Tensor, x: Tensor, layout: Layout) -> Layout:
    n = int(op.split("pool")[1][0])
    spatial = range(x.dim() - n, x.dim())
    fields = {a: f for a, f in layout.fields.items() if a not in spatial}
    for i, a in enumerate(spatial):
        f = layout.fields.get(a)
        if f is None:
            continue
        if op.startswith("adaptive"):
            if x.shape[a] % out.shape[a] == 0 and out.shape[a] > 1:
                k = x.shape[a] // out.shape[a]
                fields[a] = f.window(k, k, 0)
            continue
        skip = 1 if op.startswith("lp") else 0  # lp_pool takes the norm's order first
        kernel = per_axis(argument(args, kwargs, 1 + skip, "kernel_size"), n)
        stride = argument(args, kwargs, 2 + skip, "stride")
        step = kernel if stride is None or stride == [] or stride == () else per_axis(stride, n)
        pad = (0,) * n if skip else per_axis(argument(args, kwargs, 3, "padding", 0), n)
        dilation = (1,) * n
        if op.startswith("max"):
            dilation = per_axis(argument(args, kwargs, 4, "dilation", 1), n)
        fields[a] = f.window(kernel[i], step[i], pad[i], dilation[i])
    return Layout(layout.axis, fields, layout.why)


def _remap(layout: Layout, new_axis_of: Mapping[int, int], op: str) -> Layout:
    fields = {new_axis_of[a]: f for a, f in layout.fields.items() if a in new_axis_of}
    if layout.axis is None:
        return Layout(None, fields, layout.why)
    axis = new_axis_of.get(layout.axis)
    return Layout(axis, fields, "" if axis is not None else f"{op!r} merged or removed the channel axis")


def _reduce(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Tensor, inputs: Sequence[tuple[Tensor, Layout]]
) -> Layout:
    x, layout = inputs[0]
    dim = argument(args, kwargs, 1, "dim")
    dims = range(x.dim()) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    gone = {d % x.dim() for d in dims}
    if out.dim() == x.dim():
        mapping = {a: a for a in range(x.dim())}
        reduced = Layout(layout.axis, {a: f for a, f in layout.fields.items() if a not in gone}, layout.why)
    else:
        mapping = {a: i for i, a in enumerate(a for a in range(x.dim()) if a not in gone)}
        reduced = layout
    if layout.axis in gone:
        return Layout(None, why="the channel axis was summed over")
    return _remap(reduced, mapping, "mean")


def _permute(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Tensor, inputs: Sequence[tuple[Tensor, Layout]]
) -> Layout:
    x, layout = inputs[0]
    dims = argument(args, kwargs, 1, "dims")
    order = [int(d) % x.dim() for d in (args[1:] if isinstance(dims, int) else dims)]
    return _remap(layout, {a: i for i, a in enumerate(order)}, "permute")


def _transpose(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Tensor, inputs: Sequence[tuple[Tensor, Layout]]
) -> Layout:
    x, layout = inputs[0]
    first = int(argument(args, kwargs, 1, "dim0", kwargs.get("axis0", 0))) % x.dim()
    second = int(argument(args, kwargs, 2, "dim1", kwargs.get("axis1", 1))) % x.dim()
    mapping = {a: a for a in range(x.dim())}
    mapping[first], mapping[second] = second, first
    return _remap(layout, mapping, "transpose")


def _reshape(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Tensor, inputs: Sequence[tuple[Tensor, Layout]]
) -> Layout:
    """Follow every axis that survives whole: the same size, with as many elements before it."""
    x, layout = inputs[0]
    old = {(math.prod(x.shape[:a]), x.shape[a]): a for a in reversed(range(x.dim())) if x.shape[a] > 1}
    mapping: dict[int, int] = {}
    for b in range(out.dim()):
        a = old.get((math.prod(out.shape[:b]), out.shape[b]))
        if a is not None:
            mapping.setdefault(a, b)
    if layout.axis is not None and x.shape[layout.axis] == 1 and out.dim() > layout.axis:
        before = math.prod(x.shape[: layout.axis]) == math.prod(out.shape[: layout.axis])
        if before and out.shape[layout.axis] == 1:
            mapping.setdefault(layout.axis, layout.axis)
    return _remap(layout, mapping, "reshape")


def _getitem(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Tensor, inputs: Sequence[tuple[Tensor, Layout]]
) -> Layout:
    x, layout = inputs[0]
    key = args[1] if isinstance(args[1], tuple) else (args[1],)
    if any(isinstance(k, Tensor | list) for k in key):
        return Layout(None, why="indexing with a tensor")
    used = sum(1 for k in key if k is not None and k is not Ellipsis)
    parts: list[Any] = []
    for k in key:
        parts.extend([slice(None)] * (x.dim() - used) if k is Ellipsis else [k])
    mapping: dict[int, int] = {}
    fields = dict(layout.fields)
    a = b = 0
    for k in [*parts, *[slice(None)] * (x.dim() - sum(1 for p in parts if p is not None))]:
        if k is None:
            b += 1
        elif isinstance(k, slice):
            start, _, step = k.indices(x.shape[a])
            if a in fields:
                f = fields[a]
                fields[a] = Field(f.axis, f.lo + start * f.jump, f.hi + start * f.jump, f.jump * step)
            mapping[a] = b
            a, b = a + 1, b + 1
        else:
            a += 1
    return _remap(Layout(layout.axis, fields, layout.why), mapping, "indexing")


def _pad(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Tensor, inputs: Sequence[tuple[Tensor, Layout]]
) -> Layout:
    x, layout = inputs[0]
    pads = [int(p) for p in argument(args, kwargs, 1, "pad")]
    fields = dict(layout.fields)
    for i in range(0, len(pads), 2):
        a = x.dim() - 1 - i // 2
        if a in fields:
            f, before = fields[a], pads[i]
            fields[a] = Field(f.axis, f.lo - before * f.jump, f.hi - before * f.jump, f.jump)
    return Layout(layout.axis, fields, layout.why)


def _cat(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Tensor, inputs: Sequence[tuple[Tensor, Layout]]
) -> Layout:
    dim = int(argument(args, kwargs, 1, "dim", kwargs.get("axis", 0))) % out.dim()
    merged = inputs[0][1]
    for _, layout in inputs[1:]:
        merged = _merge(merged, layout)
    return Layout(merged.axis, {a: f for a, f in merged.fields.items() if a != dim}, merged.why)


def _split(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Tensor, inputs: Sequence[tuple[Tensor, Layout]]
) -> Layout:
    layout = inputs[0][1]
    dim = int(argument(args, kwargs, 2, "dim", 0)) % out.dim()
    return Layout(layout.axis, {a: f for a, f in layout.fields.items() if a != dim}, layout.why)


def _interpolate(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Tensor, inputs: Sequence[tuple[Tensor, Layout]]
) -> Layout:
    x, layout = inputs[0]
    fields: dict[int, Field] = {}
    for a, f in layout.fields.items():
        scale = x.shape[a] / out.shape[a]
        # Interpolation mixes at most two neighbours on each side (bicubic).
        fields[a] = Field(f.axis, f.lo - 2 * f.jump, f.hi + 2 * f.jump, f.jump * scale)
    return Layout(layout.axis, fields, layout.why)


_HANDLERS = {
    **dict.fromkeys(("mean", "sum", "amax", "amin"), _reduce),
    "permute": _permute,
    **dict.fromkeys(("transpose", "swapaxes", "swapdims"), _transpose),
    **dict.fromkeys(("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "expand"), _reshape),
    "getitem": _getitem,
    "pad": _pad,
    **dict.fromkeys(("cat", "concat", "concatenate"), _cat),
    **dict.fromkeys(("chunk", "split", "tensor_split", "split_with_sizes"), _split),
    **dict.fromkeys(("interpolate", "upsample"), _interpolate),
}
