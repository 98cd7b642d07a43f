"""What a method is given and what it returns, and the few passes through the network that all methods share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from interpnet.attribution._inputs import Baseline, draw, image_generators, logits_in_parts, resolve_baseline
from interpnet.backward import backward_rules, check_overridden
from interpnet.engine import Instrument, Layers, Output, Site, Trace, find_sites, forward_logits, instrument, widest
from interpnet.errors import LayerError, ModelError
from interpnet.explanation import reduce_colours
from interpnet.support.brief import brief

REDUCTIONS = ("sum", "positive", "abs", "max")


@brief
@dataclass(frozen=True)
class Attribution:
    """The maps of a batch, with what is known of their conservation."""

    maps: Tensor  # (B, H, W): one value per pixel, not normalised
    raw: Tensor | None = None  # (B, C, H, W): the signal before its reduction over colours, for methods that have one
    # (B,): how far the method's own sum rule is off, see conserved(); None for methods without one.
    residual: Tensor | None = None
    residual_kind: str = ""  # what the sum should be, e.g. "sum = F(x) - F(baseline)"
    # (B,) of bool: the residual is past the method's bound. Do not read such a map as shares of the score.
    flagged: Tensor | None = None
    # More, by method: values of segments, the layer taken, ... Tensors and lists hold one entry per sample.
    info: dict[str, Any] = field(default_factory=dict)


class KnownTrace:
    """The sites of one network: found with the first images that ask for them, and kept for all later parts."""

    def __init__(self, model: nn.Module, output: Output | None = None) -> None:
        self._model = model
        self._output = output
        self._found: Trace | None = None

    def of(self, images: Tensor) -> Trace:
        """Return the sites, found with ``images`` unless they are known."""
        if self._found is None:
            self._found = find_sites(self._model, images, output=self._output)
        return self._found


@dataclass(frozen=True, kw_only=True)
class AttributionCall:
    """One batch to attribute, checked: the model is in evaluation mode and its parameters need no gradient."""

    model: nn.Module
    images: Tensor  # (B, C, H, W), on the model's device: a copy, so that the caller's own are out of reach
    target: Tensor  # (B,) of int64
    logits: Tensor  # (B, classes), of the images: no method needs to compute the score again
    sites: KnownTrace  # shared by all parts of a batch, see trace()
    output: Output | None  # maps what the model returns to logits
    max_batch: int  # no pass through the network may hold more images than this
    seed: int  # see generators()
    layer: Layers | None  # as the user gave it, see site()
    baseline: Baseline | None  # a name, a number or (B, C, H, W), see reference()
    reduction: str | None  # one of REDUCTIONS; None for methods that have no colours to reduce

    @property
    def score(self) -> Tensor:
        """Return the logits of the targets, (B,)."""
        return self.logits.gather(1, self.target[:, None])[:, 0]

    def part(self, here: slice, max_batch: int) -> AttributionCall:
        """Return this call on some of its images."""
        baseline = self.baseline
        if isinstance(baseline, Tensor):
            baseline = baseline[here]
        return replace(
            self,
            images=self.images[here],
            target=self.target[here],
            logits=self.logits[here],
            baseline=baseline,
            max_batch=max_batch,
        )

    def on(self, images: Tensor) -> AttributionCall:
        """Return this call on whole copies of the batch (changed, say), with targets and baselines to match."""
        n = images.shape[0] // self.images.shape[0]
        baseline = self.baseline
        if isinstance(baseline, Tensor):
            baseline = baseline.repeat(n, 1, 1, 1)
        # The logits are those of the unchanged images: only their width counts to a gradient method.
        logits = self.logits.repeat(n, 1)
        return replace(self, images=images, target=self.targets(images), logits=logits, baseline=baseline)

    def targets(self, images: Tensor) -> Tensor:
        """Return the targets of ``images`` that are whole copies of the batch, (copies * B,)."""
        return self.target.repeat(images.shape[0] // self.target.shape[0])

    def copies(self, n: int) -> Iterator[slice]:
        """Yield slices that cover ``range(n)``: the copies of the batch to run in one pass."""
        each = max(1, self.max_batch // self.images.shape[0])
        for first in range(0, n, each):
            yield slice(first, min(first + each, n))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (n, classes) of images in one pass, with their graph where gradients are recorded."""
        return forward_logits(self.model, images, self.output)

    def scores(self, images: Tensor, target: Tensor | None = None) -> Tensor:
        """Return the targets' logits (n,) of other images, at most ``max_batch`` in one pass; no graph is kept.

        Without ``target``, ``images`` are whole copies of the batch, (copies * B, C, H, W).
        """
        if target is None:
            target = self.targets(images)
        return logits_in_parts(self.model, images, self.max_batch, self.output).gather(1, target[:, None])[:, 0]

    def generators(self) -> list[torch.Generator]:
        """Return one random generator per image; see :func:`image_generators`."""
        return image_generators(self.images, self.seed)

    def draw(self, generators: Sequence[torch.Generator], *shape: int, normal: bool = False) -> Tensor:
        """Return (B, *shape) random numbers, uniform in [0, 1) or normal, beside the images."""
        return draw(self.images, generators, *shape, normal=normal)

    def reference(self, default: str = "blank") -> Tensor:
        """Return the baseline images (B, C, H, W): the user's own, else ``default`` (``"blank"`` or ``"blurred"``).

        Raises
        ------
        InterpNetError
            A name that is not known, or a tensor that does not fit the images.
        """
        baseline = self.baseline
        if baseline is None:
            baseline = default
        return resolve_baseline(self.images, baseline)

    def trace(self) -> Trace:
        """Return the sites of the network, found once with the user's own images."""
        return self.sites.of(self.images)

    def site(self) -> Site:
        """Return the target layer: the one asked for, else the last whose maps lie over the image; see :mod:`._cam`.

        Raises
        ------
        LayerError
            ``layer`` names none or several, or the network has no layer with a 2-D map.
        """
        return site_of(self.trace(), self.layer)

    def layer_maps(self, site: Site) -> Tensor:
        """Return the maps (B, K, h, w) of a site, without a graph."""
        kept: list[Tensor] = []
        read = Instrument(reads={site.name: site.reading(lambda out: kept.append(out.clone()))})
        with torch.no_grad(), instrument(self.model, read):
            self.forward(self.images)
        return site.maps(kept[0])

    def finish(self, raw: Tensor, **more: Any) -> Attribution:
        """Return the result whose maps are ``raw`` (B, C, H, W) reduced over colours."""
        raw = raw.detach()
        return Attribution(reduce_signal(raw, self.reduction or "sum"), raw, **more)


