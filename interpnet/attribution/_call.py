"""What a method is given and what it returns, and the few passes through the network that all methods share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from interpnet.backward import backward_rules, check_overridden
from interpnet.engine import Layers, Output, Site, Trace, find_sites, logits_of
from interpnet.errors import InterpNetError, LayerError, ModelError
from interpnet.explanation import reduce_colours

REDUCTIONS = ("sum", "positive", "abs", "max")


@dataclass(frozen=True)
class Attribution:
    """The maps of a batch, with what is known of their conservation.

    Attributes
    ----------
    maps : Tensor (B, H, W)
        One value a pixel, not normalised.
    raw : Tensor (B, C, H, W) or None
        The signal before its reduction over colours; ``None`` for methods that have none.
    residual : Tensor (B,) or None
        How far the method's own sum rule is off, relative: ``|sum - expected| / |expected|``; ``None`` for
        methods without one. See :func:`conserved`.
    residual_kind : str
        What the sum should be, e.g. ``"sum = F(x) - F(baseline)"``; ``""`` without a residual.
    flagged : Tensor (B,) of bool
        The residual is past the method's bound: do not read this map as shares of the score.
    info : dict
        More, by method: values of segments, the layer taken, ... Tensors and lists hold one entry a sample.
    """

    maps: Tensor
    raw: Tensor | None = None
    residual: Tensor | None = None
    residual_kind: str = ""
    flagged: Tensor | None = None
    info: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AttributionCall:
    """One batch to attribute, checked: the model is in evaluation mode and its parameters need no gradient.

    Attributes
    ----------
    model : nn.Module
    images : Tensor (B, C, H, W)
        On the model's device, B at most ``max_batch``; the caller's own copy is out of reach.
    target : Tensor (B,) of int64
    logits : Tensor (B, classes)
        Of ``images``: no method needs to compute the score again.
    output : function or None
        Maps what the model returns to logits.
    max_batch : int
        No pass through the network may hold more images than this.
    seed : int
        See :meth:`generators`.
    layer, baseline
        As the user gave them; see :meth:`site` and :meth:`reference`.
    reduction : str or None
        One of ``"sum", "positive", "abs", "max"``; ``None`` for methods that have no colours to reduce.
    shared : dict
        Kept between the parts of one batch: the trace.
    """

    model: nn.Module
    images: Tensor
    target: Tensor
    logits: Tensor
    output: Output | None = None
    max_batch: int = 16
    seed: int = 0
    layer: Layers | None = None
    baseline: str | float | Tensor | None = None
    reduction: str | None = "sum"
    shared: dict[str, Any] = field(default_factory=dict)

    @property
    def score(self) -> Tensor:
        """Return the logits of the targets, (B,)."""
        return self.logits.gather(1, self.target[:, None])[:, 0]

    def scores(self, images: Tensor, target: Tensor | None = None) -> Tensor:
        """Return the targets' logits (n,) of other images, at most ``max_batch`` a pass; no graph is kept.

        Without ``target``, ``images`` are whole copies of the batch, (copies * B, C, H, W).
        """
        target = self.targets(images) if target is None else target
        found = []
        with torch.no_grad():
            for x, t in zip(torch.split(images, self.max_batch), torch.split(target, self.max_batch), strict=True):
                logits = logits_of(self.model(x.clone()), x.shape[0], self.output)
                found.append(logits.gather(1, t[:, None])[:, 0])
        return torch.cat(found)

    def targets(self, images: Tensor) -> Tensor:
        """Return the targets of ``images`` that are whole copies of the batch, (copies * B,)."""
        return self.target.repeat(images.shape[0] // self.target.shape[0])

    def copies(self, n: int) -> Iterator[int]:
        """Yield how many copies of the batch to run at once, until ``n`` have been."""
        each = max(1, self.max_batch // self.images.shape[0])
        for first in range(0, n, each):
            yield min(each, n - first)

    def on(self, images: Tensor) -> AttributionCall:
        """Return this call on whole copies of the batch (changed, say), with targets and baselines to match."""
        n = images.shape[0] // self.images.shape[0]
        baseline = self.baseline
        if isinstance(baseline, Tensor) and baseline.dim() == 4 and baseline.shape[0] == self.images.shape[0]:
            baseline = baseline.repeat(n, 1, 1, 1)
        logits = self.logits.repeat(n, 1)  # of the unchanged images: only their width counts to a gradient method
        return replace(self, images=images, target=self.targets(images), logits=logits, baseline=baseline)

    def generators(self) -> list[torch.Generator]:
        """Return one random generator a sample, seeded by ``seed`` and the sample's own pixels.

        So images differ in their noise, and one image has the same noise alone, in any batch and on any device.
        They draw on the CPU.
        """
        made = []
        for image in self.images:
            pixels = image.detach().float().cpu().contiguous().view(torch.uint8).numpy().tobytes()
            digest = hashlib.blake2b(pixels, digest_size=8, salt=str(self.seed).encode()[-16:]).digest()
            generator = torch.Generator()
            generator.manual_seed(int.from_bytes(digest, "little"))
            made.append(generator)
        return made

    def draw(self, generators: Sequence[torch.Generator], *shape: int, normal: bool = False) -> Tensor:
        """Return (B, *shape) random numbers, uniform in [0, 1) or normal, on the images' device."""
        numbers = [(torch.randn if normal else torch.rand)(shape, generator=g) for g in generators]
        return torch.stack(numbers).to(self.images)

    def reference(self, default: str = "blank") -> Tensor:
        """Return the baseline images (B, C, H, W): the user's own, else ``default`` (``"blank"`` or ``"blurred"``).

        Raises
        ------
        InterpNetError
            A name that is not known, or a tensor that does not fit the images.
        """
        return resolve_baseline(self.images, default if self.baseline is None else self.baseline)

    def trace(self) -> Trace:
        """Return the sites of the network, found once with the user's own images."""
        if "trace" not in self.shared:
            self.shared["trace"] = find_sites(self.model, self.images, output=self.output)
        trace: Trace = self.shared["trace"]
        return trace

    def site(self) -> Site:
        """Return the target layer: the one asked for, else the last convolutional site, or the last with a 2-D map.

        Raises
        ------
        LayerError
            ``layer`` names none or several, or the network has no layer with a 2-D map.
        """
        found = self.trace()
        if self.layer is not None:
            chosen = found.select(self.layer)
            if len(chosen) > 1:
                names = ", ".join(s.name for s in chosen[:4])
                raise LayerError(
                    f"layer={self.layer!r} names {len(chosen)} sites ({names}, ...); this method needs one"
                )
            candidates = [s for s in chosen if len(s.map_shape) == 2]
        else:
            usable = [s for s in found.sites if s.default and s.usable and s.family == "conv" and len(s.map_shape) == 2]
            candidates = [s for s in usable if min(s.map_shape) > 1] or usable
            if not candidates:  # ConvNeXt, Swin: their maps come from linear layers at every position
                maps = [s for s in found.sites if s.usable and not s.output and len(s.map_shape) == 2]
                candidates = [s for s in maps if min(s.map_shape) > 1]
        if not candidates:
            what = "the network has none" if self.layer is None else f"layer={self.layer!r} has none"
            raise LayerError(f"this method needs a layer with a 2-D map before the classifier; {what}")
        return candidates[-1]

    def finish(self, raw: Tensor, **more: Any) -> Attribution:
        """Return the result whose maps are ``raw`` (B, C, H, W) reduced over colours."""
        raw = raw.detach()
        return Attribution(reduce_signal(raw, self.reduction or "sum"), raw, **more)


