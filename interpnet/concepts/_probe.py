"""Linear probes: what can be read off each layer, beside chance and a control task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import nn

from interpnet.ablation import adjusted
from interpnet.concepts._columns import Column, check_column, column_of, columns_of
from interpnet.concepts._probe_fit import asked, fold_numbers, shuffled
from interpnet.concepts._reading import rows_read
from interpnet.concepts._sets import digests_of
from interpnet.concepts._significance import wilson
from interpnet.engine import (
    Layers,
    Output,
    evaluating,
    find_sites,
    placed,
    resolve_device,
    unwrap,
)
from interpnet.errors import DataError, did_you_mean
from interpnet.scores import Loader, Prepare, batches_from, image_count, peek, unpack
from interpnet.support.brief import brief
from interpnet.support.checks import check_kinds, positive_number, whole_number
from interpnet.support.progress import progress_bar
from interpnet.support.types import Float32, Float64, Int64


@brief
@dataclass(frozen=True, eq=False)
class ProbeResult:
    """How well T targets can be read off L layers."""

    targets: tuple[str, ...]
    layers: tuple[str, ...]
    values: tuple[tuple[str | int, ...], ...]  # of each target
    n: Int64  # (T,): images with a value
    chance: Float64  # (T,): share of the most frequent value
    accuracy: Float64  # (T, L): share of images read right by a probe that was fitted on others
    interval: Float64  # (T, L, 2): at 95 %, over images (Wilson)
    p_value: Float64  # (T, L): of no more than chance, one-sided, adjusted for the T * L tests
    # Of values that were shuffled among the images; NaN without control=True.
    control: Float64  # (T, L): share of images read right by a probe that was fitted on others
    memorised: Float64  # (T, L): share of the images that the probe was fitted on

    @property
    def selectivity(self) -> Float64:
        """(T, L): accuracy less that of the control task."""
        return self.accuracy - self.control

    def of(self, target: str) -> list[tuple[str, float, float]]:
        """Return (layer, accuracy, selectivity) of one target, in the layers' order."""
        if target not in self.targets:
            raise DataError(f"target is {target!r}; expected one of {self.targets}{did_you_mean(target, self.targets)}")
        t = self.targets.index(target)
        rows = zip(self.layers, self.accuracy[t].tolist(), self.selectivity[t].tolist(), strict=True)
        return list(rows)


