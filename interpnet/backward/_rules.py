"""Backward rules: what the signal does at rectifiers and strided convolutions on its way to the image.

docs/method.md, sections 5.2 and 5.3, have the rules. Adaptive pooling counts as pooling where its windows are equal;
L_p pooling keeps its gradient.

While weights take no gradient, convolutions and evaluated BatchNorm keep no activation (a convolution and the
BatchNorm after it become one step backwards), and a rectifier keeps one byte per position.

Sources: Zeiler & Fergus 2014 (DeconvNet); Springenberg et al. 2015 (guided); Oramas et al., ICLR 2019,
section 3.2 (resampling).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from interpnet.backward._functions import convolve, rectify, resample_pool, resample_slice, scale_channels
from interpnet.backward._passes import Passes
from interpnet.backward._pooling import dense_pooling, dense_slice
from interpnet.backward._report import RuleReport, check_overridden
from interpnet.engine import Call, Convolution, Instrument, instrument, times_written
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
    rules = RectifierRules(RuleReport(rectifier, resample, resample_pool))
    with rules.on(model):
        yield rules.report


class RectifierRules:
    """The rule of every call of one forward pass, with the convolution that ran last.

    ``apart`` names layers at whose maps the ordinary gradient is read: no step backwards goes past them.
    """

    def __init__(self, report: RuleReport, passes: Passes | None = None, apart: Collection[str] = frozenset()) -> None:
        self.report = report
        self.passes = passes or Passes()
        # LRP's rules count what layers keep; these do not conserve anything.
        self.absorbed: Tensor | None = None
        self._apart = apart
        self._last: _Convolved | None = None

    @contextmanager
    def on(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass of ``model`` inside the block under the rules."""
        with instrument(model, Instrument(rule=self._rule, rule_inplace=True, observe=self.report.observe)):
            try:
                yield
            finally:
                # The last convolution holds its input and output; nothing needs them after the pass.
                self._last = None

    def check(self, *results: Tensor) -> None:
        """Raise unless every rectifier on the way to ``results`` is under the rule."""
        check_overridden(self.report, list(results))

    def _rule(self, call: Call) -> Tensor | None:
        """Return the call's output with the rule as its backward, ``None`` where its own gradient is the rule."""
        x = call.argument(0, "input")
        if not isinstance(x, Tensor) or not x.requires_grad:
            return None
        if call.kind == "rectifier":
            return self._rectified(call, x)
        if call.operator.convolves:
            self._last = self._convolved(call, x)
            return None if self._last is None else self._last.output
        if call.op == "batch_norm":
            return self._normed(call, x)
        if call.op == "getitem" and self.report.resample:
            return self._sliced(call, x)
        if call.op.startswith("lp_pool"):
            # Its own gradient, in one step: torch computes it with a rectifier, which is none of the network's.
            return resample_pool(call, x, lambda z: call.on(z).run(), self.passes, average=False)
        if call.kind == "pool" and self.report.resample_pool:
            return self._pooled(call, x)
        return None

    def _rectified(self, call: Call, z: Tensor) -> Tensor | None:
        """Put a rectifier under the rule of docs/method.md, section 5.2."""
        self.report.overridden_calls.append(call.name)
        rectifier = self.report.rectifier
        # The gradient of any other rectifier is autograd's own; of a ReLU the mask alone need be kept.
        if rectifier == "gradient" and call.op != "relu":
            return None
        slope = None
        own = None
        if rectifier != "deconvnet":
            slope = z.detach() > 0
            if not call.operator.unit_slope:
                slope = _slope(call, z) * slope
        if self.passes.with_gradient:
            own = _slope(call, z)
        # Autograd lets no function of its own overwrite every view; those get a copy, which the engine writes back.
        direct = call.inplace and not z._is_view()  # noqa: SLF001
        run = call.run
        if call.inplace and not direct:
            run = call.on(z.clone()).run
        return rectify(z, run, slope, own, self.passes, positive=rectifier != "gradient", inplace=direct)

    def _convolved(self, call: Call, x: Tensor) -> _Convolved | None:
        """Put a convolution under the rule of resampling, or under its own gradient that keeps no activation."""
        if x.dim() != call.operator.dimensions + 2:
            return None
        how = call.convolution()
        resample = self.report.resample and max(how.stride) > 1
        # Convolve gives weights no gradient, which somebody may want.
        if not resample and _trained(call, x):
            return None
        self.report.resampled += resample
        weight = call.argument(1, "weight").detach()
        out = convolve(x, call.run, weight, None, how, self.passes, resample=resample)
        return _Convolved(call.name, x, out, weight, how, resample, (times_written(x), times_written(out)))

    def _normed(self, call: Call, x: Tensor) -> Tensor | None:
        """Give evaluated BatchNorm its factor per channel; after a convolution under a rule it scales its weight."""
        if not call.fixed_batch_norm or _trained(call, x):
            return None
        scale = call.batch_norm_affine()[0].to(x.dtype)
        last = self._last
        if last is not None and last.made(x) and last.name not in self._apart:
            # The signal may still start at the convolution itself, whose own node stays as it was.
            return convolve(last.x, call.run, last.weight, scale, last.how, self.passes, resample=last.resample)
        return scale_channels(x, call.run, scale)

    def _sliced(self, call: Call, x: Tensor) -> Tensor | None:
        """Put a strided slice of the spatial axes under the rule of resampling, as a convolution with a 1x1 kernel."""
        dense = dense_slice(call, x)
        if dense is None:
            return None
        self.report.resampled += 1
        return resample_slice(x, call.run, call.args[1], dense, self.passes)

    def _pooled(self, call: Call, x: Tensor) -> Tensor | None:
        """Put a strided pooling under the rule of resampling."""
        pooling = dense_pooling(call, x)
        if pooling is None:
            return None
        self.report.resampled += 1
        dense, average = pooling
        return resample_pool(call, x, dense, self.passes, average=average)


@dataclass(frozen=True)
class _Convolved:
    """A convolution under a rule: what the layer after it needs, to become one step backwards with it."""

    name: str
    x: Tensor
    output: Tensor
    weight: Tensor
    how: Convolution
    resample: bool
    versions: tuple[int, int]

    def made(self, x: Tensor) -> bool:
        """Whether ``x`` is this convolution's output, untouched since."""
        return x is self.output and self.versions == (times_written(self.x), times_written(x))


def _slope(call: Call, z: Tensor) -> Tensor:
    """Return ``a'(z)``, of a ReLU as a mask."""
    if call.op == "relu":
        return z.detach() > 0
    with torch.enable_grad():
        copy = z.detach().clone().requires_grad_()
        # The clone may be overwritten by an in-place rectifier; its own gradient is what we ask for.
        (slope,) = torch.autograd.grad(call.on(copy.clone()).run().sum(), copy)
    return slope


def _trained(call: Call, x: Tensor) -> bool:
    """Whether a weight or bias of the call takes a gradient."""
    return any(t.requires_grad for t in call.tensors() if t is not x)
