"""Backward rules: what the signal does at rectifiers and strided convolutions on its way to the image.

With R the incoming signal and z the input of a rectifier ``a``:

=============  =====================================================  =====================================
rule           ReLU                                                   any rectifier (ReLU6, SiLU, GELU, ...)
=============  =====================================================  =====================================
``gradient``   ``R * [z > 0]``                                        ``R * a'(z)``
``deconvnet``  ``R * [R > 0]``                                        ``R * [R > 0]``
``guided``     ``R * [z > 0] * [R > 0]``                              ``R * a'(z) * [z > 0] * [R > 0]``
=============  =====================================================  =====================================

So DeconvNet ignores the forward pass, and guided backpropagation is the ordinary gradient where both
the rectifier's input and the incoming signal are positive, and zero elsewhere; on a ReLU both are
exactly the published rules. Saturated parts (ReLU6 above 6) pass nothing under ``guided``, and the
small negative lobes of SiLU, GELU and Hardswish are cut off as a ReLU would.

``resample=True`` changes convolutions with stride > 1: the incoming signal is resampled by nearest
neighbour from d to ``d_hat = D + p_before + p_after - dilation*(k-1)`` positions along each axis (D: the
layer's input) and goes through the transposed convolution with stride 1, so that no grid appears.
Strided slices ``x[..., ::s]`` (option-A shortcuts of CIFAR ResNets) are strided convolutions with a 1x1
identity kernel and are resampled alike.

Sources: Zeiler & Fergus 2014 (DeconvNet); Springenberg et al. 2015 (guided); Oramas et al., ICLR 2019,
section 3.2 (resampling).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interpnet._operators import CONVOLUTIONS, convolution_arguments, convolution_padding, is_inplace, per_axis
from interpnet.errors import InterpNetError, ModelError
from interpnet.trace import Call, Instrument, instrument

RECTIFIER_RULES = ("gradient", "deconvnet", "guided")

# Autograd nodes of rectifiers. One that is left in the graph under a rule was not overridden.
_RECTIFIER_NODES = (
    "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Silu", "Mish", "Hardswish", "Hardtanh", "Softplus",
    "Prelu", "Threshold", "RreluWithNoise",
)  # fmt: skip


@dataclass
class RuleReport:
    """What a rule met on its way: rectifiers seen and overridden, strided layers resampled."""

    rectifier: str
    resample: bool
    seen: int = 0
    overridden: int = 0
    strided: int = 0
    resampled: int = 0
    left: list[str] = field(default_factory=list)


class _Rectify(torch.autograd.Function):
    """The value of a rectifier with another derivative."""

    @staticmethod
    def forward(ctx: Any, _z: Tensor, run: Callable[[], Tensor], slope: Tensor | None) -> Tensor:
        ctx.save_for_backward(*(() if slope is None else (slope,)))
        return run()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        signal = grads[0].clamp(min=0)
        if ctx.saved_tensors:
            signal = signal * ctx.saved_tensors[0].to(signal.dtype)
        return signal, None, None


class _Resample(torch.autograd.Function):
    """The value of a strided convolution with a stride-1 transpose of the resampled signal as its backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Callable[[], Tensor], weight: Tensor, call: dict[str, Any]) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.call, ctx.size = call, tuple(x.shape[2:])
        return run()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (weight,) = ctx.saved_tensors
        return resampled_transpose(grads[0], weight, ctx.size, **ctx.call), None, None, None