def reduce_signal(raw: Tensor, reduction: str) -> Tensor:
    """Reduce (B, C, H, W) to (B, H, W): ``"sum"`` keeps signs; the others as :func:`reduce_colours`.

    Examples
    --------
    >>> reduce_signal(torch.tensor([[[[1.0]], [[-3.0]]]]), "sum")
    tensor([[[-2.]]])
    """
    return raw.sum(-3) if reduction == "sum" else reduce_colours(raw, reduction)


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
    images = call.images if images is None else images
    target = call.targets(images)
    parts = zip(torch.split(images, call.max_batch), torch.split(target, call.max_batch), strict=True)
    return torch.cat([_one_gradient(call, x, t, rectifier, resample) for x, t in parts])


def _one_gradient(call: AttributionCall, images: Tensor, target: Tensor, rectifier: str, resample: bool) -> Tensor:
    plain = rectifier == "gradient" and not resample
    with torch.enable_grad():
        x = images.detach().clone().requires_grad_()
        rules = nullcontext() if plain else backward_rules(call.model, rectifier=rectifier, resample=resample)
        with rules as report:
            # The network gets a clone: it may work in place on its very input.
            logits = logits_of(call.model(x.clone()), x.shape[0], call.output)
        if report is not None:
            check_overridden(report, logits)
            if rectifier != "gradient" and report.seen == 0:
                raise ModelError(
                    f"no rectifier was seen in this network, so the rule {rectifier!r} would be the plain gradient; "
                    "use method='gradient'"
                )
        score = logits.gather(1, target[:, None]).sum()
        return gradient_of(score, x)


