"""What kind of operator a torch function is, told from its name and arguments alone.

The engine sees every call of the torch API. This table says which of them make feature maps
(convolutions, linear maps, norms, rectifiers, other activations, pooling, sums, products and
concatenations) whichever way the model's author spelled them: ``nn.ReLU``, ``F.relu``,
``torch.relu_`` and ``x.clamp(min=0)`` are one kind, ``"rectifier"``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

CONVOLUTIONS = frozenset({"conv1d", "conv2d", "conv3d"})
TRANSPOSED = frozenset({"conv_transpose1d", "conv_transpose2d", "conv_transpose3d"})
ADDITIONS = frozenset({"add", "sub", "rsub"})
PRODUCTS = frozenset({"mul", "multiply", "div", "true_divide", "divide"})
CONCATENATIONS = frozenset({"cat", "concat", "concatenate"})
MATRIX_PRODUCTS = frozenset({"matmul", "mm", "addmm", "bmm", "einsum"})

_KINDS: dict[str, str] = {
    **dict.fromkeys(CONVOLUTIONS | TRANSPOSED, "conv"),
    **dict.fromkeys(("linear", "bilinear"), "linear"),
    **dict.fromkeys(
        ("batch_norm", "layer_norm", "group_norm", "instance_norm", "local_response_norm", "rms_norm"),
        "norm",
    ),
    **dict.fromkeys(
        (
            "relu", "relu6", "leaky_relu", "rrelu", "prelu", "elu", "selu", "celu",
            "gelu", "silu", "mish", "hardswish", "softplus",
        ),
        "rectifier",
    ),
    **dict.fromkeys(
        ("sigmoid", "tanh", "hardsigmoid", "softsign", "logsigmoid", "tanhshrink", "hardshrink", "softshrink"),
        "activation",
    ),
    **dict.fromkeys(("softmax", "log_softmax", "softmin"), "softmax"),
    **dict.fromkeys(
        [f"{p}_pool{d}d" for p in ("max", "avg", "adaptive_avg", "adaptive_max", "lp") for d in (1, 2, 3)]
        + ["max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices"],
        "pool",
    ),
    **dict.fromkeys(ADDITIONS, "add"),
    **dict.fromkeys(PRODUCTS, "mul"),
    **dict.fromkeys(CONCATENATIONS, "cat"),
}  # fmt: skip

# Kinds that depend on the arguments; each returns a kind or None for "no site".
_BY_ARGUMENT = frozenset(
    {"clamp", "clip", "clamp_min", "hardtanh", "threshold", "maximum", "max", "mean", "amax"} | MATRIX_PRODUCTS
)

#: Kinds that make a site, in the order in which documentation lists them.
SITE_KINDS = (
    "conv", "linear", "norm", "rectifier", "activation", "softmax", "pool", "add", "mul", "cat"
)  # fmt: skip

Arguments = tuple[tuple[Any, ...], Mapping[str, Any]]


@lru_cache(maxsize=4096)
def operator_name(func: Callable[..., Any]) -> str:
    """Return a function's name without underscores and in-place marks: ``Tensor.__iadd__`` is ``"add"``."""
    name = getattr(func, "__name__", "") or type(func).__name__
    if name.startswith("__") and name.endswith("__"):
        name = name[2:-2]
        if name in {"iadd", "imul", "isub", "itruediv", "idiv", "radd", "rmul"}:
            name = name[1:]
        return {"truediv": "div"}.get(name, name)
    return name.strip("_")


@lru_cache(maxsize=4096)
def _static_kind(func: Callable[..., Any]) -> str | None:
    name = operator_name(func)
    return "?" if name in _BY_ARGUMENT else _KINDS.get(name)


