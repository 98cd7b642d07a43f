"""Heatmaps against masks: whether the map lies where the discriminative pixels are known to be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from interpnet.errors import DataError, InterpNetError
from interpnet.evaluate._checks import checked_maps, checked_regions, images_named, wide
from interpnet.evaluate._score import Score, measure
from interpnet.explanation import normalise
from interpnet.support.checks import check_kinds, is_number, is_whole, whole_number

# More change nothing that can be seen, and a pass holds numbers for each of them.
_MOST_THRESHOLDS = 100_000


def iou_auc(
    heatmaps: Tensor,
    masks: Tensor | None = None,
    *,
    boxes: Any = None,
    thresholds: int | Sequence[float] | Tensor = 101,
    constant: str = "error",
) -> Score:
    r"""Return the area under the overlap of the thresholded map and the mask.

    With :math:`m` the map of an image min-max normalised to [0, 1] by its own extremes and :math:`M` its mask,

    .. math:: IoU(t) = \frac{|\{m \ge t\} \cap M|}{|\{m \ge t\} \cup M|}

    at 101 thresholds 0, 0.01, ..., 1, and the area under it by the trapezoidal rule. ``IoU(0)`` is f, the mask's share
    of the image; ``IoU(1)`` is small for all but two-valued maps. A map equal to its mask scores ``1 - 0.005 (1 - f)``.

    Parameters
    ----------
    heatmaps : Tensor (B, H, W)
        Of any scale; compared in float64.
    masks : Tensor (B, H, W)
        Of bool, or zeros and ones; each with pixels inside and outside.
    boxes : array (B, 4)
        In place of masks: left, top, right and bottom in pixels of the map. A pixel is inside if its middle is:
        left <= x + 0.5 < right, so that (0, 0, 2, 2) holds four.
    thresholds : int, or increasing numbers in [0, 1]
        How many equally spaced ones from 0 to 1, or the thresholds themselves (at least two).
    constant : {"error", "zero"}
        What a constant map is: refused, or a map of zeros that is flagged in the result.

    Returns
    -------
    Score
        ``values`` (B,) in [0, 1], higher is better; ``curve`` (B, T) and ``thresholds`` (T,).

    Raises
    ------
    DataError
        A map, mask or box that cannot be compared; the image's number is named.
    InterpNetError
        Thresholds outside [0, 1], not increasing, or fewer than two.

    References
    ----------
    Oramas et al. 2019, section 4.3 (an8Flower).

    Examples
    --------
    >>> heatmaps = torch.tensor([[[4.0, 2.0], [0.0, 0.0]]])
    >>> score = iou_auc(heatmaps, torch.tensor([[[True, False], [False, False]]]))
    >>> score.curve[0, [0, 1, 50, 51, 100]].tolist()
    [0.25, 0.5, 0.5, 1.0, 1.0]
    >>> round(score.mean, 6)
    0.74625
    """
    check_kinds(iou_auc, locals(), but=["thresholds", "boxes"])
    maps, flat = checked_maps(heatmaps, constant=constant)
    inside = checked_regions(masks, boxes, maps)
    at = _thresholds(thresholds).to(maps)
    hit, chosen = overlaps(normalise(maps), inside, at)
    curve = iou(hit, chosen, inside)
    return measure("iou_auc").score(torch.trapezoid(curve, at), curve=curve, thresholds=at, flagged=flat)


def overlaps(maps: Tensor, inside: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Return (B, T) twice: how many pixels of maps in [0, 1] reach each threshold inside a region, and anywhere."""
    # docs/method.md, section 6.2. How many thresholds each pixel reaches: it is in the sets of the first so many.
    reached = torch.searchsorted(at, maps.flatten(1), right=True)
    everywhere = _at_least(reached, torch.ones_like(reached), len(at))
    return _at_least(reached, inside.flatten(1).long(), len(at)), everywhere


def iou(hit: Tensor, chosen: Tensor, inside: Tensor) -> Tensor:
    """Return (B, T): the overlap, of what :func:`overlaps` has counted."""
    union = chosen + inside.flatten(1).sum(1, keepdim=True) - hit
    return wide(hit) / wide(union)


def _at_least(reached: Tensor, weight: Tensor, n: int) -> Tensor:
    """Return (B, n): how many pixels of 0/1 ``weight`` reach more than k thresholds, k = 0 .. n - 1."""
    counts = weight.new_zeros(reached.shape[0], n + 1).scatter_add_(1, reached, weight)
    return counts[:, 1:].flip(1).cumsum(1).flip(1)


def _thresholds(given: int | Sequence[float] | Tensor) -> Tensor:
    if is_whole(given):
        count = whole_number(given, "thresholds", least=2)
        whole_number(count, "thresholds", most=_MOST_THRESHOLDS)
        return torch.arange(count, dtype=torch.float64) / (count - 1)
    try:
        at = torch.as_tensor(given, dtype=torch.float64).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InterpNetError(f"thresholds={given!r}; expected a count or numbers in [0, 1]") from error
    if at.dim() != 1 or len(at) < 2:
        raise InterpNetError(f"thresholds: shape {tuple(at.shape)} came; expected a list of at least 2 numbers")
    outside = ~((at >= 0) & (at <= 1))
    if bool(outside.any()):
        raise InterpNetError(
            f"thresholds: {float(at[outside][0])} is outside [0, 1]; maps are min-max normalised before they are cut"
        )
    if bool((at.diff() <= 0).any()):
        raise InterpNetError("thresholds do not increase; sort them and drop repetitions")
    return at


