"""Infidelity: whether a map says how much the network's answer falls when a patch of the image goes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from interpnet.attribution import logits_in_parts, resolve_baseline, target_classes, usable_images
from interpnet.engine import Output, check_function, evaluating, unwrap
from interpnet.evaluate._answers import changed_scores, check_one_value_a_pixel, control_maps
from interpnet.evaluate._checks import checked_maps, wide
from interpnet.evaluate._score import Score, measure
from interpnet.support.checks import check_kinds, one_of, true_or_false, whole_number
from interpnet.support.keywords import also_called

Target = int | Tensor | Sequence[int] | None


@also_called(classes="target")
def infidelity(
    model: nn.Module,
    images: Tensor,
    heatmaps: Tensor,
    target: Target = None,
    *,
    patch: int | None = None,
    form: str = "contribution",
    scaled: bool = True,
    baseline: str | float | Tensor = "blank",
    score: str = "logit",
    controls: Sequence[str] = ("random", "edge"),
    max_batch: int = 32,
    seed: int = 0,
    output: Output | None = None,
    constant: str = "error",
) -> Score:
    r"""Return how far the map's sums over patches are from what the class's score falls by without the patches.

    Patches of ``patch`` by ``patch`` pixels tile the image. With :math:`d_k` the fall of the score when patch k shows
    the baseline and :math:`a_k` what the map says of it,

    .. math:: \frac{1}{K} \sum_k (\beta a_k - d_k)^2, \quad
        \beta = \max\left(0, \frac{\sum_k a_k d_k}{\sum_k a_k^2}\right)

    so that maps of any scale can be compared; a map that says the opposite gets no help from a negative scale.

    Parameters
    ----------
    model : nn.Module
        Runs in evaluation mode and is left as it was.
    images : Tensor (B, C, H, W)
        As the model wants them; moved to the model's device.
    heatmaps : Tensor (B, H, W)
        Signed maps as they are, before normalising to [0, 1].
    target : int, (B,) class numbers, or None
        The class whose score is read; the predicted ones by default.
    patch : int, optional
        Side in pixels, from 1 to the shorter side; an eighth of that by default. Patches at the lower and right edge
        may be cut. The cost is one forward pass a patch, ``ceil(H / patch) ceil(W / patch) + 1`` an image, whatever the
        number of controls.
    form : {"contribution", "gradient"}
        What a value says: a pixel's share of the score, summed over the patch; or the score's slope, which is first
        multiplied by the change (image less baseline), summed over the colours.
    scaled : bool
        Use the best scale of each map; ``False`` takes it as it is (:math:`\beta = 1`).
    baseline : {"blank", "blurred"}, number, or Tensor (C, H, W) or (B, C, H, W)
        What shows where a patch is gone; see :func:`interpnet.attribute`.
    score : {"logit", "probability"}
        What falls: the logit of the class, or its softmax.
    controls : sequence of str
        Attribution methods to measure beside the map, by name.
    max_batch : int
        The most images in one pass.
    seed : int
        Of the random control.
    output : str, int or function, optional
        Which part of what the model returns are its logits, as in :func:`interpnet.engine.find_sites`.
    constant : {"error", "zero"}
        Refuse a constant map, or measure it as it is and flag it.

    Returns
    -------
    Score
        ``values`` (B,) from 0 on, in squared units of the score: low is good. ``curve`` (B, K) the squared errors of
        the patches, row by row; ``controls`` the same of the controls.

    Raises
    ------
    DataError
        Maps that are constant, hold NaN or are of another size than the images; images that the model cannot take.
    InterpNetError
        Patch, form, target, baseline, score or control that do not exist.
    ModelError
        The model returns no logits, or NaN.

    References
    ----------
    Yeh et al. 2019, On the (In)fidelity and Sensitivity of Explanations: the definition, the optimal scale, and square
    patches removed. Patches that tile the image, in place of random ones: the value is exact, without draws.

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    >>> _ = net[1].weight.data.copy_(torch.tensor([[4.0, 3.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]]))
    >>> images, weights = torch.ones(1, 1, 2, 2), net[1].weight[0].view(1, 2, 2)
    >>> infidelity(net, images, 7 * weights, 0, patch=1, controls=()).values.round(decimals=6).tolist()
    [0.0]
    >>> infidelity(net, images, weights - 1, 0, patch=1, controls=(), scaled=False).curve.tolist()
    [[1.0, 1.0, 1.0, 1.0]]
    """
    check_kinds(infidelity, locals())
    model = unwrap(model)
    maps, flat = checked_maps(heatmaps, constant=constant)
    one_of(form, "form", ("contribution", "gradient"))
    one_of(score, "score", ("logit", "probability"))
    true_or_false(scaled, "scaled")
    whole_number(max_batch, "max_batch", least=1)
    whole_number(seed, "seed", least=0)
    with torch.inference_mode(False), torch.no_grad(), evaluating(model):
        images = usable_images(model, images)
        check_one_value_a_pixel(images, maps)
        cells = _cells(images, patch)
        base = resolve_baseline(images, baseline)
        check_function(model, images, output)
        classes = target_classes(target, logits_in_parts(model, images, max_batch, output))
        patches = int(cells[-1, -1]) + 1
        # Point 0 is the intact image.
        scores = changed_scores(
            model,
            images,
            base,
            lambda point, _image: cells == point[:, None, None] - 1,
            patches + 1,
            classes,
            score=score,
            max_batch=max_batch,
            output=output,
        )
        known = control_maps(model, images, classes, controls, max_batch=max_batch, seed=seed, output=output)
    falls = scores[:, :1] - scores[:, 1:]
    change = wide(images - base).sum(1)

    def scored(values: Tensor, **more: Any) -> Score:
        if form == "gradient":
            values = values * change
        said = values.new_zeros(len(values), patches).index_add_(1, cells.flatten(), values.flatten(1))
        if scaled:
            said = said * _scale(said, falls)
        errors = (said - falls).square()
        return measure("infidelity").score(errors.mean(1), curve=errors, **more)

    beside = {name: scored(m) for name, m in known.items()}
    return scored(maps.to(images.device), flagged=flat.to(images.device), controls=beside)


def _cells(images: Tensor, patch: int | None) -> Tensor:
    """Return the number (H, W) of the patch that each pixel lies in, row by row."""
    height, width = images.shape[2:]
    shorter = min(height, width)
    side = whole_number(max(1, shorter // 8) if patch is None else patch, "patch", least=1, most=shorter)
    rows = torch.arange(height, device=images.device) // side
    columns = torch.arange(width, device=images.device) // side
    return rows[:, None] * math.ceil(width / side) + columns


def _scale(said: Tensor, falls: Tensor) -> Tensor:
    """Return the scale (B, 1), at least 0, with which the sums (B, K) are nearest to the falls; 1 for sums of 0."""
    # Divided by the largest first: squares of small or large numbers leave the range.
    largest = said.abs().amax(1, keepdim=True)
    nothing = largest == 0
    unit = said / torch.where(nothing, torch.ones_like(largest), largest)
    best = (unit * falls).sum(1, keepdim=True) / unit.square().sum(1, keepdim=True).clamp(min=0.5)
    return torch.where(nothing, torch.ones_like(best), best.clamp(min=0) / torch.where(nothing, 1.0, largest))
