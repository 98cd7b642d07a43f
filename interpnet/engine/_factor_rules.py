"""How operators move what axes are made of: the factors of what a call returns, from those of what it was given."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from interpnet.engine._call import Call
from interpnet.engine._factors import Axes, Axis, Factor, reshaped, size_of, unknown, whole
from interpnet.engine._layout import order_of, slices_of

# The tensors among the arguments of a call that depend on the images, with what is known of them.
Inputs = Sequence[tuple[Tensor, Axes | None]]


def factors_of(call: Call, out: Tensor, inputs: Inputs) -> Axes | None:
    """Return the factors of ``out``, one of what ``call`` returned; ``None`` where they are not followed."""
    rule = _RULES.get(call.operator.axes)
    if rule is None or not inputs:
        return None
    found = rule(call, out, inputs)
    if found is None or tuple(map(size_of, found)) != tuple(out.shape):
        return None
    # Every image in one place.
    if sum(f.what == "batch" for axis in found for f in axis) != 1:
        return None
    return found


def _merged_axis(a: Axis, b: Axis) -> Axis:
    """Return what two maps of one shape agree on along an axis; what only one of them knows is taken from it."""
    if a == b:
        return a
    known = [axis for axis in (a, b) if all(f.what for f in axis)]
    if len(known) == 1:
        return known[0]
    return (unknown(size_of(a)),)


def _merged(a: Axes | None, b: Axes | None) -> Axes | None:
    if a is None or b is None:
        return a or b
    return tuple(map(_merged_axis, a, b))


def _same(_call: Call, out: Tensor, inputs: Inputs) -> Axes | None:
    return functools.reduce(_merged, [axes for x, axes in inputs if x.shape == out.shape], None)


def _windowed(old: Axis, size: int) -> Axis:
    """Return an axis of rows or columns after a window went over it, with ``size`` positions left."""
    if size == size_of(old):
        return old
    # Padded before, as networks do whose padding differs from side to side.
    if len(old) == 1 and old[0].what == "tokens":
        old = old[0].inside
    if len(old) == 1 and old[0].what == "space" and old[0].alone and not old[0].rolled:
        return (whole("space", size, old[0].along),)
    return (unknown(size),)


def _over_places(axes: Axes, first: int, sizes: Sequence[int]) -> Axes:
    """Return the factors after windows went over the axes from ``first`` on, with ``sizes`` positions left."""
    found = list(axes)
    for a, size in enumerate(sizes, start=first):
        old = found[a]
        found[a] = _windowed(old, size)
        if len(old) == 1 and old[0].what == "space" and old[0].size != size and _inner(old[0]):
            # Parts of the images lie one after the other in another axis, and each has a map of its own.
            found[a] = old
            found = [tuple(_resized(f, old[0], size) for f in axis) for axis in found]
            if size == 1:
                found[a] = ()
    return tuple(found)


def _inner(f: Factor) -> bool:
    return f.stride == 1 and not f.alone and not f.rolled


def _resized(f: Factor, inner: Factor, size: int) -> Factor:
    """Return a digit of rows or columns where the fastest one, ``inner``, has ``size`` positions now."""
    if f.what != "space" or (f.along, f.whole, f.rolled) != (inner.along, inner.whole, 0):
        return f
    whole = inner.whole // inner.size * size
    if f == inner:
        return replace(f, size=size, whole=whole)
    return replace(f, stride=f.stride // inner.size * size, whole=whole)


def _convolution(call: Call, out: Tensor, inputs: Inputs) -> Axes | None:
    x, axes = inputs[0]
    if axes is None or out.dim() != call.operator.dimensions + 2 or x.dim() != out.dim():
        return None
    found = _over_places(axes, 2, out.shape[2:])
    return (found[0], (whole("channel", out.shape[1]),), *found[2:])


def _pool(call: Call, out: Tensor, inputs: Inputs) -> Axes | None:
    x, axes = inputs[0]
    first = x.dim() - call.operator.dimensions
    if axes is None or x.dim() != out.dim():
        return None
    return _over_places(axes, first, out.shape[first:])


def _resize(_call: Call, out: Tensor, inputs: Inputs) -> Axes | None:
    axes = inputs[0][1]
    if axes is None or len(axes) != out.dim():
        return None
    return _over_places(axes, 2, out.shape[2:])


def _features(call: Call, out: Tensor, inputs: Inputs) -> Axes | None:
    """Put new channels on the last axis; a product of two maps sums over what they share."""
    if len(inputs) > 1 and call.op != "linear":
        return _product(call, out, inputs)
    x, axes = inputs[0]
    if axes is None or x.shape[:-1] != out.shape[:-1]:
        return None
    return (*axes[:-1], (whole("channel", out.shape[-1]),))


def _product(call: Call, out: Tensor, inputs: Inputs) -> Axes | None:
    found = {id(x): axes for x, axes in inputs}
    if call.op == "einsum":
        return _einsum(call, out, found)
    a, b = (found.get(id(t)) for t in call.tensors()[-2:])
    if a is None or b is None or len(a) != len(b) or len(a) != out.dim():
        return None
    batch = [_gathered(*both) for both in zip(a[:-2], b[:-2], out.shape[:-2], strict=True)]
    return _distinct((*batch, a[-2], b[-1]))


def _gathered(a: Axis, b: Axis, size: int) -> Axis:
    """Return what is known of an axis that two factors of a product share: the values', as their channels come out."""
    if size_of(b) == size and all(f.what for f in b):
        return b
    if size_of(a) == size:
        return a
    return (unknown(size),)


