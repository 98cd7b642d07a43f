"""Methods that only change the image and watch the score: they need no gradient and see the network as a box.

The score is the target's logit. What is taken away shows the baseline instead: grey (zero, the mean colour of
normalised images) by default.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

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
from interpnet.support.checks import whole_number

_register = partial(register, family="perturbation", reduction=None)


@_register(
    "occlusion",
    paper="Zeiler & Fergus 2014: the drop of the score behind a grey patch",
    cost="one a patch: 225 by default",
    needs={"baseline"},
)
def occlusion(call: AttributionCall, *, patch: int | None = None, stride: int | None = None) -> Attribution:
    """Return for each pixel the mean drop of the score over the patches that hide it.

    Parameters
    ----------
    call : AttributionCall
    patch : int
        Side of the square patch in pixels; an eighth of the shorter side by default.
    stride : int
        Between patches, at most ``patch``; half a patch by default.
    """
    height, width = call.images.shape[2:]
    if patch is None:
        patch = max(1, min(height, width) // 8)
    if stride is None:
        stride = max(1, patch // 2)
    if not 1 <= patch <= min(height, width) or not 1 <= stride <= patch:
        raise InterpNetError(
            f"patch={patch}, stride={stride}; expected 1 <= stride <= patch <= {min(height, width)}, so that each "
            "pixel is hidden at least once"
        )
    # The last patch along an axis is moved inwards to end at the border.
    rows, columns = ([*range(0, n - patch, stride), n - patch] for n in (height, width))
    windows = [(slice(r, r + patch), slice(c, c + patch)) for r in rows for c in columns]
    baseline = call.reference()
    total = torch.zeros_like(call.images[:, 0])
    times = call.images.new_zeros(height, width)
    for here in call.copies(len(windows)):
        images = call.images.repeat(len(windows[here]), 1, 1, 1).view(-1, *call.images.shape)
        for copy, (r, c) in zip(images, windows[here], strict=True):
            copy[:, :, r, c] = baseline[:, :, r, c]
        drops = call.score - call.scores(images.flatten(0, 1)).view(len(images), -1)
        for drop, (r, c) in zip(drops, windows[here], strict=True):
            total[:, r, c] += drop.to(total)[:, None, None]
            times[r, c] += 1
    # Patches overlap, and those at the borders more: each pixel has the mean over its own.
    return Attribution(total / times, info={"patch": patch, "stride": stride})


@_register(
    "lime",
    paper="Ribeiro et al. 2016: a weighted ridge regression on segments",
    cost=lambda samples=500: samples,
    needs={"baseline", "samples"},
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
    samples = whole_number(samples, "samples", least=2)
    found = image_segments(call.images, segments, cells)
    masks = [draw_masks(k, samples, g) for k, g in zip(found.counts, call.generators(), strict=True)]
    y = _coalition_scores(call, found.cells, masks)
    fits = [ridge(m, v, lime_weights(m, kernel_width), alpha) for m, v in zip(masks, y, strict=True)]
    values = [coefficients for coefficients, _ in fits]
    quality = torch.tensor([r2 for _, r2 in fits])
    return Attribution(_painted(call, found.cells, values), info={"values": values, "r2": quality})


@_register(
    "kernel_shap",
    paper="Lundberg & Lee 2017; Covert & Lee 2021: Shapley values by constrained regression",
    cost=lambda samples=500: samples,
    needs={"baseline", "samples"},
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
    samples = whole_number(samples, "samples", least=2)
    return _shapley(call, segments, cells, lambda k, g: kernel_coalitions(k, samples, g), shapley_regression)


@_register(
    "shapley_sampling",
    paper="Castro et al. 2009; Strumbelj & Kononenko 2010: Shapley values over drawn orders",
    cost=lambda orders=10, cells=7: orders * (cells**2 - 1) + 1,
    needs={"baseline", "samples"},
    axioms={"exact"},
)
def shapley_sampling(
    call: AttributionCall, *, orders: int = 10, segments: str | Tensor = "grid", cells: int = 7
) -> Attribution:
    """Return each segment's mean gain of the score when it joins, over random orders of the segments.

    The values sum to ``F(x) - F(baseline)`` for any number of orders. See :func:`lime` for the segments.
    """
    orders = whole_number(orders, "orders", least=1)
    return _shapley(call, segments, cells, lambda k, g: permutation_coalitions(k, orders, g), permutation_values)


def _shapley(
    call: AttributionCall,
    segments: str | Tensor,
    cells: int,
    choose: Callable[[int, torch.Generator], tuple[Tensor, Tensor]],
    solve: Callable[[Tensor, Tensor, Tensor, float, float], Tensor],
) -> Attribution:
    """Choose coalitions for each image, score them, and solve for the values of its segments."""
    found = image_segments(call.images, segments, cells)
    chosen = [choose(k, g) for k, g in zip(found.counts, call.generators(), strict=True)]
    y = _coalition_scores(call, found.cells, [masks for masks, _ in chosen])
    empty = call.scores(call.reference()).cpu().double()
    full = call.score.cpu().double()
    values = []
    residuals = []
    for (masks, more), scores, e, f in zip(chosen, y, empty, full, strict=True):
        value = solve(masks, scores, more, float(e), float(f))
        values.append(value)
        residuals.append(relative_residual(value.sum(), f - e, value.abs().sum()))
    residual = torch.stack(residuals)
    return Attribution(
        _painted(call, found.cells, values),
        residual=residual.to(call.images.device, torch.float32),
        residual_kind="sum over segments = F(x) - F(baseline)",
        # Written so that a residual which is not a number is flagged.
        flagged=(~(residual <= 1e-4)).to(call.images.device),
        info={"values": values},
    )


def _coalition_scores(call: AttributionCall, cells: Tensor, masks: list[Tensor]) -> list[Tensor]:
    """Return for every sample the scores (n,) in float64 of its coalitions (n, K): True keeps a segment."""
    # Images may have different numbers of segments and coalitions: the shorter ones are filled with True.
    rows = max(len(m) for m in masks)
    padded = torch.ones(rows, len(masks), max(m.shape[1] for m in masks), dtype=torch.bool)
    for i, m in enumerate(masks):
        padded[: len(m), i, : m.shape[1]] = m
    baseline = call.reference()
    flat = cells.flatten(1)
    found = []
    for here in call.copies(rows):
        part = padded[here].to(flat.device)
        keep = part.gather(2, flat.expand(len(part), -1, -1)).view(len(part), len(masks), 1, *cells.shape[1:])
        images = torch.where(keep, call.images, baseline)
        found.append(call.scores(images.flatten(0, 1)).view(len(part), -1).cpu().double())
    y = torch.cat(found)
    return [y[: len(m), i] for i, m in enumerate(masks)]


def _painted(call: AttributionCall, cells: Tensor, values: list[Tensor]) -> Tensor:
    return torch.stack([v.to(call.images)[c] for v, c in zip(values, cells, strict=True)])
