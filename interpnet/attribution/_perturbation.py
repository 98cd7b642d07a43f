"""Methods that only change the image and watch the score: they need no gradient and see the network as a box.

The score is the target's logit. What is taken away shows the baseline instead: grey (zero, the mean colour of
normalised images) by default.
"""

from __future__ import annotations

import torch
from torch import Tensor

from interpnet.attribution._call import Attribution, AttributionCall, relative_residual
from interpnet.attribution._coalitions import (
    draw_masks,
    kernel_coalitions,
    lime_weights,
    permutation_coalitions,
    permutation_values,
    ridge,
    shapley_regression,
)
from interpnet.attribution._registry import register
from interpnet.attribution._segments import image_segments
from interpnet.errors import InterpNetError


@register(
    "occlusion",
    family="perturbation",
    paper="Zeiler & Fergus 2014: the drop of the score behind a grey patch",
    cost="one a patch: 225 by default",
    needs={"baseline"},
    reduction=None,
)
def occlusion(call: AttributionCall, *, patch: int | None = None, stride: int | None = None) -> Attribution:
    """Return for each pixel the mean drop of the score over the patches that hide it.

    Parameters
    ----------
    call : AttributionCall
    patch : int
        Side of the square patch in pixels; an eighth of the shorter side by default. The last one along an axis
        is moved inwards to end at the border.
    stride : int
        Between patches, at most ``patch``; half a patch by default.
    """
    height, width = call.images.shape[2:]
    patch = max(1, min(height, width) // 8) if patch is None else patch
    stride = max(1, patch // 2) if stride is None else stride
    if not 1 <= patch <= min(height, width) or not 1 <= stride <= patch:
        raise InterpNetError(
            f"patch={patch}, stride={stride}; expected 1 <= stride <= patch <= {min(height, width)}, so that each "
            "pixel is hidden at least once"
        )
    rows, columns = ([*range(0, n - patch, stride), n - patch] for n in (height, width))
    corners = [(r, c) for r in rows for c in columns]
    baseline, score = call.reference(), call.score
    total, times, done = torch.zeros_like(call.images[:, 0]), call.images.new_zeros(height, width), 0
    for count in call.copies(len(corners)):
        here = corners[done : done + count]
        images = call.images.repeat(count, 1, 1, 1).view(count, *call.images.shape)
        for i, (r, c) in enumerate(here):
            images[i, :, :, r : r + patch, c : c + patch] = baseline[:, :, r : r + patch, c : c + patch]
        drops = score - call.scores(images.flatten(0, 1)).view(count, -1)
        for i, (r, c) in enumerate(here):
            total[:, r : r + patch, c : c + patch] += drops[i].to(total)[:, None, None]
            times[r : r + patch, c : c + patch] += 1
        done += count
    return Attribution(total / times, info={"patch": patch, "stride": stride})


@register(
    "lime",
    family="perturbation",
    paper="Ribeiro et al. 2016: a weighted ridge regression on segments",
    cost=lambda samples=500: samples,
    needs={"baseline", "samples"},
    reduction=None,
)
def lime(
    call: AttributionCall,
    *,
    samples: int = 500,
    segments: str | Tensor = "grid",
    cells: int = 7,
    kernel_width: float = 0.25,
    alpha: float = 1.0,
) -> Attribution:
    """Return each segment's coefficient in a local linear model of the score, at each of its pixels.

    Each segment is kept with probability a half; a sample counts ``sqrt(exp(-d^2 / kernel_width^2))``, d the cosine
    distance to the whole image; the model is a ridge regression with intercept (penalty ``alpha``): the settings
    of the authors' image explainer, on logits instead of probabilities.

    Parameters
    ----------
    call : AttributionCall
    samples : int
    segments : {"grid", "superpixels"} or Tensor (H, W) of int
        ``"superpixels"`` is SLIC and needs scikit-image; a tensor gives each pixel its segment's number.
    cells : int
        A grid of ``cells`` x ``cells``, or about so many superpixels.
    kernel_width, alpha : float
    """
    found = image_segments(call.images, segments, cells)
    _check_samples(samples, 2)
    masks = [draw_masks(k, samples, g) for k, g in zip(found.counts, call.generators(), strict=True)]
    y = _coalition_scores(call, found.cells, masks)
    fits = [ridge(m, v, lime_weights(m, kernel_width), alpha) for m, v in zip(masks, y, strict=True)]
    values, quality = [f[0] for f in fits], torch.tensor([f[1] for f in fits])
    return Attribution(_painted(call, found.cells, values), info={"values": values, "r2": quality})


@register(
    "kernel_shap",
    family="perturbation",
    paper="Lundberg & Lee 2017; Covert & Lee 2021: Shapley values by constrained regression",
    cost=lambda samples=500: samples,
    needs={"baseline", "samples"},
    reduction=None,
    axioms={"exact"},
)
def kernel_shap(
    call: AttributionCall, *, samples: int = 500, segments: str | Tensor = "grid", cells: int = 7
) -> Attribution:
    """Return each segment's Shapley value, estimated from coalitions drawn in pairs of complements.

    Where ``samples`` allows all ``2^K - 2`` coalitions of K segments, all are taken and the values are exact. The
    values sum to ``F(x) - F(baseline)`` by construction. See :func:`lime` for the segments; the image explained is
    painted with each segment's value at each of its pixels.
    """
    found = image_segments(call.images, segments, cells)
    _check_samples(samples, 2)
    chosen = [kernel_coalitions(k, samples, g) for k, g in zip(found.counts, call.generators(), strict=True)]
    y = _coalition_scores(call, found.cells, [c[0] for c in chosen])
    empty, full = call.scores(call.reference()).cpu().double(), call.score.cpu().double()
    values = [
        shapley_regression(m, v, w, float(empty[i]), float(full[i]))
        for i, ((m, w), v) in enumerate(zip(chosen, y, strict=True))
    ]
    return _shapley(call, found.cells, values, full - empty)


@register(
    "shapley_sampling",
    family="perturbation",
    paper="Castro et al. 2009; Strumbelj & Kononenko 2010: Shapley values over drawn orders",
    cost=lambda orders=10, cells=7: orders * (cells**2 - 1) + 1,
    needs={"baseline", "samples"},
    reduction=None,
    axioms={"exact"},
)
def shapley_sampling(
    call: AttributionCall, *, orders: int = 10, segments: str | Tensor = "grid", cells: int = 7
) -> Attribution:
    """Return each segment's mean gain of the score when it joins, over random orders of the segments.

    The values sum to ``F(x) - F(baseline)`` for any number of orders. See :func:`lime` for the segments.
    """
    found = image_segments(call.images, segments, cells)
    _check_samples(orders, 1)
    chosen = [permutation_coalitions(k, orders, g) for k, g in zip(found.counts, call.generators(), strict=True)]
    y = _coalition_scores(call, found.cells, [c[0] for c in chosen])
    empty, full = call.scores(call.reference()).cpu().double(), call.score.cpu().double()
    values = [
        permutation_values(order, v, float(empty[i]), float(full[i]))
        for i, ((_, order), v) in enumerate(zip(chosen, y, strict=True))
    ]
    return _shapley(call, found.cells, values, full - empty)


def _shapley(call: AttributionCall, cells: Tensor, values: list[Tensor], expected: Tensor) -> Attribution:
    residual = torch.stack(
        [relative_residual(v.sum(), e, v.abs().sum()) for v, e in zip(values, expected, strict=True)]
    )
    return Attribution(
        _painted(call, cells, values),
        residual=residual.to(call.images.device, torch.float32),
        residual_kind="sum over segments = F(x) - F(baseline)",
        flagged=(~(residual <= 1e-4)).to(call.images.device),
        info={"values": values},
    )


def _coalition_scores(call: AttributionCall, cells: Tensor, masks: list[Tensor]) -> list[Tensor]:
    """Return for every sample the scores (n,) in float64 of its coalitions (n, K): True keeps a segment."""
    rows, widest = max(len(m) for m in masks), max(m.shape[1] for m in masks)
    padded = torch.ones(rows, len(masks), widest, dtype=torch.bool)
    for i, m in enumerate(masks):
        padded[: len(m), i, : m.shape[1]] = m
    baseline, flat, found, done = call.reference(), cells.flatten(1), [], 0
    for count in call.copies(rows):
        keep = padded[done : done + count].to(flat.device).gather(2, flat.expand(count, -1, -1))
        images = torch.where(keep.view(count, len(masks), 1, *cells.shape[1:]), call.images, baseline)
        found.append(call.scores(images.flatten(0, 1)).view(count, -1).cpu().double())
        done += count
    y = torch.cat(found)
    return [y[: len(m), i] for i, m in enumerate(masks)]


def _painted(call: AttributionCall, cells: Tensor, values: list[Tensor]) -> Tensor:
    return torch.stack([v.to(call.images)[c] for v, c in zip(values, cells, strict=True)])


def _check_samples(n: int, least: int) -> None:
    if isinstance(n, bool) or not isinstance(n, int) or n < least:
        raise InterpNetError(f"{n!r} samples (or orders) were asked for; expected a whole number from {least} on")