def gradient_of(score: Tensor, x: Tensor) -> Tensor:
    """Return d score / d x, or raise :class:`ModelError` where no gradient arrives.

    Examples
    --------
    >>> x = torch.ones(2, requires_grad=True)
    >>> gradient_of((3 * x).sum(), x)
    tensor([3., 3.])
    """
    gradient = torch.autograd.grad(score, x, allow_unused=True)[0] if score.requires_grad else None
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
    wide = raw if raw.device.type == "mps" else raw.double()  # there is no float64 on MPS
    total, size = wide.sum((1, 2, 3)), wide.abs().sum((1, 2, 3))
    residual = relative_residual(total, expected, size)
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
    scale = torch.maximum(expected.abs(), 1e-6 * size)
    return torch.where(off == 0, torch.zeros_like(off), off / scale)


def resolve_baseline(images: Tensor, baseline: str | float | Tensor) -> Tensor:
    """Return baseline images (B, C, H, W).

    Parameters
    ----------
    images : Tensor (B, C, H, W)
    baseline : {"blank", "blurred"}, number, or Tensor
        ``"blank"``: zeros, the mean colour where images are normalised; ``"blurred"``: a Gaussian of a twentieth of
        the shorter side; a number: every value; a tensor (C, H, W), or (B or 1, C, H, W): these images.

    Examples
    --------
    >>> resolve_baseline(torch.ones(1, 1, 1, 2), 0.5)
    tensor([[[[0.5000, 0.5000]]]])
    """
    if isinstance(baseline, Tensor):
        shape = tuple(baseline.shape)
        fits = shape == tuple(images.shape[1:]) or (len(shape) == 4 and shape[0] in {1, images.shape[0]})
        if not fits or shape[-3:] != tuple(images.shape[1:]):
            raise InterpNetError(
                f"baseline: shape {shape} came; expected {tuple(images.shape[1:])}, or one such image a sample: "
                f"{tuple(images.shape)}"
            )
        return baseline.detach().to(images).expand(images.shape)
    if isinstance(baseline, int | float) and not isinstance(baseline, bool):
        return torch.full_like(images, baseline)
    if baseline == "blank":
        return torch.zeros_like(images)
    if baseline == "blurred":
        return blurred(images, min(images.shape[2:]) / 20)
    raise InterpNetError(f"baseline={baseline!r}; expected 'blank', 'blurred', a number, or a tensor of images")


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Return images (B, C, H, W) under a Gaussian of ``sigma`` pixels, its weights renormalised at the borders.

    Examples
    --------
    >>> blurred(torch.ones(1, 1, 2, 2), 1.0)
    tensor([[[[1., 1.],
              [1., 1.]]]])
    """
    rows, columns = (_blur_matrix(n, sigma).to(images) for n in images.shape[2:])
    return rows @ images @ columns.T


def _blur_matrix(n: int, sigma: float) -> Tensor:
    at = torch.arange(n, dtype=torch.float64)
    weights = torch.exp(-((at[:, None] - at) ** 2) / (2 * max(sigma, 1e-6) ** 2))
    return weights / weights.sum(1, keepdim=True)