class _ResampleSlice(torch.autograd.Function):
    """The value of a strided slice with nearest-neighbour resampling as its backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Callable[[], Tensor], key: tuple[Any, ...]) -> Tensor:
        ctx.shape, ctx.key = tuple(x.shape), key
        # A fresh tensor: autograd lets no later in-place operator touch a view made in here.
        return run().clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        shape, key, signal = ctx.shape, ctx.key, grads[0]
        dense = tuple(slice(*k.indices(n)[:2]) for k, n in zip(key, shape, strict=True))
        sizes = [len(range(*k.indices(n)[:2])) for k, n in zip(key, shape, strict=True)]
        out = signal.new_zeros(shape)
        out[dense] = nearest(signal, tuple(sizes[2:]))
        return out, None, None


def nearest(signal: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resample the spatial axes of (B, C, ...) to ``size`` by nearest neighbour: index floor(i * d / d_hat).

    Examples
    --------
    >>> nearest(torch.tensor([[[1.0, 2.0]]]), (4,))
    tensor([[[1., 1., 2., 2.]]])
    """
    for axis, n in enumerate(size, start=2):
        d = signal.shape[axis]
        if d != n:
            signal = signal.index_select(axis, torch.arange(n, device=signal.device) * d // n)
    return signal


def resampled_transpose(
    signal: Tensor,
    weight: Tensor,
    size: tuple[int, ...],
    *,
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Tensor:
    """Send ``signal`` down through a convolution: nearest-neighbour resampling, then a stride-1 transpose.

    Parameters
    ----------
    signal : Tensor (B, C_out, d...)
        The incoming signal, at the layer's output.
    weight : Tensor (C_out, C_in/groups, k...)
        The convolution's weight.
    size : tuple of int
        D, the size of the layer's input along each spatial axis.
    padding : tuple of (before, after)
    dilation : tuple of int
    groups : int

    Returns
    -------
    Tensor (B, C_in, D...)

    Examples
    --------
    METHOD's example, D=224, k=11, p=0, stride 4: d=54 is resampled to d_hat=214.

    >>> r = resampled_transpose(torch.ones(1, 2, 54, 54), torch.ones(2, 3, 11, 11), (224, 224),
    ...                         padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1)
    >>> r.shape
    torch.Size([1, 3, 224, 224])
    """
    n = len(size)
    reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    target = tuple(D + a + b - r for D, (a, b), r in zip(size, padding, reach, strict=True))
    transpose: Callable[..., Tensor] = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[n - 1]
    # A convolution never needs more padding than its reach; crop what lies outside by hand, so that
    # the two sides may differ.
    full = transpose(nearest(signal, target), weight, dilation=dilation, groups=groups)
    crop = tuple(slice(a, a + D) for D, (a, _) in zip(size, padding, strict=True))
    return full[(slice(None), slice(None), *crop)]


@contextmanager
def backward_rules(model: nn.Module, *, rectifier: str = "guided", resample: bool = True) -> Iterator[RuleReport]:
    """Run forward passes inside the block under the given backward rules; see the module's table.

    Yields
    ------
    RuleReport
        Filled while forward passes run. Call :func:`check_overridden` with the output before trusting it.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU())
    >>> x = torch.ones(1, 1, requires_grad=True)
    >>> with backward_rules(net, rectifier="guided") as report:
    ...     y = net(x)
    >>> report.seen, report.overridden
    (1, 1)
    """
    if rectifier not in RECTIFIER_RULES:
        raise InterpNetError(f"rectifier={rectifier!r}; expected one of {', '.join(map(repr, RECTIFIER_RULES))}")
    report = RuleReport(rectifier, resample)

    def rule(call: Call) -> Tensor | None:
        x = call.args[0] if call.args and isinstance(call.args[0], Tensor) else call.kwargs.get("input")
        if not isinstance(x, Tensor) or not x.requires_grad:
            return None
        if call.kind == "rectifier":
            return _rectified(call, x, report)
        if resample and call.op in CONVOLUTIONS:
            return _convolved(call, report)
        if resample and call.op == "getitem":
            return _sliced(call, x, report)
        return None

    with instrument(model, Instrument(rule=rule)):
        yield report


def _rectified(call: Call, z: Tensor, report: RuleReport) -> Tensor | None:
    report.seen += 1
    if report.rectifier == "gradient":
        report.overridden += 1
        return None
    slope = None if report.rectifier == "deconvnet" else _slope(call, z)
    report.overridden += 1
    inplace = is_inplace(call.func, call.args, call.kwargs)

    def run() -> Tensor:
        y: Tensor = call.func(z.clone(), *call.args[1:], **call.kwargs) if inplace else call.run()
        return y

    out: Tensor = _Rectify.apply(z, run, slope)
    return out


def _slope(call: Call, z: Tensor) -> Tensor:
    """Return ``a'(z) * [z > 0]``, as a mask where it is one."""
    positive = z.detach() > 0
    if call.op in {"relu", "threshold", "clamp_min", "maximum", "max", "leaky_relu", "prelu", "elu", "celu", "rrelu"}:
        return positive  # slope 1 above zero
    with torch.enable_grad():
        copy = z.detach().clone().requires_grad_()
        # The clone may be overwritten by an in-place rectifier; its own gradient is what we ask for.
        y = call.func(copy.clone(), *call.args[1:], **call.kwargs)
        (slope,) = torch.autograd.grad(y.sum(), copy)
    return slope * positive


def _convolved(call: Call, report: RuleReport) -> Tensor | None:
    arguments = convolution_arguments(call.args, call.kwargs)
    n = int(call.op[-2])
    if arguments["input"].dim() != n + 2 or max(per_axis(arguments["stride"], n)) == 1:
        return None
    report.strided += 1
    weight = arguments["weight"].detach()
    details = {
        "padding": convolution_padding(arguments, n),
        "dilation": per_axis(arguments["dilation"], n),
        "groups": int(arguments["groups"]),
    }
    report.resampled += 1
    out: Tensor = _Resample.apply(arguments["input"], call.run, weight, details)
    return out


def _sliced(call: Call, x: Tensor, report: RuleReport) -> Tensor | None:
    key = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    if Ellipsis in [k for k in key if not isinstance(k, Tensor)]:
        at = [k is Ellipsis for k in key].index(True)
        key = (*key[:at], *[slice(None)] * (x.dim() - len(key) + 1), *key[at + 1 :])
    key = (*key, *[slice(None)] * (x.dim() - len(key)))
    if len(key) != x.dim() or x.dim() < 3 or not all(isinstance(k, slice) for k in key):
        return None
    steps = [k.indices(n)[2] for k, n in zip(key, x.shape, strict=True)]
    if max(steps[2:]) == 1 or steps[:2] != [1, 1]:
        return None
    report.strided += 1
    report.resampled += 1
    out: Tensor = _ResampleSlice.apply(x, call.run, key)
    return out


def check_overridden(report: RuleReport, result: Tensor | list[Tensor]) -> None:
    """Raise unless every rectifier on the way to ``result`` is under the rule.

    Besides counting the calls seen, walk the autograd graph: a rectifier inside a custom function or an
    operator unknown to the engine shows up there although no call was seen.

    Raises
    ------
    ModelError
        Naming what was not overridden. The maps would silently be plain gradients.
    """
    if report.rectifier == "gradient":
        return
    left = _foreign_nodes([result] if isinstance(result, Tensor) else result)
    report.left = left
    if left or report.overridden != report.seen:
        raise ModelError(
            f"{report.seen} rectifiers were seen and {report.overridden} put under the rule {report.rectifier!r}, but "
            f"the backward graph still holds {left}; their maps would be plain gradients. "
            "Use rectifier='gradient', or write these activations with torch's own operators"
        )


def _foreign_nodes(results: list[Tensor]) -> list[str]:
    open_nodes: list[Any] = [r.grad_fn for r in results if r.grad_fn is not None]
    known: set[Any] = set()
    left: list[str] = []
    own = {f"{c.__name__}Backward" for c in (_Rectify, _Resample, _ResampleSlice)}
    while open_nodes:
        node = open_nodes.pop()
        if node is None or node in known:
            continue
        known.add(node)
        name = node.name().rsplit("::", 1)[-1]
        stem = name.rstrip("0123456789").removesuffix("Backward")
        custom = isinstance(node, torch.autograd.function.BackwardCFunction)
        if stem in _RECTIFIER_NODES or (custom and name not in own) or _is_swish(node):
            left.append(name)
        open_nodes.extend(child for child, _ in node.next_functions)
    return left


def _is_swish(node: Any) -> bool:
    """Whether a product node spells ``x * sigmoid(x)`` (or hardsigmoid) by hand."""
    if not node.name().startswith("MulBackward"):
        return False
    sides = [side for side in node.next_functions if side[0] is not None]
    for gate, other in ((sides[0], sides[1]), (sides[1], sides[0])) if len(sides) == 2 else ():
        if gate[0].name().startswith(("SigmoidBackward", "HardsigmoidBackward")):
            inputs = gate[0].next_functions
            if inputs and inputs[0] == other:
                return True
    return False