def probe(
    model: nn.Module,
    loader: Loader,
    *,
    layers: Layers = "default",
    targets: Any = None,
    control: bool = True,
    folds: int = 5,
    strength: float = 1.0,
    seed: int = 0,
    device: str | torch.device | None = None,
    output: Output | None = None,
    progress: bool = True,
    inputs: str | None = None,
    labels: str | None = None,
    prepare: Prepare | None = None,
) -> ProbeResult:
    """Fit a linear classifier on each layer's channels, and see what it reads off images that it was not fitted on.

    Each image is the mean of every channel over its positions, read in one pass; a logistic regression (scikit-learn)
    then tells the values of a target apart. Accuracy is that of ``folds`` probes, each asked about the images that the
    others were fitted on. Equal images are in one fold.

    The control task (Hewitt and Liang) gives the images each other's values. ``memorised`` is how much of them a probe
    repeats for the images it was fitted on: what it could do without any knowledge. ``control`` is its accuracy on
    other images: chance, unless images come back in small changes, which the folds then do not keep apart;
    *selectivity* is what accuracy is beyond it.

    That a probe reads something does not say that the network uses it: for that see :func:`interpnet.concepts.tcav`,
    :func:`interpnet.collect_contributions` and :func:`interpnet.shortcuts.find`. Of a network with random weights, too,
    much can be read; compare.

    Parameters
    ----------
    model : nn.Module
        Left as it was.
    loader, device, output, inputs, labels, prepare
        As in :func:`interpnet.collect_scores`. Labels need not be classes of the network.
    layers
        As in :meth:`interpnet.engine.Trace.select`.
    targets : dictionary or sequence, optional
        What to read instead of the loader's labels: by name one value for each image in the loader's order, whole
        numbers, truths or strings, ``None`` for images to leave out; or one such sequence. Other numbers are refused:
        make a few values of them.
    control : bool
        Fit the control task as well, which takes as long again.
    folds : int
        Every value must occur in so many different images.
    strength : float
        The C of scikit-learn's logistic regression, on features of standard deviation 1 divided by the root of their
        number. Larger ones memorise more.
    seed : int
        Of folds and control task.
    progress : bool
        Show a bar.

    Returns
    -------
    ProbeResult

    Raises
    ------
    DataError
        No labels, several labels an image, numbers that are not whole, fewer than two values, a value in fewer images
        than there are folds.

    References
    ----------
    Alain & Bengio, "Understanding intermediate layers using linear classifier probes", 2016; Hewitt & Liang, "Designing
    and interpreting probes with control tasks", EMNLP 2019.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    >>> images = torch.rand(40, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    >>> bright = torch.arange(40) % 2
    >>> found = probe(net, [(images + 2 * bright.view(40, 1, 1, 1), bright)], progress=False)
    >>> found.layers, found.accuracy, found.chance
    (('1',), array([[1.]]), array([0.5]))
    """
    check_kinds(probe, locals(), but=["layers"])
    whole_number(folds, "folds", least=2)
    positive_number(strength, "strength")
    whole_number(seed, "seed", least=0)
    keys: dict[str, Any] = {"inputs": inputs, "labels": labels}
    model = unwrap(model)
    where = resolve_device(device, model)
    first, batches = peek(batches_from(loader, **keys), **keys, prepare=prepare)
    blocks: list[list[Float32]] = []
    digests: list[str] = []
    shown: list[Any] = []
    with (
        placed(model, where, "auto") as put,
        evaluating(model),
        progress_bar("Reading layers", image_count(loader), enabled=progress) as advance,
    ):
        sites = find_sites(model, put(first), output=output, logits=False).select(layers)
        with rows_read(model, sites, put, pool=True, output=output) as read:
            for raw in batches:
                batch = unpack(raw, **keys, prepare=prepare)
                if len(batch.images):
                    blocks.append(read(batch.images, "the loader", len(digests)))
                    digests += digests_of(batch.images)
                    if targets is None:
                        shown += _labels(batch.labels, len(batch.images))
                advance(len(batch.images) + len(batch.skipped))
    same = np.unique(np.array(digests), return_inverse=True)[1].astype(np.int64)
    columns = [column_of(shown, "labels", len(same))] if targets is None else columns_of(targets, len(same))
    for column in columns:
        check_column(column, same, folds)
    rows = [np.concatenate([block[i] for block in blocks]) for i in range(len(sites))]
    done = []
    total = len(columns) * len(sites)
    with progress_bar("Fitting probes", total, unit="probes", enabled=progress) as advance:
        for column in columns:
            for own in rows:
                done.append(_probed(own, column, same, folds, strength, seed, control=control))
                advance(1)
    shape = (len(columns), len(sites))
    accuracy, remembered, other = (np.array(part, np.float64).reshape(shape) for part in zip(*done, strict=True))
    return _result(columns, tuple(site.name for site in sites), accuracy, other, remembered)


def _labels(values: Any, n: int) -> list[Any]:
    """Return the labels of a batch as a list."""
    if values is None:
        raise DataError("the loader yields no labels; expected (images, labels) batches, or pass targets=")
    entries = list(values) if isinstance(values, tuple) else values.reshape(values.shape or (1,)).tolist()
    if len(entries) != n:
        raise DataError(f"a batch has {n} images and {len(entries)} labels; expected one label per image")
    return entries


def _probed(
    rows: Float32, column: Column, same: Int64, folds: int, strength: float, seed: int, *, control: bool
) -> tuple[float, float, float]:
    """Return the accuracy of a probe, what one of the control task remembers, and that one's accuracy."""
    # The same folds and control at every layer.
    draws = np.random.default_rng(seed)
    there = column.numbers >= 0
    numbers = column.numbers[there]
    alike = same[there]
    fold = fold_numbers(numbers, alike, folds, draws)
    right, _ = asked(rows[there], numbers, fold, strength)
    if not control:
        return float(right.mean()), np.nan, np.nan
    others = shuffled(numbers, alike, draws)
    fold = fold_numbers(others, alike, folds, draws)
    chance, remembered = asked(rows[there], others, fold, strength)
    return float(right.mean()), remembered, float(chance.mean())


def _result(
    columns: list[Column], layers: tuple[str, ...], accuracy: Float64, control: Float64, memorised: Float64
) -> ProbeResult:
    counts = [np.bincount(column.numbers[column.numbers >= 0]) for column in columns]
    n = np.array([count.sum() for count in counts], dtype=np.int64)
    chance = np.array([count.max() / count.sum() for count in counts])
    hits = np.rint(accuracy * n[:, None])
    p_value = stats.binom.sf(hits - 1, n[:, None], chance[:, None])
    return ProbeResult(
        targets=tuple(column.name for column in columns),
        layers=layers,
        values=tuple(column.values for column in columns),
        n=n,
        chance=chance,
        accuracy=accuracy,
        interval=np.array([[wilson(share, int(n[t])) for share in row] for t, row in enumerate(accuracy)]),
        p_value=adjusted(p_value.ravel()).reshape(p_value.shape),
        control=control,
        memorised=memorised,
    )
