"""The same pooling with stride 1: what the resampling of pooling sends its signal through."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from interpnet.engine import Call, per_axis

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
    n = int(rest[0])
    if x.dim() != n + 2:
        return None
    size = tuple(x.shape[2:])
    if kind.startswith("adaptive"):
        window = _adaptive(call.argument(1, "output_size"), size)
        return None if window is None else _dense(kind.endswith("avg"), n, window, (0,) * n, (1,) * n, size, {})
    kernel = per_axis(call.argument(1, "kernel_size"), n)
    stride = call.argument(2, "stride")
    stride = kernel if stride is None or stride in ([], ()) else per_axis(stride, n)
    if max(stride) == 1:
        return None
    padding = per_axis(call.argument(3, "padding", 0), n)
    if kind == "max":
        if call.argument(6, "return_indices", False):
            return None
        dilation = per_axis(call.argument(4, "dilation", 1), n)
        return _dense(False, n, kernel, padding, dilation, size, {})
    options: dict[str, Any] = {"count_include_pad": call.argument(5, "count_include_pad", True)}
    if n > 1:
        options["divisor_override"] = call.argument(6, "divisor_override")
    return _dense(True, n, kernel, padding, (1,) * n, size, options)


def _adaptive(wanted: Any, size: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the window of an adaptive pooling whose windows are equal, and do not cover the whole input."""
    n = len(size)
    outs = [D if w is None else int(w) for w, D in zip((wanted,) * n if isinstance(wanted, int) else wanted, size)]  # noqa: B905
    if any(D % d for D, d in zip(size, outs, strict=True)):
        return None
    window = tuple(D // d for D, d in zip(size, outs, strict=True))
    return window if max(outs) > 1 and max(window) > 1 else None


def _dense(
    average: bool, n: int, kernel: tuple[int, ...], padding: tuple[int, ...], dilation: tuple[int, ...],
    size: tuple[int, ...], options: dict[str, Any],
) -> tuple[Callable[[Tensor], Tensor], bool] | None:  # fmt: skip
    positions = [D + 2 * p - d * (k - 1) for D, p, d, k in zip(size, padding, dilation, kernel, strict=True)]
    if min(positions) < 1:
        return None
    if average:
        return partial(_AVERAGE[n - 1], kernel_size=kernel, stride=1, padding=padding, **options), True
    return partial(_MAXIMUM[n - 1], kernel_size=kernel, stride=1, padding=padding, dilation=dilation), False
