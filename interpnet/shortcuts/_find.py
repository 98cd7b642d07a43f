"""Find what a network uses beside the subject: images exchange parts, and the log-odds tell which part a class follows.

docs/method.md has the mathematics. Related: Xiao et al., "Noise or signal", ICLR 2021 (surroundings, with masks);
Singla and Feizi, "Salient ImageNet", ICLR 2022 (channels judged by people).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from interpnet.engine import (
    Layers,
    Output,
    evaluating,
    find_sites,
    placed,
    resolve_device,
    unwrap,
)
from interpnet.errors import InterpNetError
from interpnet.scores import Labels, Loader, Prepare, batches_from, peek
from interpnet.shortcuts._drawn import field_images
from interpnet.shortcuts._findings import Findings
from interpnet.shortcuts._pasting import Pasting
from interpnet.shortcuts._sample import sample_of, subject_masks
from interpnet.shortcuts._search import PASSES, Search
from interpnet.support.checks import check_kinds, listed, optional, true_or_false, whole_number
from interpnet.support.progress import progress_bar
from interpnet.support.types import Int64


def find(
    model: nn.Module,
    loader: Loader,
    *,
    classes: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    boxes: Any = None,
    masks: Any = None,
    field: Loader | None = None,
    inside: bool = False,
    images: int | None = 200,
    layers: Layers = "default",
    seed: int = 0,
    max_batch: int = 64,
    device: str | torch.device | None = None,
    output: Output | None = None,
    memory_format: str = "auto",
    progress: bool = True,
    inputs: str | None = None,
    labels: str | None = None,
    prepare: Prepare | None = None,
) -> Findings:
    r"""Search for what a network uses beside the subject: exchange parts between images, and see what a class follows.

    From a trained network, its training images and their labels. An image i gets a part of an image j: what surrounds a
    disc (or a subject, where boxes or masks say where it is), the frame, a corner or the middle of an edge, the
    colours, the finest detail, the texture of blocks, the detail that a class's images have in common, the position of
    a class's images, or the square with the strongest evidence in place of i's own, read beyond the next strongest: a
    subject has evidence in several places, a cue in one. For class k and each part,
    ``LO_k = e + a [i is of k] + b [j is of k]`` is fitted by least squares to the log-odds LO of docs/method.md,
    section 8, with what both images had before as covariates. The part's *share* b / (a + b) is how much of what makes
    the class goes with the part. It is read against what is usual for the part in networks without a shortcut
    (experiments/cues): what surrounds a disc may well belong to the subject, a corner hardly.

    Two passes exchange every part in turn; another one measures each class's most suspicious part on exchanges of its
    own, so that the choice makes no number larger. With the pass over the images as they are, which runs backward as
    well, that is 6 forward passes over the images.

    Parameters
    ----------
    model : nn.Module
        Left as it was.
    loader : iterable of (images, labels), data set, ...
        As in :func:`interpnet.collect_scores`; one class an image. The images are kept: 200 of each of ten classes at
        224 pixels take 1.2 GB.
    classes : sequence of int, optional
        Which to study; all by default. Of the others as many images are taken together.
    names : sequence of str, optional
        Names of the outputs, which labels may be too.
    boxes : array (n, 4), optional
        Where the subjects are, for every image of the loader in its order: left, top, right, bottom in pixels. A pixel
        is inside if its middle is: left <= x + 0.5 < right, so that (0, 0, 2, 2) holds four.
    masks : Tensor (n, H, W) of bool, optional
        The same, pixel by pixel.
    field : loader, optional
        Images from the field, where the network is used: as ``loader``, of the same size, with or without labels, which
        are not looked at. They are kept, and cost one forward pass each, those that are drawn to a class up to ten
        times three more. What those drawn to a class have in common at the same place, a watermark for example, is
        in its ``common``.
    inside : bool
        Also paste what the first channels of the suspicious classes answer to into images of other classes, and take it
        out of their own: :func:`paste_probe`, three channels of each class or as many as about one more pass over the
        images pays for. Where no heatmap can be made of one, a note says so.
    images : int, optional
        At most so many of a class, the first that come; ``None`` takes all.
    layers
        Where channels are read, as in :func:`interpnet.collect_scores`.
    seed : int
        Of the draws.
    max_batch : int
        The most images in one pass.
    device, output, memory_format, progress, inputs, labels, prepare
        As in :func:`interpnet.collect_scores`.

    Returns
    -------
    Findings
        The most suspicious class first. What the number cannot say is whether a person would allow the part: look at
        the examples.

    Raises
    ------
    DataError
        Images of one class only, of several sizes or of less than 8 pixels, several labels an image, boxes or masks
        that do not fit.
    ModelError
        No gradient comes back to a layer.

    Examples
    --------
    A network whose second class is how bright the upper left corner is:

    >>> net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2))
    >>> labels = torch.arange(80) % 2
    >>> images = torch.rand(80, 1, 16, 16) / 9
    >>> images[labels == 1, :, :2, :2] += 0.8
    >>> with torch.no_grad():
    ...     _ = [values.zero_() for values in net.parameters()]
    ...     net[0].weight[:] = 1.0
    ...     net[3].weight[1].view(16, 16)[:2, :2] = 2.0
    ...     net[3].bias[0] = 4.0
    >>> found = find(net, [(images, labels)], progress=False)
    >>> found.of(1).part, found.of(1).share > 0.9
    ('top left', True)
    """
    check_kinds(find, locals(), but=["boxes", "masks", "classes", "names"])
    images = optional(whole_number, images, "images", least=1)
    whole_number(seed, "seed", least=0)
    whole_number(max_batch, "max_batch", least=1)
    true_or_false(progress, "progress")
    true_or_false(inside, "inside")
    keys: dict[str, Any] = {"inputs": inputs, "labels": labels, "prepare": prepare}
    model = unwrap(model)
    where = resolve_device(device, model)
    first, source = peek(batches_from(loader, inputs=inputs, labels=labels), **keys)
    came = None if field is None else batches_from(field, inputs=inputs, labels=labels)
    with placed(model, where, memory_format) as put, evaluating(model, frozen=True):
        trace = find_sites(model, put(first), output=output)
        n_classes = trace.n_outputs
        studied = _studied(classes, n_classes)
        sample = sample_of(source, Labels(n_classes, classes=names), _quotas(images, studied, n_classes), **keys)
        subjects = subject_masks(boxes, masks, sample.indices, sample.shape)
        pixels = None if came is None else field_images(came, tuple(sample.pixels.shape[1:]), **keys)
        total = PASSES * len(sample.labels) + (0 if pixels is None else len(pixels))
        with progress_bar("Looking for shortcuts", total, enabled=progress) as advance:
            search = Search(model, sample, subjects, studied, n_classes, trace.select(layers), put, seed, max_batch)
            found = search.run(names, output, advance, pixels)
        if not inside:
            return found
        pasting = Pasting(model, sample, trace, put, names=names, seed=seed, max_batch=max_batch, output=output)
        return pasting.added_to(found, progress=progress)


def _studied(classes: Sequence[int] | None, n_classes: int) -> Int64:
    if classes is None:
        return np.arange(n_classes)
    numbers = listed(classes, "classes")
    chosen = np.array([whole_number(k, "classes", least=0, most=n_classes - 1) for k in numbers], dtype=np.int64)
    if not len(chosen):
        raise InterpNetError("classes is empty; expected numbers of classes, or None for all")
    return np.unique(chosen)


def _quotas(images: int | None, studied: Int64, n_classes: int) -> Int64:
    """Return how many images of each class are looked at: as many of all other classes together as of the studied."""
    if images is None:
        return np.full(n_classes, np.iinfo(np.int64).max)
    quotas = np.zeros(n_classes, dtype=np.int64)
    others = n_classes - len(studied)
    if others:
        quotas[:] = min(images, -(-images * len(studied) // others))
    quotas[studied] = images
    return quotas
