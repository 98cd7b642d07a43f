"""Removing the first k channels of each class's ranking: what the class loses, and what the others lose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from experiments.common.subjects import Subject, at_once
from interpnet.engine import Instrument, Removal, channel_index, evaluating, find_sites, instrument, log_odds
from interpnet.support.types import Float64, Int64

GRID = (1, 2, 4, 8, 16, 32)  # how many channels are removed, up to half of all
#: What is made of a ranking: mean loss over :data:`GRID`, more is better.
MEASURES = ("own", "selective", "both", "own log-odds", "selective log-odds")


def steps(n_channels: int) -> list[int]:
    """Return the numbers of the grid up to half of the channels."""
    return [k for k in GRID if k <= n_channels // 2]


class Outcome(NamedTuple):
    """What the network says of every image (N,)."""

    right: Float64  # 100 where the class is predicted, else 0
    log_odds: Float64  # Of the image's own class, in nats


class Lost(NamedTuple):
    """What every image loses without the first k channels of a ranking, for every k (N, K), in points and nats."""

    own: Float64  # Without its own class's channels
    others: Float64  # Without those of another class
    own_log_odds: Float64
    others_log_odds: Float64

    def curves(self, labels: Int64) -> dict[str, list[float]]:
        """Return the means over classes of the means over their images, for every k."""
        return {name: class_means(values, labels).mean(0).round(4).tolist() for name, values in self._asdict().items()}

    def measures(self) -> dict[str, Float64]:
        """Return each of :data:`MEASURES` for every image (N,), the mean over k."""
        own, others, own_log_odds, others_log_odds = (values.mean(1) for values in self)
        selective = own - others
        found = (own, selective, own + selective, own_log_odds, own_log_odds - others_log_odds)
        return dict(zip(MEASURES, found, strict=True))


class Passes:
    """Passes over images of a subject, each image without channels of its own."""

    def __init__(self, subject: Subject, images: Tensor, labels: Int64) -> None:
        sites = find_sites(subject.model, images[:2]).select(subject.layers)
        self.channels = channel_index(sites)
        self.labels = labels
        self._model = subject.model
        self._images = images
        self._removal = Removal(sites)

    def outcome(self, lists: Sequence[Sequence[int] | Int64] | Int64) -> Outcome:
        """Return what becomes of every image without the channels ``lists[image]``."""
        right = []
        odds = []
        size = at_once(self._images)
        with torch.inference_mode(), evaluating(self._model):
            for start in range(0, len(lists), size):
                rows = slice(start, start + size)
                logits = self.logits(self._images[rows], lists[rows])
                own = torch.from_numpy(self.labels[rows]).to(logits.device)
                right.append(100.0 * (logits.argmax(1) == own))
                odds.append(log_odds(logits, own))
        return Outcome(*(torch.cat(parts).double().cpu().numpy() for parts in (right, odds)))

    def logits(self, images: Tensor, lists: Sequence[Sequence[int] | Int64] | Int64) -> Tensor:
        """Return the logits (B, classes) of ``images[i]`` without the channels ``lists[i]``."""
        self._removal.set(list(lists))
        with torch.inference_mode(), instrument(self._model, Instrument(edits=self._removal.edits)):
            logits: Tensor = self._model(images)
        return logits


def removed(run: Passes, intact: Outcome, own: Int64, others: Int64, ks: Sequence[int]) -> Lost:
    """Return what is lost without the first k of each image's channels in ``own`` (N, m), and in ``others``."""
    found = []
    for rows in (own, others):
        for k in ks:
            without = run.outcome(rows[:, :k])
            found.append((intact.right - without.right, intact.log_odds - without.log_odds))
    recall, odds = (np.stack(parts, 1) for parts in zip(*found, strict=True))
    n = len(ks)
    return Lost(recall[:, :n], recall[:, n:], odds[:, :n], odds[:, n:])


def foreign(labels: Int64, n_classes: int) -> Int64:
    """Return which other class's channels each image loses: spread evenly over the others, class by class.

    Examples
    --------
    >>> foreign(np.array([0, 1, 2, 0, 0]), 3).tolist()
    [1, 2, 0, 2, 1]
    """
    found = np.zeros_like(labels)
    for c in range(n_classes):
        rows = np.flatnonzero(labels == c)
        found[rows] = (c + 1 + np.arange(len(rows)) % max(n_classes - 1, 1)) % n_classes
    return found


def class_means(values: Float64, labels: Int64) -> Float64:
    """Return the mean of the values (N, ...) over the images of each class that has some (C, ...)."""
    return np.stack([values[labels == c].mean(0) for c in np.unique(labels)])


def standard_error(values: Float64, labels: Int64) -> float:
    """Return the standard error, over images, of the mean over classes of the class means.

    Examples
    --------
    >>> standard_error(np.array([0.0, 2.0, 1.0, 1.0]), np.array([0, 0, 1, 1]))
    0.5
    """
    parts = [values[labels == c] for c in np.unique(labels)]
    variances = [part.var(ddof=1) / len(part) for part in parts if len(part) > 1]
    return float(np.sqrt(sum(variances)) / len(parts))


def errors(
    found: dict[str, dict[str, Float64]], labels: Int64, references: Sequence[str]
) -> dict[str, dict[str, list[float]]]:
    """Return the standard error of each measure of a reference less that of every ranking, paired by image."""
    table: dict[str, dict[str, list[float]]] = {}
    for reference in references:
        ours = found[reference]
        table[reference] = {
            name: [round(standard_error(ours[m] - other[m], labels), 4) for m in MEASURES]
            for name, other in found.items()
            if name != reference
        }
    return table
