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

``resample_pool=True`` (the demo's ``newPool``) does the same for strided pooling: the signal is resampled to the
positions of the same pooling with stride 1, whose gradient takes it on. Average pooling is a convolution, so this is
the rule above; each of the d_hat windows of maximum pooling has its own switch. By default pooling keeps its gradient
(``oldPool``). Adaptive pooling counts as pooling where its windows are equal; L_p pooling keeps its gradient.

While weights take no gradient, convolutions and evaluated BatchNorm keep no activation (a convolution and the
BatchNorm after it become one step backwards), and a rectifier keeps one byte a position.

Sources: Zeiler & Fergus 2014 (DeconvNet); Springenberg et al. 2015 (guided); Oramas et al., ICLR 2019,
section 3.2 (resampling).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from interpnet.backward._functions import OWN_NODES, Convolution, Convolve, Rectify, ResamplePool, ResampleSlice, Scale
from interpnet.backward._pooling import dense_pooling
from interpnet.engine import (
    Call,
    Instrument,
    instrument,
)
from interpnet.errors import InterpNetError, ModelError

RECTIFIER_RULES = ("gradient", "deconvnet", "guided")

# Autograd nodes of rectifiers. One that is left in the graph under a rule was not overridden.
_RECTIFIER_NODES = (
    "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Silu", "Mish", "Hardswish", "Hardtanh", "Softplus",
    "Prelu", "Threshold", "RreluWithNoise",
)  # fmt: skip


@dataclass
class RuleReport:
    """What a rule met on its way: rectifiers seen and overridden, strided layers (and pooling) resampled."""

    rectifier: str
    resample: bool
    resample_pool: bool = False
    seen: int = 0
    overridden: int = 0
    strided: int = 0
    resampled: int = 0
    left: list[str] = field(default_factory=list)


@contextmanager
def backward_rules(
    model: nn.Module, *, rectifier: str = "guided", resample: bool = True, resample_pool: bool = False
) -> Iterator[RuleReport]:
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
    rules = _Rules(RuleReport(rectifier, resample, resample_pool))
    with instrument(model, Instrument(rule=rules, rule_inplace=True)):
        try:
            yield rules.report
        finally:
            rules.last = None


class _Rules:
    """The rule of every call of one block, with the convolution that ran last."""

    def __init__(self, report: RuleReport) -> None:
        self.report = report
        self.last: _Convolved | None = None

    def __call__(self, call: Call) -> Tensor | None:
        x = call.argument(0, "input")
        if not isinstance(x, Tensor) or not x.requires_grad:
            return None
        if call.kind == "rectifier":
            return _rectified(call, x, self.report)
        if call.operator.convolves:
            self.last = _convolved(call, x, self.report)
            return None if self.last is None else self.last.output
        if call.op == "batch_norm":
            return _normed(call, x, self.last)
        if call.op == "getitem" and self.report.resample:
            return _sliced(call, x, self.report)
        if call.kind == "pool" and self.report.resample_pool:
            return _pooled(call, x, self.report)
        return None


@dataclass(frozen=True)
class _Convolved:
    """A convolution under a rule: what the layer after it needs, to become one step backwards with it."""

    x: Tensor
    output: Tensor
    weight: Tensor
    how: Convolution
    versions: tuple[int, int]

    def made(self, x: Tensor) -> bool:
        """Whether ``x`` is this convolution's output, untouched since."""
        return x is self.output and self.versions == (self.x._version, x._version)  # noqa: SLF001


def _rectified(call: Call, z: Tensor, report: RuleReport) -> Tensor | None:
    report.seen += 1
    report.overridden += 1
    if report.rectifier == "gradient" and call.op != "relu":
        return None
    slope = None if report.rectifier == "deconvnet" else _slope(call, z)
    inplace = call.inplace
    # Autograd lets no function of its own overwrite every view; those get a copy, which the engine writes back.
    direct = inplace and not z._is_view()  # noqa: SLF001

    def run() -> Tensor:
        y: Tensor = call.func(z.clone(), *call.args[1:], **call.kwargs) if inplace and not direct else call.run()
        return y

    out: Tensor = Rectify.apply(z, run, slope, report.rectifier != "gradient", direct)
    return out


def _slope(call: Call, z: Tensor) -> Tensor:
    """Return ``a'(z) * [z > 0]``, as a mask where it is one."""
    positive = z.detach() > 0
    if call.operator.unit_slope:
        return positive
    with torch.enable_grad():
        copy = z.detach().clone().requires_grad_()
        # The clone may be overwritten by an in-place rectifier; its own gradient is what we ask for.
        y = call.func(copy.clone(), *call.args[1:], **call.kwargs)
        (slope,) = torch.autograd.grad(y.sum(), copy)
    return slope * positive


def _convolved(call: Call, x: Tensor, report: RuleReport) -> _Convolved | None:
    if x.dim() != call.operator.dimensions + 2:
        return None
    given = call.convolution()
    weight = given.weight
    resample = report.resample and max(given.stride) > 1
    trained = weight.requires_grad or (given.bias is not None and given.bias.requires_grad)
    if trained and not resample:
        return None  # somebody may want the weight's gradient
    how = Convolution(given.stride, given.padding, given.dilation, given.groups, resample)
    report.strided += resample
    report.resampled += resample
    weight = weight.detach()
    out: Tensor = Convolve.apply(x, call.run, weight, None, how)
    return _Convolved(x, out, weight, how, (x._version, out._version))  # noqa: SLF001


def _normed(call: Call, x: Tensor, last: _Convolved | None) -> Tensor | None:
    """Give evaluated BatchNorm its factor a channel; after a convolution under a rule it scales that one's weight."""
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    given = {**dict(zip(names, call.args, strict=False)), **call.kwargs}
    variance, weight = given.get("running_var"), given.get("weight")
    trained = [p for p in (weight, given.get("bias")) if p is not None and p.requires_grad]
    if given.get("training", False) or variance is None or trained:
        return None
    scale = (variance + given.get("eps", 1e-5)).rsqrt()
    scale = (scale if weight is None else scale * weight).detach().to(x.dtype)
    if last is not None and last.made(x):
        # The signal may still start at the convolution itself, whose own node stays as it was.
        fused: Tensor = Convolve.apply(last.x, call.run, last.weight, scale, last.how)
        return fused
    out: Tensor = Scale.apply(x, call.run, scale)
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
    out: Tensor = ResampleSlice.apply(x, call.run, key)
    return out


def _pooled(call: Call, x: Tensor, report: RuleReport) -> Tensor | None:
    pooling = dense_pooling(call, x)
    if pooling is None:
        return None
    report.strided += 1
    report.resampled += 1
    out: Tensor = ResamplePool.apply(x, call.run, *pooling)
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
    while open_nodes:
        node = open_nodes.pop()
        if node is None or node in known:
            continue
        known.add(node)
        name = node.name().rsplit("::", 1)[-1]
        stem = name.rstrip("0123456789").removesuffix("Backward")
        custom = isinstance(node, torch.autograd.function.BackwardCFunction)
        if stem in _RECTIFIER_NODES or (custom and name not in OWN_NODES) or _is_swish(node):
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
