"""Contributions: one forward and one backward pass over a data set, one sum for every channel and class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from interpnet.engine import (
    Instrument,
    Layers,
    Output,
    evaluating,
    find_sites,
    for_outputs,
    instrument,
    placed,
    resolve_device,
    unwrap,
)
from interpnet.errors import DataError
from interpnet.reliance._contributions import Contributions
from interpnet.reliance._sums import ContributionSums
from interpnet.scores import Labels, Loader, Names, Prepare, Share, batches_from, image_count, peek, together, unpack
from interpnet.support.checks import check_kinds, optional, true_or_false, whole_number
from interpnet.support.progress import progress_bar
from interpnet.support.ranks import ranks_of


def collect_contributions(
    model: nn.Module,
    loader: Loader,
    *,
    layers: Layers = "default",
    fill: str | npt.ArrayLike = "zero",
    images: int | None = 500,
    outputs: str = "exclusive",
    targets: str = "labels",
    classes: Sequence[str] | None = None,
    removed: Sequence[Sequence[int]] | None = None,
    thinned: Sequence[float] = (),
    device: str | torch.device | None = None,
    output: Output | None = None,
    memory_format: str = "auto",
    progress: bool = True,
    total: int | None = None,
    inputs: str | None = None,
    labels: str | None = None,
    prepare: Prepare | None = None,
    group: Any = None,
) -> Contributions:
    """Collect what every channel contributes to the log-odds of each class, in one forward and one backward pass.

    The contribution of a channel with map A to an image is ``sum over positions of (A - reference) * dz/dA``, with z
    the log-odds of the image's own class: to first order, what z loses when the map is overwritten with the reference.
    Only sums are kept, so that memory is that of C x m numbers whatever the number of images.

    Parameters
    ----------
    model, loader, layers, device, output, memory_format, progress, total, inputs, labels, prepare, group
        As in :func:`interpnet.collect_scores`. A ``group`` of several processes needs ``images=None``: which images are
        the first of their class is known to no process alone.
    fill : "zero", "mean" or array (m,)
        The reference: what the channels are compared with, which should be what an ablation overwrites them with.
        ``"mean"`` is each channel's mean over positions and all images.
    images : int, optional
        At most so many images of a class, the first that come; ``None`` takes all.
    outputs : {"exclusive", "independent"}
        See :func:`interpnet.engine.log_odds`.
    targets : {"labels", "predictions"}
        Whether an image's own class is its label or what the network says; predictions need no labels. With a target
        matrix (B, C) an image belongs to every class above 0.5, and each takes a backward pass of its own.
    classes : sequence of str, optional
        Names of the model's outputs, which labels may be too; numbers without it.
    removed : list of C lists of columns, optional
        Channels that are overwritten with the reference in the images of each class. Their contribution is 0.
    thinned : sequence of float
        Shares of the channels, from 0 to 0.9. The contributions are averaged over one pass for each share, in which
        that share of all channels, others for every image, is overwritten with the reference; a pass counts the
        channels that are left, divided by the share that is left. It finds what the network falls back on when a
        channel is gone, at the cost of a pass for every share. ``log_odds`` is then the mean over these passes.

    Raises
    ------
    ModelError
        A part of the network runs under ``no_grad`` or detaches its maps, so that no gradient comes back to a layer.
    DataError
        No image, labels that do not fit, and a logit, map or gradient that is not finite (layer and image named).

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    >>> batches = [(torch.rand(8, 1, 5, 5), torch.zeros(8, dtype=torch.long))]
    >>> collect_contributions(net, batches, classes=["cat", "dog"], progress=False).mean.shape
    (2, 4)
    """
    check_kinds(collect_contributions, locals(), but=["fill", "thinned"])
    true_or_false(progress, "progress")
    total = optional(whole_number, total, "total", least=0)
    sums = ContributionSums(
        fill=fill,
        images=images,
        outputs=outputs,
        targets=targets,
        classes=classes,
        removed=removed,
        thinned=thinned,
    )
    output = for_outputs(output, outputs)
    model = unwrap(model)
    where = resolve_device(device, model)
    keys: dict[str, Any] = {"inputs": inputs, "labels": labels}
    ranks = ranks_of(group)
    if ranks.alone:
        first, batches = peek(batches_from(loader, **keys), **keys, prepare=prepare)
        source: Iterable[Any] = ((None, raw, True) for raw in batches)
    else:
        sums.share(ranks, [])
        share = together(ranks, lambda: Share(loader, keys, prepare))
        first = together(ranks, share.first).images
        source = share.of_rank(ranks)
    if total is None:
        total = image_count(loader)
    with placed(model, where, memory_format) as put, evaluating(model, frozen=True):
        trace = find_sites(model, put(first), output=output)
        known_as = None
        if targets == "labels":
            known_as = Labels(trace.n_outputs, classes=classes)
        sums.open(model, trace, trace.select(layers), put(first), output)

        def run() -> None:
            # Attached once for all batches, not for each.
            with (
                progress_bar("Collecting contributions", total, enabled=progress and ranks.first) as advance,
                instrument(model, Instrument()),
            ):
                start = 0
                for span, raw, own in source:
                    batch = unpack(raw, **keys, prepare=prepare)
                    n = len(batch.images)
                    if span is not None:
                        start = span[0]
                    indices = batch.indices
                    if indices is None:
                        indices = torch.arange(start, start + n)
                    start += n + len(batch.skipped)
                    if n and own:
                        numbers = _numbers(batch.labels, n, indices, known_as)
                        sums.add(batch.images, numbers, indices, put)
                    advance(n + len(batch.skipped))

        together(ranks, run)
        sums.add_up(ranks)
        return sums.result()


def _numbers(labels: Tensor | Names | None, n: int, indices: Tensor, known_as: Labels | None) -> Tensor | None:
    """Return checked labels; where predictions are asked for there need be none."""
    if known_as is None:
        return None
    if labels is None:
        raise DataError("the loader yields no labels; expected (images, labels) batches, or pass targets='predictions'")
    return known_as.checked(labels, n, indices)