def site_of(trace: Trace, layer: Layers | None) -> Site:
    """Return the layer that a method of layers takes; see :meth:`AttributionCall.site`."""
    if layer is None:
        candidates = _layers_with_maps(trace)
        what = "the network has none"
    else:
        chosen = trace.select(layer)
        if len(chosen) > 1:
            names = ", ".join(s.name for s in chosen[:4])
            raise LayerError(f"layer={layer!r} names {len(chosen)} sites ({names}, ...); this method needs one")
        candidates = [s for s in chosen if _over_image(s)]
        what = f"layer={layer!r} has none"
    if not candidates:
        raise LayerError(f"this method needs a layer with a 2-D map over the image before the classifier; {what}")
    return candidates[-1]


def _layers_with_maps(trace: Trace) -> list[Site]:
    """Return the sites before the classifier whose maps over the image can be explained, the best one last."""
    maps = [s for s in trace.sites if s.usable and _over_image(s)]
    attention = [i for i, s in enumerate(trace.sites) if s.kind == "attention"]
    before = set() if not attention else {s.name for s in trace.sites[: attention[-1]]}
    convolutional = [s for s in maps if s.default and s.family == "conv"]
    # A map of one position (squeeze and excitation, a last pooling) shows no place; ConvNeXt's and Swin's maps come
    # from linear layers at every position. Attention after the last convolution changes what is where.
    large = [s for s in convolutional if min(s.map_shape) > 1]
    if convolutional and not (large and large[-1].name in before):
        return large or convolutional
    inner = [s for s in maps if not s.output and min(s.grid or s.map_shape) > 1]
    if inner and inner[-1].lead:
        # The class is read off a token of its own: what the last attention looks at is the last that counts.
        return [s for s in inner if s.kind == "norm" and s.name in before] or inner
    return inner


def _over_image(site: Site) -> bool:
    """Whether a site's maps lie over the image: their axes are rows and columns, maybe behind tokens of no place."""
    # What a convolution reads and makes has rows and columns, whatever came before; tokens in windows have none.
    placed = site.family == "conv" or all(f is not None for f in site.fields)
    return len(site.grid) == 2 or (len(site.map_shape) == 2 and placed)