def _einsum(call: Call, out: Tensor, found: dict[int, Axes | None]) -> Axes | None:
    equation = call.argument(0, "equation")
    operands = call.tensors()
    if not isinstance(equation, str) or "." in equation or "->" not in equation:
        return None
    inputs, result = equation.replace(" ", "").split("->")
    known: dict[str, Axis] = {}
    weights: list[tuple[str, Tensor]] = []
    for letters, t in zip(inputs.split(","), operands, strict=True):
        if id(t) not in found:
            weights.append((letters, t))
            continue
        axes = found[id(t)]
        if axes is None or len(axes) != len(letters):
            return None
        for letter, axis in zip(letters, axes, strict=True):
            known[letter] = _gathered(known.get(letter, axis), axis, size_of(axis))
    for letters, t in weights:
        # Letters of weights alone are new channels; several are digits of one, as heads are.
        new = [(letter, n) for letter, n in zip(letters, t.shape, strict=True) if letter not in known]
        for i, (letter, n) in enumerate(new):
            faster = math.prod(size for _, size in new[i + 1 :])
            known[letter] = (Factor("channel", n, faster, math.prod(size for _, size in new)),)
    if len(result) != out.dim() or any(letter not in known for letter in result):
        return None
    return _distinct(tuple(known[letter] for letter in result))


def _distinct(axes: Axes) -> Axes:
    """Name every place once: the positions of keys beside those of the queries are positions of no map."""
    seen: set[tuple[str, int, int]] = set()
    found = []
    for axis in axes:
        names = {(f.what, f.along, f.stride) for f in axis if f.what in {"space", "channel"}}
        found.append((unknown(size_of(axis)),) if names & seen else axis)
        seen |= names
    return tuple(found)


def _reshape(_call: Call, out: Tensor, inputs: Inputs) -> Axes | None:
    axes = inputs[0][1]
    if axes is None:
        return None
    return reshaped(axes, tuple(out.shape))


def _permute(call: Call, _out: Tensor, inputs: Inputs) -> Axes | None:
    axes = inputs[0][1]
    return axes and tuple(axes[d] for d in order_of(call, len(axes)))


def _copied(_call: Call, _out: Tensor, inputs: Inputs) -> Axes | None:
    return inputs[-1][1]


def _transpose(call: Call, _out: Tensor, inputs: Inputs) -> Axes | None:
    axes = inputs[0][1]
    if axes is None:
        return None
    if call.operator.axes == "swap":
        first, second = len(axes) - 2, len(axes) - 1
    else:
        first = int(call.argument(1, "dim0", call.kwargs.get("axis0", 0))) % len(axes)
        second = int(call.argument(2, "dim1", call.kwargs.get("axis1", 1))) % len(axes)
    found = list(axes)
    found[first], found[second] = found[second], found[first]
    return tuple(found)


def _reduce(call: Call, out: Tensor, inputs: Inputs) -> Axes | None:
    axes = inputs[0][1]
    dims = call.argument(1, "dim")
    if axes is None or dims is None:
        return None
    gone = {int(d) % len(axes) for d in ([dims] if isinstance(dims, int) else dims)}
    for a in gone:
        axes = _over_places(axes, a, [1])
    if out.dim() == len(axes):
        return tuple(() if a in gone else axis for a, axis in enumerate(axes))
    return tuple(axis for a, axis in enumerate(axes) if a not in gone)


