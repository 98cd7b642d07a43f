"""Backward rules: what the signal does at rectifiers and strided convolutions on its way to the image.

docs/method.md, sections 5.2 and 5.3, have the rules. Adaptive pooling counts as pooling where its windows are equal;
L_p pooling keeps its gradient.

While weights take no gradient, convolutions and evaluated BatchNorm keep no activation (a convolution and the
BatchNorm after it become one step backwards), and a rectifier keeps one byte per position.

Sources: Zeiler & Fergus 2014 (DeconvNet); Springenberg et al. 2015 (guided); Oramas et al., ICLR 2019,
section 3.2 (resampling).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from interpnet.backward._functions import convolve, rectify, resample_pool, resample_slice, scale_channels
from interpnet.backward._pooling import dense_pooling
from interpnet.backward._report import RuleReport
from interpnet.engine import Call, Convolution, Instrument, instrument, slices_of, times_written
from interpnet.support.checks import check_kinds, one_of

RECTIFIER_RULES = ("gradient", "deconvnet", "guided")


@contextmanager
def backward_rules(
    model: nn.Module, *, rectifier: str = "guided", resample: bool = True, resample_pool: bool = False
) -> Iterator[RuleReport]:
    """Run forward passes inside the block under the given backward rules.

    With R the incoming signal and z the input of a rectifier ``a``, ``"gradient"`` sends back ``R * a'(z)``,
    ``"deconvnet"`` ``R * [R > 0]``, and ``"guided"`` ``R * a'(z) * [z > 0] * [R > 0]``. ``resample`` resamples the
    signal at strided convolutions and slices, ``resample_pool`` at strided pooling too.

    The :class:`RuleReport` fills while forward passes run. Call :func:`check_overridden` with the output before
    trusting it.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU())
    >>> x = torch.ones(1, 1, requires_grad=True)
    >>> with backward_rules(net, rectifier="guided") as report:
    ...     y = net(x)
    >>> report.seen, report.overridden
    (1, 1)
    """
    check_kinds(backward_rules, locals())
    one_of(rectifier, "rectifier", RECTIFIER_RULES)
    report = RuleReport(rectifier, resample, resample_pool)
    rules = _Rules(report)
    with instrument(model, Instrument(rule=rules, rule_inplace=True, observe=report.observe)):
        try:
            yield report
        finally:
            # The last convolution holds its input and output; nothing needs them after the pass.
            rules.last = None


class _Rules:
    """The rule of every call of one block, with the convolution that ran last."""

    def __init__(self, report: RuleReport) -> None:
        self.report = report
        self.last: _Convolved | None = None

    def __call__(self, call: Call) -> Tensor | None:
        """Return the call's output with the rule as its backward, ``None`` where its own gradient is the rule."""
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
        if call.op.startswith("lp_pool"):
            # Its own gradient, in one step: torch computes it with a rectifier, which is none of the network's.
            return resample_pool(x, call.run, lambda z: call.on(z).run(), average=False)
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
    resample: bool
    versions: tuple[int, int]

    def made(self, x: Tensor) -> bool:
        """Whether ``x`` is this convolution's output, untouched since."""
        return x is self.output and self.versions == (times_written(self.x), times_written(x))


def _rectified(call: Call, z: Tensor, report: RuleReport) -> Tensor | None:
    """Put a rectifier under the rule of docs/method.md, section 5.2."""
    report.overridden_calls.append(call.name)
    # The gradient of any other rectifier is autograd's own; of a ReLU the mask alone need be kept.
    if report.rectifier == "gradient" and call.op != "relu":
        return None
    slope = None if report.rectifier == "deconvnet" else _slope(call, z)
    # Autograd lets no function of its own overwrite every view; those get a copy, which the engine writes back.
    direct = call.inplace and not z._is_view()  # noqa: SLF001
    run = call.on(z.clone()).run if call.inplace and not direct else call.run
    return rectify(z, run, slope, positive=report.rectifier != "gradient", inplace=direct)


def _slope(call: Call, z: Tensor) -> Tensor:
    """Return ``a'(z) * [z > 0]``, as a mask where it is one."""
    positive = z.detach() > 0
    if call.operator.unit_slope:
        return positive
    with torch.enable_grad():
        copy = z.detach().clone().requires_grad_()
        # The clone may be overwritten by an in-place rectifier; its own gradient is what we ask for.
        (slope,) = torch.autograd.grad(call.on(copy.clone()).run().sum(), copy)
    return slope * positive


def _convolved(call: Call, x: Tensor, report: RuleReport) -> _Convolved | None:
    """Put a convolution under the rule of resampling, or under its own gradient that keeps no activation."""
    if x.dim() != call.operator.dimensions + 2:
        return None
    how = call.convolution()
    resample = report.resample and max(how.stride) > 1
    # Convolve gives weights no gradient, which somebody may want.
    if not resample and _trained(call, x):
        return None
    report.resampled += resample
    weight = call.argument(1, "weight").detach()
    out = convolve(x, call.run, weight, None, how, resample=resample)
    return _Convolved(x, out, weight, how, resample, (times_written(x), times_written(out)))


def _trained(call: Call, x: Tensor) -> bool:
    """Whether a weight or bias of the call takes a gradient."""
    return any(t.requires_grad for t in call.tensors() if t is not x)


def _normed(call: Call, x: Tensor, last: _Convolved | None) -> Tensor | None:
    """Give evaluated BatchNorm its factor per channel; after a convolution under a rule it scales that one's weight."""
    if not call.fixed_batch_norm or _trained(call, x):
        return None
    scale = call.batch_norm_affine()[0].to(x.dtype)
    if last is not None and last.made(x):
        # The signal may still start at the convolution itself, whose own node stays as it was.
        return convolve(last.x, call.run, last.weight, scale, last.how, resample=last.resample)
    return scale_channels(x, call.run, scale)


def _sliced(call: Call, x: Tensor, report: RuleReport) -> Tensor | None:
    """Put a strided slice of the spatial axes under the rule of resampling, as a convolution with a 1x1 kernel."""
    key = slices_of(call.args[1], x)
    if key is None or len(key) != x.dim() or x.dim() < 3 or not all(isinstance(k, slice) for k in key):
        return None
    # Batch and channels must be taken whole, and some spatial axis in steps.
    steps = [k.indices(n)[2] for k, n in zip(key, x.shape, strict=True)]
    if max(steps[2:]) == 1 or steps[:2] != [1, 1]:
        return None
    report.resampled += 1
    return resample_slice(x, call.run, key)


def _pooled(call: Call, x: Tensor, report: RuleReport) -> Tensor | None:
    """Put a strided pooling under the rule of resampling."""
    pooling = dense_pooling(call, x)
    if pooling is None:
        return None
    report.resampled += 1
    dense, average = pooling
    return resample_pool(x, call.run, dense, average=average)
