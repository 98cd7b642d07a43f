"""Network Dissection: which concepts the channels of a network detect, by the overlap of their maps with masks.

Source: Bau et al., "Network Dissection", CVPR 2017. Added to it: an interval for every overlap, the overlap with the
masks of other images, a copy of the network with random weights, and so the answer that a channel has no name.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from interpnet.concepts._categories import categories_of, one_size
from interpnet.concepts._counts import Counts
from interpnet.concepts._dissection import Dissection
from interpnet.concepts._tcav_result import ConceptWarning
from interpnet.concepts._work import Work, with_maps
from interpnet.engine import (
    ChannelIndex,
    Layers,
    Output,
    channel_index,
    evaluating,
    find_sites,
    placed,
    resolve_device,
    unwrap,
)
from interpnet.evaluate import randomised
from interpnet.scores import Loader, Prepare
from interpnet.support.checks import check_kinds, number, true_or_false, whole_number
from interpnet.support.progress import progress_bar
from interpnet.support.types import Float64

_BEYOND = 0.01  # of a layer's channels with random weights, at most, are beyond the floor of one category or another


def dissect(
    model: nn.Module,
    loader: Loader | Mapping[str, Loader],
    *,
    concepts: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    groups: Sequence[Any] | Mapping[str, Sequence[Any]] | None = None,
    layers: Layers = "default",
    quantile: float = 0.005,
    least: float = 0.04,
    step: int = 2,
    draws: int = 19,
    untrained: bool = True,
    top: int = 9,
    seed: int = 0,
    max_batch: int = 32,
    device: str | torch.device | None = None,
    output: Output | None = None,
    progress: bool = True,
    inputs: str | None = None,
    labels: str | None = None,
    prepare: Prepare | None = None,
) -> Dissection:
    r"""Return which concepts each channel detects: how far its map, above a threshold, overlaps with their masks.

    T_k is the value that a share ``quantile`` of channel k's activations is above, over all positions of all images:
    the exact one. Its map is enlarged to the grid of the masks (bilinear), and with M_k where it is above T_k and L_c
    where concept c is, ``IoU = sum |M_k and L_c| / sum |M_k or L_c|`` over the images of c's category, in which c was
    looked for. A concept names the channel where IoU is above ``least`` and the interval of IoU lies above two
    controls: the largest overlap of the channel with any concept when each image has the masks of another one, which
    are at the same places but not of this image; and what the layer's channels stay below with concepts of c's category
    when the network has random weights, because edges and colours overlap with much before anything is learned: all but
    1 %, shared equally among categories. Otherwise it has no name.

    Everything is read once more for the masks alone, once for the thresholds and once for the overlaps, and the latter
    two again for the random weights; layers in turns where more than 1 GiB would have to be held.

    Parameters
    ----------
    model : nn.Module
        Left as it was.
    loader : iterable of (images, masks), or a dictionary of them by category
        It must start again each time, with the same images. Masks (B, K, H, W) of 0 and 1, one for each concept; (B, H,
        W) of whole numbers, the concept at each pixel, where -100, -1 and 255 are none; for concepts of whole images,
        such as textures and scenes, (B, K) of 0 and 1 or (B,) of whole numbers. Masks have the images' size.
    concepts : sequence of str, or a dictionary of them by category, optional
        The names of the K concepts, in the masks' order; by default those that the loaders carry, as
        :func:`interpnet.datasets.concept_folders` and :func:`interpnet.datasets.generated_concepts` make them.
    groups : sequence, or a dictionary of them by category, optional
        A whole number or a string for each image, the same for images that belong together, such as frames of ten
        seconds of a film; ``None`` for an image alone. Intervals are over groups, and images get masks of another
        group. A category without groups has images that are independent.
    layers
        As in :func:`interpnet.collect_scores`.
    quantile, least : float
        0.005 and 0.04 are those of the source.
    step : int
        Masks are compared at every ``step``-th pixel along each side.
    draws : int
        How often each image gets the masks of another one.
    untrained : bool
        Whether to look at a copy with random weights, too: it takes as long again.
    top : int
        Images kept of each channel, those with the largest activations.
    seed : int
        Of draws, resamples and random weights.
    max_batch, device, output, progress, inputs, prepare
        As in :func:`interpnet.collect_scores`; ``labels`` is the key of the masks.

    Returns
    -------
    Dissection

    Warns
    -----
    ConceptWarning
        A concept that covers so much that no channel can overlap with it by ``least``; fewer than ten groups.

    Raises
    ------
    DataError
        Masks of another size or with numbers of no concept; a concept that no image shows; one image with different
        concepts each time it comes; other images in a later pass; all images in one group.
    LayerError
        A layer whose maps do not lie over the image.

    Examples
    --------
    The first channel is bright where the image is, the second everywhere:

    >>> net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 2))
    >>> with torch.no_grad():
    ...     _ = net[0].weight.copy_(torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)), net[0].bias.fill_(0.5)
    >>> masks = torch.zeros(60, 1, 16, 16, dtype=torch.bool)
    >>> for i in range(60):
    ...     masks[i, 0, i % 15, i * 7 % 15] = True
    >>> images = masks.float() + 0.1 * torch.rand(60, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    >>> found = dissect(net, [(images, masks)], concepts=["dot"], step=1, untrained=False, progress=False)
    >>> [name.concept for name in found.names(0)], found.names(1)
    (['dot'], ())
    """
    check_kinds(dissect, locals(), but=["concepts", "groups", "loader"])
    number(quantile, "quantile", least=1e-6, most=0.5)
    number(least, "least", least=0, most=1)
    for name, value, fewest in (("step", step, 1), ("draws", draws, 1), ("top", top, 1), ("max_batch", max_batch, 1)):
        whole_number(value, name, least=fewest)
    whole_number(seed, "seed", least=0)
    true_or_false(untrained, "untrained")
    true_or_false(progress, "progress")
    found = categories_of(loader, concepts, step, {"inputs": inputs, "labels": labels, "prepare": prepare}, groups)
    model = unwrap(model)
    firsts = [category.look(seed) for category in found]
    shape = one_size(found, firsts)
    where = resolve_device(device, model)
    with placed(model, where, "auto") as put, evaluating(model):
        sites = with_maps(find_sites(model, put(firsts[0][:2]), output=output).select(layers))
        work = Work(found, sites, (quantile, step, draws, top), shape, seed, max_batch, output)
        with progress_bar("Dissecting", work.images * (1 + untrained), enabled=progress) as advance:
            counts = work.run(model, put, advance)
            floor = np.full(counts.iou.shape, np.nan)
            if untrained:
                some = put(torch.cat(firsts)[:: len(firsts)][:max_batch])
                floor = _floor(work.run(randomised(model, some, seed=seed), put, advance), channel_index(sites))
    low, high = counts.intervals(least, seed)
    result = Dissection(
        channels=channel_index(sites),
        concepts=tuple(name for category in found for name in category.concepts),
        categories=tuple(category.name for category in found for _ in category.concepts),
        iou=counts.iou,
        low=low,
        high=high,
        null=counts.null,
        floor=floor,
        thresholds=counts.thresholds,
        top=counts.top,
        images={category.name: category.images for category in found},
        images_with=np.concatenate([category.images_with for category in found]),
        cover=np.concatenate([category.cover for category in found]),
        quantile=quantile,
        least=least,
        draws=draws,
    )
    _warn_of_large(result)
    return result


def _warn_of_large(result: Dissection) -> None:
    """Say which concepts no channel can be named by, because they cover too much."""
    beyond = np.flatnonzero(result.reach <= result.least)
    if len(beyond):
        shown = ", ".join(f"{result.concepts[c]!r} ({result.cover[c]:.0%} of its images)" for c in beyond[:5])
        warnings.warn(
            f"no channel can be named by {shown}: with quantile={result.quantile:g} its pixels above the threshold are "
            f"too few for an overlap of {result.least:g}; pass a larger quantile",
            ConceptWarning,
            stacklevel=3,
        )


def _floor(random: Counts, channels: ChannelIndex) -> Float64:
    """Return (m, K): what the channels of a layer stay below with random weights, with the concepts of one category.

    All but 1 % of them in all categories together: each category is granted as much of that as another one.
    """
    parts = []
    for category in random.categories:
        best = np.nan_to_num(category.iou, nan=0.0).max(1)
        for layer in channels.layers:
            own = channels.slice(layer)
            best[own] = np.quantile(best[own], 1 - _BEYOND / len(random.categories))
        parts.append(np.repeat(best[:, None], category.iou.shape[1], 1))
    return np.concatenate(parts, 1)