def _sliced(axis: Axis, key: slice) -> Axis:
    size = size_of(axis)
    start, stop, step = key.indices(size)
    left = len(range(start, stop, step))
    if left == size:
        return axis
    one = axis[0] if len(axis) == 1 else unknown(size)
    if one.what == "tokens" and step == 1 and start == one.before and left == size_of(one.inside):
        return one.inside
    if one.what == "channel" and one.alone:
        return (whole("channel", left),)
    # A crop of the rim moves the rest a little.
    if one.what == "space" and one.alone and not one.rolled and step == 1 and 2 * left > size:
        return (whole("space", left, one.along),)
    # Every n-th row, as the merging of patches takes them.
    if one.what == "space" and one.alone and not one.rolled and start < step and left == -(-(size - start) // step):
        return (whole("space", left, one.along),)
    return (unknown(left),)


def _getitem(call: Call, _out: Tensor, inputs: Inputs) -> Axes | None:
    x, axes = inputs[0]
    key = slices_of(call.args[1], x)
    if axes is None or key is None:
        return None
    found: list[Axis] = []
    rest = list(axes)
    for k in key:
        if k is None:
            found.append(())
        elif isinstance(k, slice):
            found.append(_sliced(rest.pop(0), k))
        else:
            rest.pop(0)
    return tuple(found)


def _setitem(_call: Call, out: Tensor, inputs: Inputs) -> Axes | None:
    return next((axes for x, axes in inputs if x is out), None)


def _pad(call: Call, out: Tensor, inputs: Inputs) -> Axes | None:
    axes = inputs[0][1]
    if axes is None:
        return None
    found = list(axes)
    # torch gives (before, after) of the last axis first.
    for i, before in enumerate(call.argument(1, "pad")[::2], start=1):
        size = out.shape[-i]
        if size != size_of(found[-i]):
            found[-i] = (Factor("tokens", size, before=int(before), inside=found[-i]),)
    return tuple(found)


def _cat(call: Call, out: Tensor, inputs: Inputs) -> Axes | None:
    dim = int(call.argument(1, "dim", call.kwargs.get("axis", 0))) % out.dim()
    known = {id(x): axes for x, axes in inputs}
    given = [axes for _, axes in inputs if axes is not None and len(axes) == out.dim()]
    if not given:
        return None
    others: Axes | None = None
    for axes in given:
        others = _merged(others, (*axes[:dim], (), *axes[dim + 1 :]))
    found = list(others or ())
    found[dim] = (unknown(out.shape[dim]),)
    if all(len(axes[dim]) == 1 and axes[dim][0].what == "channel" for axes in given):
        found[dim] = (whole("channel", out.shape[dim]),)
    elif any(f.what == "batch" for axes in given for f in axes[dim]):
        return None
    before = 0
    for t in call.tensors():
        own = known.get(id(t))
        if own is not None and any(f.what == "space" for f in own[dim]) and found[dim][0].what == "":
            found[dim] = (Factor("tokens", out.shape[dim], before=before, inside=own[dim]),)
        before += t.shape[dim]
    return tuple(found)


def _split(call: Call, out: Tensor, inputs: Inputs) -> Axes | None:
    axes = inputs[0][1]
    if axes is None:
        return None
    dim = int(call.argument(2, "dim", 0)) % len(axes)
    return (*axes[:dim], _sliced(axes[dim], slice(0, out.shape[dim])), *axes[dim + 1 :])


def _unbind(call: Call, _out: Tensor, inputs: Inputs) -> Axes | None:
    axes = inputs[0][1]
    if axes is None:
        return None
    dim = int(call.argument(1, "dim", 0)) % len(axes)
    return (*axes[:dim], *axes[dim + 1 :])


def _roll(call: Call, _out: Tensor, inputs: Inputs) -> Axes | None:
    axes = inputs[0][1]
    shifts = call.argument(1, "shifts")
    dims = call.argument(2, "dims")
    if axes is None or dims is None:
        return None
    found = list(axes)
    pairs = [(shifts, dims)] if isinstance(shifts, int) else zip(shifts, dims, strict=True)
    for shift, dim in pairs:
        axis = found[dim]
        if any(f.what == "batch" for f in axis):
            return None
        if len(axis) == 1 and axis[0].what == "space" and axis[0].alone:
            rolled = (axis[0].rolled - int(shift)) % axis[0].size
            found[dim] = (replace(axis[0], rolled=rolled),)
        else:
            found[dim] = (unknown(size_of(axis)),)
    return tuple(found)


_RULES: dict[str, Callable[[Call, Tensor, Inputs], Axes | None]] = {
    "convolution": _convolution,
    "features": _features,
    "product": _product,
    "same": _same,
    "pool": _pool,
    "reduce": _reduce,
    "permute": _permute,
    "copied": _copied,
    "transpose": _transpose,
    "swap": _transpose,
    "reshape": _reshape,
    "getitem": _getitem,
    "setitem": _setitem,
    "unbind": _unbind,
    "roll": _roll,
    "pad": _pad,
    "cat": _cat,
    "split": _split,
    "resize": _resize,
}