def reduce_signal(raw: Tensor, reduction: str) -> Tensor:
    """Reduce (B, C, H, W) to (B, H, W): ``"sum"`` keeps signs; the others as :func:`reduce_colours`.

    Examples
    --------
    >>> reduce_signal(torch.tensor([[[[1.0]], [[-3.0]]]]), "sum")
    tensor([[[-2.]]])
    """
    if reduction == "sum":
        return raw.sum(-3)
    return reduce_colours(raw, reduction)  # docs/method.md, section 5.4


def score_gradient(
    call: AttributionCall, images: Tensor | None = None, *, rectifier: str = "gradient", resample: bool = False
) -> Tensor:
    """Return the signal (n, C, H, W) that each target's logit sends back to its image under a backward rule.

    Parameters
    ----------
    call : AttributionCall
    images : Tensor (copies * B, C, H, W), optional
        Whole copies of the batch, changed; the batch itself by default.
    rectifier, resample
        See :mod:`interpnet.backward`; ``"gradient"`` is the true derivative.

    Raises
    ------
    ModelError
        A rectifier escaped the rule, none was seen, or no gradient reaches the images.
    """
    if images is None:
        images = call.images
    parts = zip(torch.split(images, call.max_batch), torch.split(call.targets(images), call.max_batch), strict=True)
    return torch.cat([_one_gradient(call, x, target, rectifier, resample) for x, target in parts])


def _one_gradient(call: AttributionCall, images: Tensor, target: Tensor, rectifier: str, resample: bool) -> Tensor:
    rules: AbstractContextManager[Any] = nullcontext()
    if rectifier != "gradient" or resample:
        rules = backward_rules(call.model, rectifier=rectifier, resample=resample)
    with torch.enable_grad():
        x = images.detach().clone().requires_grad_()
        with rules as report:
            logits = call.forward(x)
        if report is not None:
            check_overridden(report, logits)
            if rectifier != "gradient" and report.seen == 0:
                raise ModelError(
                    f"no rectifier was seen in this network, so the rule {rectifier!r} would be the plain gradient; "
                    "use method='gradient'"
                )
        return gradient_of(logits.gather(1, target[:, None]).sum(), x)


def gradient_of(score: Tensor, x: Tensor) -> Tensor:
    """Return d score / d x, or raise :class:`ModelError` where no gradient arrives.

    Examples
    --------
    >>> x = torch.ones(2, requires_grad=True)
    >>> gradient_of((3 * x).sum(), x)
    tensor([3., 3.])
    """
    gradient = None
    if score.requires_grad:
        (gradient,) = torch.autograd.grad(score, x, allow_unused=True)
    if gradient is None:
        raise ModelError(
            "no gradient of the class's logit reaches the images: the model detaches them, rounds them, or runs under "
            "no_grad inside; use a method that only perturbs the image, e.g. method='occlusion'"
        )
    return gradient


def conserved(
    call: AttributionCall, raw: Tensor, expected: Tensor, kind: str, bound: float, **info: Any
) -> Attribution:
    """Return the result of a method whose signal should sum to ``expected`` (B,), with its residual.

    The residual is ``|sum(raw) - expected| / max(|expected|, 1e-6 * sum |raw|)``: relative, and finite where a
    score's difference is zero by chance. Samples with a residual past ``bound`` are flagged.
    """
    wide = raw.to(widest(raw.device))
    residual = relative_residual(wide.sum((1, 2, 3)), expected, wide.abs().sum((1, 2, 3)))
    return call.finish(raw, residual=residual, residual_kind=kind, flagged=~(residual <= bound), info=info)


def relative_residual(total: Tensor, expected: Tensor, size: Tensor) -> Tensor:
    """Return ``|total - expected| / max(|expected|, 1e-6 * size)``, zero where all are zero.

    Examples
    --------
    >>> relative_residual(torch.tensor([3.0]), torch.tensor([2.0]), torch.tensor([5.0]))
    tensor([0.5000])
    """
    expected = expected.to(total)
    off = (total - expected).abs()
    # A difference of scores may be zero by chance; a millionth of what was summed keeps the quotient finite.
    scale = torch.maximum(expected.abs(), 1e-6 * size)
    return torch.where(off == 0, torch.zeros_like(off), off / scale)