def operator_kind(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
    """Return the kind of the site that this call makes (one of ``SITE_KINDS``), or ``None``."""
    kind = _static_kind(func)
    if kind == "?":
        return _kind_by_argument(operator_name(func), args, kwargs)
    if kind in {"add", "mul"}:
        # Arithmetic with numbers and parameters alone (rescaling an image, say) makes no site.
        tensors = [a for a in args[:2] if isinstance(a, Tensor)]
        return kind if len(tensors) == 2 and tensors[0].dim() > 1 else None
    return kind


def _kind_by_argument(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
    if name in {"clamp", "clip", "clamp_min", "hardtanh"}:
        lower = argument(args, kwargs, 1, "min_val" if name == "hardtanh" else "min", -1.0)
        if _is_zero(lower):
            return "rectifier"
        return "activation" if name == "hardtanh" else None
    if name == "threshold":
        zero = _is_zero(argument(args, kwargs, 1, "threshold")) and _is_zero(argument(args, kwargs, 2, "value"))
        return "rectifier" if zero else "activation"
    if name in {"maximum", "max"}:
        other = argument(args, kwargs, 1, "other")
        return "rectifier" if isinstance(other, Tensor) and _is_zero(other) else None
    if name in {"mean", "amax"}:
        # Averaging all positions is how many networks spell their global pooling.
        return "pool" if len(args) > 1 or "dim" in kwargs else None
    operands = [a for a in args if isinstance(a, Tensor)]
    return "linear" if any(isinstance(a, torch.nn.Parameter) for a in operands) else None


def _is_zero(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and value.device.type != "meta" and float(value) == 0.0
    return isinstance(value, int | float) and float(value) == 0.0


def argument(args: tuple[Any, ...], kwargs: Mapping[str, Any], position: int, name: str, default: Any = None) -> Any:
    """Return the argument given by ``position`` or by ``name``."""
    if len(args) > position:
        return args[position]
    return kwargs.get(name, default)


#: Where functions of torch.nn.functional take ``inplace`` when it is given by position.
_INPLACE_POSITION = {
    "relu": 1, "relu6": 1, "leaky_relu": 2, "elu": 2, "selu": 1, "celu": 2, "silu": 1, "mish": 1,
    "hardswish": 1, "hardsigmoid": 1, "threshold": 3, "hardtanh": 3, "rrelu": 4, "dropout": 3,
}  # fmt: skip


def is_inplace(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether the call overwrites its first argument: ``relu_``, ``+=`` or ``inplace=True``."""
    if kwargs.get("inplace") is True:
        return True
    name = getattr(func, "__name__", "")
    if name.startswith("__i") and name.endswith("__"):
        return True
    if name.endswith("_") and not name.endswith("__"):
        return True
    position = _INPLACE_POSITION.get(name)
    return position is not None and len(args) > position and args[position] is True


def convolution_arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``input, weight, bias, stride, padding, dilation, groups`` of a convolution call, with defaults.

    ``stride``, ``padding`` and ``dilation`` come back as given (number, tuple or ``"same"``/``"valid"``).
    """
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    defaults: dict[str, Any] = {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    return {**defaults, **dict(zip(names, args, strict=False)), **kwargs}


def per_axis(value: int | tuple[int, ...] | list[int], n: int) -> tuple[int, ...]:
    """Return ``value`` once per spatial axis: ``3`` and ``(3,)`` become ``(3, 3)`` for ``n = 2``."""
    if isinstance(value, int):
        return (value,) * n
    values = tuple(int(v) for v in value)
    return values * n if len(values) == 1 else values


def convolution_padding(call: Mapping[str, Any], n: int) -> tuple[tuple[int, int], ...]:
    """Return the padding (before, after) on each of ``n`` spatial axes of a convolution call."""
    padding = call["padding"]
    if padding == "valid":
        return ((0, 0),) * n
    if padding == "same":
        kernel = call["weight"].shape[2:]
        dilation = per_axis(call["dilation"], n)
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return tuple((t // 2, t - t // 2) for t in totals)
    return tuple((p, p) for p in per_axis(padding, n))
