"""The same pooling or slice with stride 1: what resampling sends its signal through."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from interpnet.engine import Call, Window, slices_of

_MAXIMUM = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
_AVERAGE = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)


def dense_pooling(call: Call, x: Tensor) -> tuple[Callable[[Tensor], Tensor], bool] | None:
    """Return the pooling of a call with stride 1, and whether it averages; ``None`` where there is none.

    There is none for a pooling that has stride 1 already, that returns indices, that is a mean or an L_p norm, whose
    windows are unequal (adaptive pooling of sizes that do not divide), or whose window is larger than its input.
    """
    kind, _, rest = call.op.partition("_pool")
    if kind not in {"max", "avg", "adaptive_avg", "adaptive_max"} or len(rest) != 2:
        return None
    n = call.operator.dimensions
    if x.dim() != n + 2 or (kind == "max" and call.argument(6, "return_indices")):
        return None
    size = tuple(x.shape[2:])
    window = _adaptive(call, size) if kind.startswith("adaptive") else call.pooling()
    if window is None or max(window.stride) == 1:
        return None
    axes = zip(size, window.padding, window.dilation, window.kernel, strict=True)
    if any(D + 2 * p < d * (k - 1) + 1 for D, p, d, k in axes):
        return None
    dense: dict[str, Any] = {"kernel_size": window.kernel, "stride": 1, "padding": window.padding}
    if kind.endswith("max"):
        return partial(_MAXIMUM[n - 1], dilation=window.dilation, **dense), False
    # How padding is averaged; adaptive pooling has none. One-dimensional pooling takes no divisor.
    if kind == "avg":
        dense["count_include_pad"] = call.argument(5, "count_include_pad", default=True)
    if kind == "avg" and n > 1:
        dense["divisor_override"] = call.argument(6, "divisor_override")
    return partial(_AVERAGE[n - 1], **dense), True


def _adaptive(call: Call, size: tuple[int, ...]) -> Window | None:
    """Return the window of an adaptive pooling whose windows are equal, and do not cover the whole input."""
    n = len(size)
    wanted = call.argument(1, "output_size")
    if isinstance(wanted, int):
        wanted = (wanted,) * n
    # ``None`` keeps the size of an axis.
    outs = [int(D if w is None else w) for w, D in zip(wanted, size, strict=True)]
    kernel = tuple(D // d for D, d in zip(size, outs, strict=True))
    if any(D % d for D, d in zip(size, outs, strict=True)) or max(outs) == 1:
        return None
    return Window(kernel, kernel, (0,) * n, (1,) * n)


def dense_slice(call: Call, x: Tensor) -> tuple[slice, ...] | None:
    """Return what a strided slice of the spatial axes spans, with stride 1; ``None`` where it is no such slice."""
    key = slices_of(call.args[1], x)
    if key is None or len(key) != x.dim() or x.dim() < 3 or not all(isinstance(k, slice) for k in key):
        return None
    # Batch and channels must be taken whole, and some spatial axis in steps.
    steps = [k.indices(n)[2] for k, n in zip(key, x.shape, strict=True)]
    if max(steps[2:]) == 1 or steps[:2] != [1, 1]:
        return None
    return tuple(slice(*k.indices(n)[:2]) for k, n in zip(key, x.shape, strict=True))
