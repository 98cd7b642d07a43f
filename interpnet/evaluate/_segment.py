"""Weakly supervised segmentation: how well a map, cut at a threshold that other images chose, outlines the subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interpnet.engine import WHOLE_TYPES, check_dense
from interpnet.errors import DataError, InterpNetError
from interpnet.evaluate._checks import checked_maps, checked_regions, images_named, wide
from interpnet.evaluate._localisation import iou, overlaps
from interpnet.evaluate._score import Score, measure
from interpnet.explanation import normalise
from interpnet.support.brief import brief
from interpnet.support.checks import check_kinds, is_whole, number, whole_number, whole_numbers
from interpnet.support.types import Int64

_THRESHOLDS = 101  # 0, 0.01, ..., 1, those of iou_auc
_ROUNDING = 1e-12  # of means of segments, relative to the map's span


@brief
@dataclass(frozen=True, eq=False)
class Segmentation:
    """How maps outline their subjects.

    Each score has the control ``everywhere``: all pixels are taken for the subject.
    """

    iou: Score  # overlap; with the curve over the thresholds (B, 101)
    precision: Score  # the share of the pixels marked that are in the mask
    recall: Score  # the share of the mask's pixels that are marked
    marked: Tensor  # (B, H, W) of bool: what the maps mark
    thresholds: Tensor  # (B,): where each map was cut
    folds: Tensor | None  # (B,): the images whose threshold the others chose together; None where one was passed
    # Of greatest mean overlap on all images given. It is for other images: on these it would flatter.
    threshold: float


def segment(
    heatmaps: Tensor,
    masks: Tensor | None = None,
    *,
    boxes: Any = None,
    threshold: float | None = None,
    folds: int | Sequence[int] | Tensor = 5,
    segments: Tensor | None = None,
    seed: int = 0,
    constant: str = "error",
) -> Segmentation:
    r"""Return how well each map, cut at a threshold, outlines its subject: overlap, precision and recall of pixels.

    With :math:`m` the map of an image min-max normalised to [0, 1] by its own extremes, :math:`S = \{m \ge t\}` and
    :math:`M` the mask,

    .. math:: IoU = \frac{|S \cap M|}{|S \cup M|}, \quad precision = \frac{|S \cap M|}{|S|}, \quad
        recall = \frac{|S \cap M|}{|M|}

    No image has a say in its own threshold: images are put into folds, and the t of a fold, one of 0, 0.01, ..., 1, has
    the greatest mean IoU over the images of all other folds. Of several such t it is the middle one.

    Parameters
    ----------
    heatmaps : Tensor (B, H, W)
        Of any scale and any method; compared in float64. Of a signed map take the positive part first.
    masks, boxes : Tensor (B, H, W), array (B, 4)
        One of them, as in :func:`iou_auc`.
    threshold : float, optional
        From 0 to 1: cut all maps here, where other images have said so, as the ``threshold`` of their result does.
    folds : int, or B whole numbers
        How many, drawn at random (of fewer images each is a fold of its own); or the fold of each image, where some
        belong together, as frames of one film do.
    segments : Tensor (B, H, W) or (H, W) of whole numbers, optional
        Superpixels: every pixel gets the mean of the map in its segment before the map is cut, so that the outline
        follows the image's edges. For example ``skimage.segmentation.slic`` of each image.
    seed : int
        Of the folds.
    constant : {"error", "zero"}
        Refuse a constant map; or flag it and take it as zeros, which mark nothing at a threshold above 0: all three
        scores are then 0.

    Returns
    -------
    Segmentation
        Each score with values (B,) in [0, 1], higher is better, ``mean`` and ``interval()``.

    Raises
    ------
    DataError
        A map, mask, box or segments that cannot be compared; the image's number is named. One image, whose threshold no
        other can choose.
    InterpNetError
        A threshold outside [0, 1], fewer than two folds.

    References
    ----------
    Choe et al. 2020, Evaluating Weakly Supervised Object Localization Methods Right: thresholds from images held out.
    Zhou et al. 2016, Learning Deep Features for Discriminative Localization: maps that are cut.

    Examples
    --------
    >>> heatmaps = torch.tensor([[[4.0, 3.0, 1.0, 0.0]], [[0.0, 5.0, 6.0, 3.0]]])
    >>> masks = torch.tensor([[[True, True, False, False]], [[False, True, True, False]]])
    >>> found = segment(heatmaps, masks)
    >>> [round(t, 2) for t in found.thresholds.tolist()]
    [0.67, 0.5]
    >>> [[round(v, 3) for v in score.values.tolist()] for score in (found.iou, found.precision, found.recall)]
    [[1.0, 0.667], [1.0, 0.667], [1.0, 1.0]]
    """
    check_kinds(segment, locals(), but=["boxes", "folds", "segments"])
    whole_number(seed, "seed", least=0)
    maps, flat = checked_maps(heatmaps, constant=constant)
    inside = checked_regions(masks, boxes, maps)
    if threshold is not None:
        threshold = number(threshold, "threshold", least=0, most=1)
    if segments is not None:
        maps, single = _averaged(maps, segments)
        if constant == "error" and bool(single.any()):
            raise DataError(
                f"segments: the map of {images_named(single)} has the same mean in every segment, so it ranks no pixel "
                "above another; cut the image into more segments, or pass constant='zero'"
            )
        flat = flat | single
    maps = normalise(maps)
    at = (torch.arange(_THRESHOLDS, dtype=torch.float64) / (_THRESHOLDS - 1)).to(maps)
    curve = iou(*overlaps(maps, inside, at), inside)
    fold = None
    if threshold is None:
        fold = _folds(folds, len(maps), seed)
        cut = torch.empty(len(maps), dtype=at.dtype, device=at.device)
        for one in np.unique(fold):
            here = torch.from_numpy(fold == one).to(at.device)
            cut[here] = _best(curve[~here], at)
    else:
        cut = at.new_full((len(maps),), threshold)
    marked = maps >= cut[:, None, None]
    own = _shares(marked, inside)
    whole = _shares(torch.ones_like(marked), inside)
    scores = {
        name: measure(f"segment_{name}").score(
            own[name], flagged=flat, controls={"everywhere": measure(f"segment_{name}").score(whole[name])}
        )
        for name in own
    }
    scores["iou"] = replace(scores["iou"], curve=curve, thresholds=at)
    return Segmentation(
        **scores,
        marked=marked,
        thresholds=cut,
        folds=None if fold is None else torch.from_numpy(fold),
        threshold=float(_best(curve, at)),
    )


def _shares(marked: Tensor, inside: Tensor) -> dict[str, Tensor]:
    """Return overlap, precision and recall (B,) of pixels marked (B, H, W); 0 where none is."""
    hit, own, there = (wide(pixels.flatten(1).sum(1)) for pixels in (marked & inside, marked, inside))
    return {"iou": hit / (own + there - hit), "precision": hit / own.clamp(min=1), "recall": hit / there}


def _best(curve: Tensor, at: Tensor) -> Tensor:
    """Return the threshold of ``at`` (T,) at which curves (B, T) have the greatest mean, of several the middle one."""
    mean = curve.mean(0)
    # Means that differ by rounding alone are equal: which came first would depend on the images' order.
    most = (mean >= mean.max() - 1e-12).nonzero()[:, 0]
    return at[most[(len(most) - 1) // 2]]


def _folds(given: Any, n: int, seed: int) -> Int64:
    """Return the fold of each of n images."""
    if n < 2:
        raise DataError(
            "heatmaps: 1 image came, and its threshold must be chosen on others; expected several, or threshold="
        )
    if is_whole(given):
        count = min(whole_number(given, "folds", least=2), n)
        return (np.random.default_rng(seed).permutation(n) % count).astype(np.int64)
    fold = whole_numbers(given, "folds")
    if fold.shape != (n,):
        raise InterpNetError(f"folds: shape {fold.shape} came for {n} images; expected the fold of each image")
    if len(np.unique(fold)) < 2:
        raise InterpNetError("folds: all images are in one; expected at least two, for each is cut where others say")
    return fold


def _averaged(maps: Tensor, segments: Any) -> tuple[Tensor, Tensor]:
    """Return maps with the mean of each segment in its place, and which of them (B,) have one value left."""
    check_dense(segments, "segments", "B, H, W) or (H, W")
    if segments.dtype not in WHOLE_TYPES or segments.shape not in (maps.shape, maps.shape[1:]):
        raise DataError(
            f"segments: shape {tuple(segments.shape)}, {segments.dtype} came for heatmaps {tuple(maps.shape)}; "
            "expected the number of each pixel's segment, whole, of the same shape"
        )
    labels = segments.detach().to(maps.device).long().expand(maps.shape)
    low = maps.amin((1, 2), keepdim=True)
    span = maps.amax((1, 2)) - low[:, 0, 0]
    averaged = torch.empty_like(maps)
    for i, own in enumerate(labels):
        # Numbers may have gaps and start anywhere.
        place = torch.unique(own, return_inverse=True)[1].flatten()
        sums = maps.new_zeros(int(place.max()) + 1)
        means = sums.index_add(0, place, (maps[i] - low[i]).flatten()) / torch.bincount(place)
        averaged[i] = means[place].view_as(own)
    left = averaged.amax((1, 2)) - averaged.amin((1, 2))
    single = left <= _ROUNDING * span
    # What rounding has left must not be stretched to a map.
    return torch.where(single[:, None, None], torch.zeros_like(averaged), averaged), single
