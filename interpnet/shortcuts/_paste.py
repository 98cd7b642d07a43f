"""Cues inside the subject: what a channel answers to is pasted into other images and taken out of its own.

Patches cut by heatmaps: Oramas et al., ICLR 2019 (the channel's signal, docs/method.md, section 5). What a shortcut
moves and what a person would let it move are two things; this measures the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from interpnet.engine import Channel, Output, evaluating, find_sites, placed, resolve_device, unwrap
from interpnet.scores import Labels, Loader, Prepare, batches_from, peek
from interpnet.shortcuts._findings import Findings
from interpnet.shortcuts._pasted import PasteProbe
from interpnet.shortcuts._pasting import CHANNELS, DONORS, TARGETS, Pasting, pairs_of
from interpnet.shortcuts._sample import sample_of
from interpnet.support.checks import check_kinds, optional, true_or_false, whole_number


def paste_probe(
    model: nn.Module,
    loader: Loader,
    channels: Findings | Mapping[int, Sequence[Channel]],
    *,
    names: Sequence[str] | None = None,
    most: int = CHANNELS,
    images: int | None = 100,
    donors: int = DONORS,
    targets: int = TARGETS,
    seed: int = 0,
    max_batch: int = 64,
    device: str | torch.device | None = None,
    output: Output | None = None,
    memory_format: str = "auto",
    progress: bool = True,
    inputs: str | None = None,
    labels: str | None = None,
    prepare: Prepare | None = None,
) -> PasteProbe:
    r"""Paste what channels of a class answer to into images of other classes, and take it out of the class's own.

    For a class k and a channel: the images of k in which the channel's score is largest give their patch, which the
    channel's heatmap cuts out (at least half of its maximum after smoothing, at most a ninth of the image, with a soft
    edge). Each patch is pasted into images of other classes at its own place. The log-odds LO_k (docs/method.md,
    section 8) then rise by ``whole``; with a patch of the same form from where the channel answers least in the same
    image they rise by ``control``; the difference is held against 0 over the images that gave their patch, by Student's
    t. The patch's pixels in another order say what its colours do alone; at a place drawn at random, whether the place
    matters. Taken out and filled from its rim (the harmonic function), the same patch is missed in the class's own
    images, beyond what is taken out where the channel answers least.

    Parameters
    ----------
    model : nn.Module
        Left as it was.
    loader : iterable of (images, labels), data set, ...
        As in :func:`interpnet.shortcuts.find`.
    channels : Findings, or mapping of class number to channels
        Of findings the suspicious classes, with the first ``most`` channels of each.
    names : sequence of str, optional
        Names of the outputs.
    most : int
        Channels of each class of findings.
    images : int, optional
        At most so many of a class are read, the first that come; ``None`` takes all.
    donors : int
        Images of the class that give their patch.
    targets : int
        Images of other classes that get each patch.
    seed : int
        Of the draws.
    max_batch : int
        The most images in one pass.
    device, output, memory_format, progress, inputs, labels, prepare
        As in :func:`interpnet.collect_scores`.

    Returns
    -------
    PasteProbe
        A :class:`Pasted` for each class and channel, the patch that raises its class most first; p-values are adjusted
        for their number (Benjamini and Hochberg).

    Raises
    ------
    DataError
        Images that :func:`find` would refuse.
    LayerError
        A channel that the network does not have.
    ModelError
        No heatmap can be made of a channel, see :func:`interpnet.channel_heatmap`.

    Examples
    --------
    A network whose second class is a bright pixel anywhere:

    >>> net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    >>> labels = torch.arange(80) % 2
    >>> images = torch.rand(80, 1, 16, 16) / 9
    >>> images[labels == 1, :, 5:7, 9:11] = 0.9
    >>> with torch.no_grad():
    ...     _ = [values.fill_(value) for values, value in zip(net.parameters(), (1.0, 0.0, 8.0, 0.0))]
    ...     net[4].weight[0], net[4].bias[0] = 0.0, 4.0
    >>> found = paste_probe(net, [(images, labels)], {1: [Channel("1", 0)]}, progress=False).pairs[0]
    >>> found.moves, found.needed, found.taken, found.taken_before
    (True, True, 1.0, 0.0)
    """
    check_kinds(paste_probe, locals(), but=["channels", "names"])
    whole_number(most, "most", least=1)
    images = optional(whole_number, images, "images", least=1)
    whole_number(donors, "donors", least=2)
    whole_number(targets, "targets", least=1)
    whole_number(seed, "seed", least=0)
    whole_number(max_batch, "max_batch", least=1)
    true_or_false(progress, "progress")
    pairs = pairs_of(channels, most)
    keys: dict[str, Any] = {"inputs": inputs, "labels": labels, "prepare": prepare}
    model = unwrap(model)
    first, source = peek(batches_from(loader, inputs=inputs, labels=labels), **keys)
    with placed(model, resolve_device(device, model), memory_format) as put, evaluating(model, frozen=True):
        trace = find_sites(model, put(first), output=output)
        limit = np.iinfo(np.int64).max if images is None else images
        sample = sample_of(source, Labels(trace.n_outputs, classes=names), np.full(trace.n_outputs, limit), **keys)
        pasting = Pasting(
            model,
            sample,
            trace,
            put,
            names=names,
            donors=donors,
            targets=targets,
            seed=seed,
            max_batch=max_batch,
            output=output,
        )
        return pasting.run(pairs, progress=progress)