def pointing_game(
    heatmaps: Tensor, masks: Tensor | None = None, *, boxes: Any = None, tolerance: float = 0, constant: str = "error"
) -> Score:
    """Return whether each map's maximum lies in its mask or box.

    A maximum hits where a pixel of the mask is at most ``tolerance`` pixels away (Euclidean, between centres). Where
    several pixels share the maximum, the value is the share of them that hit.

    Parameters
    ----------
    heatmaps : Tensor (B, H, W)
        The largest value points; negate or take absolute values first if your method's sign says otherwise.
    masks, boxes : Tensor (B, H, W), array (B, 4)
        One of them, as in :func:`iou_auc`.
    tolerance : float
        In pixels, from 0 on. The literature takes 15 on images of 224; 0, the default, is the strict game.
    constant : {"error", "zero"}
        Refuse a constant map, or play it (all its pixels are maxima) and flag it.

    Returns
    -------
    Score
        ``values`` (B,), 0 or 1 or a share in between; higher is better.

    Raises
    ------
    DataError
        As :func:`iou_auc`.
    InterpNetError
        A tolerance that is negative or not finite.

    References
    ----------
    Zhang et al. 2018, Top-Down Neural Attention by Excitation Backprop, section 4.2.

    Examples
    --------
    >>> heatmaps = torch.tensor([[[1.0, 0.0, 1.0]], [[0.0, 0.0, 2.0]]])
    >>> masks = torch.tensor([[[True, False, False]]] * 2)
    >>> pointing_game(heatmaps, masks).values, pointing_game(heatmaps, masks, tolerance=2).values
    (tensor([0.5000, 0.0000], dtype=torch.float64), tensor([1., 1.], dtype=torch.float64))
    """
    check_kinds(pointing_game, locals(), but=["tolerance", "boxes"])
    maps, flat = checked_maps(heatmaps, constant=constant)
    inside = checked_regions(masks, boxes, maps)
    if not is_number(tolerance) or not 0 <= tolerance < math.inf:
        raise InterpNetError(f"tolerance={tolerance!r}; expected a number of pixels from 0 on")
    # docs/method.md, section 6.2: of tied maxima the share that hits, which is what picking one at random gives on
    # average. So no corner is preferred, and a constant map gets what chance does.
    near = _grown(inside, float(tolerance))
    top = maps == maps.amax((-2, -1), keepdim=True)
    values = (top & near).flatten(1).sum(1).to(maps.dtype) / top.flatten(1).sum(1).to(maps.dtype)
    return measure("pointing_game").score(values, flagged=flat)


def _grown(inside: Tensor, radius: float) -> Tensor:
    """Return masks (B, H, W) grown by a disc."""
    height, width = inside.shape[1:]
    # No pixel is further away; the square of a larger radius may overflow.
    radius = min(radius, float(height + width))
    grown = torch.zeros_like(inside)
    tallest = min(math.floor(radius), height - 1)
    for dy in range(-tallest, tallest + 1):
        reach = min(math.floor(math.sqrt(radius**2 - dy**2)), width - 1)
        # Row y of the disc: the mask's row y + dy, grown along the row.
        rows = F.pad(inside, (0, 0, max(-dy, 0), max(dy, 0)))[:, max(dy, 0) : max(dy, 0) + height]
        sums = F.pad(rows.int(), (reach + 1, reach)).cumsum(2, dtype=torch.int32)
        grown |= sums[:, :, 2 * reach + 1 :] > sums[:, :, : -2 * reach - 1]
    return grown


def energy_pointing(
    heatmaps: Tensor, masks: Tensor | None = None, *, boxes: Any = None, constant: str = "error"
) -> Score:
    r"""Return the share of each map's positive values that lies in its mask or box.

    With :math:`m^+` the positive part of the map and :math:`M` the mask, :math:`\sum_M m^+ / \sum m^+`. A map that
    knows nothing gets f, the mask's share of the image.

    Parameters
    ----------
    heatmaps : Tensor (B, H, W)
        As they are: adding a number to a map changes the share. Evidence against the class, below 0, is left out.
    masks, boxes : Tensor (B, H, W), array (B, 4)
        One of them, as in :func:`iou_auc`.
    constant : {"error", "zero"}
        Refuse a map that is constant or has no positive value; or flag it, with f for a positive constant and 0 where
        nothing is positive.

    Returns
    -------
    Score
        ``values`` (B,) in [0, 1], higher is better.

    Raises
    ------
    DataError
        As :func:`iou_auc`; a map without a positive value.

    References
    ----------
    Wang et al. 2020, Score-CAM, section 4.3.

    Examples
    --------
    >>> heatmaps = torch.tensor([[[3.0, 1.0], [-5.0, 0.0]]])
    >>> energy_pointing(heatmaps, boxes=[[0, 0, 1, 2]]).values
    tensor([0.7500], dtype=torch.float64)
    """
    check_kinds(energy_pointing, locals(), but=["boxes"])
    maps, flat = checked_maps(heatmaps, constant=constant)
    inside = checked_regions(masks, boxes, maps)
    top = maps.amax((1, 2), keepdim=True)
    none = top[:, 0, 0] <= 0
    if constant == "error" and bool(none.any()):
        raise DataError(
            f"heatmaps: the map of {images_named(none)} has no positive value, so there is no energy to share; pass "
            "evidence for the class as positive values, or constant='zero' and count it by the result's .flagged"
        )
    # Scaled by the maximum, so that no sum overflows.
    energy = maps.clamp(min=0) / torch.where(top > 0, top, torch.ones_like(top))
    within = (energy * inside).sum((1, 2))
    beyond = (energy * ~inside).sum((1, 2))
    values = within / torch.where(none, torch.ones_like(within), within + beyond)
    return measure("energy_pointing").score(values, flagged=flat | none)
