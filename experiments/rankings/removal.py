"""Removing the first k channels of each class's ranking: what the class loses, and what the others lose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from experiments.common.subjects import Subject, batches
from interpnet.ablation import Passes
from interpnet.engine import ChannelIndex, Instrument, Removal, evaluating, find_sites, instrument
from interpnet.interpretation import Interpretation
from interpnet.support.types import Int64

GRID = (1, 2, 3, 5, 10, 20, 32, 64, 128)  # how many channels are removed, up to a quarter of all


def steps(n_channels: int) -> list[int]:
    """Return 0 and the numbers of the grid up to a quarter of the channels."""
    return [0, *(k for k in GRID if k <= n_channels // 4)]


def recalls(
    subject: Subject, channels: ChannelIndex, orders: dict[str, Int64], ks: Sequence[int]
) -> dict[str, dict[str, list[float]]]:
    """Return for each ranking the mean recall of the class itself, and of the others, for every k of ``ks``.

    Each image loses the first k channels of its own class's ranking; in a second pass those of another class's,
    spread evenly over the others.
    """
    found: dict[str, dict[str, list[float]]] = {}
    with torch.inference_mode(), evaluating(subject.model):
        run = passes(subject, channels)
        for name, order in orders.items():
            pairs = [recall(run, [one[:k] for one in order] if k else None) for k in ks]
            found[name] = {"own": [a for a, _ in pairs], "others": [b for _, b in pairs]}
    return found


def passes(subject: Subject, channels: ChannelIndex) -> Passes:
    """Return passes over the test images; use them in evaluation mode, without gradients."""
    nothing = Interpretation(channels, np.zeros((len(subject.classes), len(channels))), subject.classes)
    loader = batches(subject.test, subject.test_labels)
    return Passes(subject.model, loader, nothing, put=torch.Tensor.cpu, output=None, seed=subject.seed)


def recall(run: Passes, lists: Sequence[Int64] | None) -> tuple[float, float]:
    """Return the mean recall of the classes without their own lists, and of the others without one's list."""
    own = float(np.nanmean(run.own(lists)))  # a class without images is left out
    others = float(np.nanmean(run.others(lists))) if lists is not None else own
    return round(own, 5), round(others, 5)


def without(model: nn.Module, removal: Removal, images: Tensor, lists: Sequence[Sequence[int]]) -> Tensor:
    """Return the logits (B, classes) of ``images[i]`` without the channels ``lists[i]``."""
    removal.set(lists)
    with torch.inference_mode(), instrument(model, Instrument(edits=removal.edits)):
        logits: Tensor = model(images)
    return logits


def greedy(subject: Subject, m: int, length: int, each: int) -> Int64:
    """Return the oracle's order (C, length): at each step the channel whose removal leaves the least recall.

    Equal recalls are ordered by the mean probability of the class. Measured on the first ``each`` training images
    of the class, m removals a step.
    """
    with evaluating(subject.model):
        removal = Removal(find_sites(subject.model, subject.train[:2]).select())
        rows = []
        for c in range(len(subject.classes)):
            images = subject.train[torch.from_numpy(np.flatnonzero(subject.train_labels == c)[:each])]
            rows.append(_greedy_of(partial(without, subject.model, removal), images, c, m, length))
    return np.array(rows)


def _greedy_of(logits_of: Callable[..., Tensor], images: Tensor, c: int, m: int, length: int) -> list[int]:
    chosen: list[int] = []
    n = len(images)
    at_once = max(1, 100 // n)  # about 100 images per pass
    for _ in range(length):
        left = [i for i in range(m) if i not in chosen]
        scores = []
        for start in range(0, len(left), at_once):
            tried = left[start : start + at_once]
            lists = [[*chosen, i] for i in tried for _ in range(n)]
            logits = logits_of(images.repeat(len(tried), 1, 1, 1), lists).view(len(tried), n, -1)
            recall = (logits.argmax(2) == c).double().mean(1)
            # A probability is below 1, so it decides only between equal recalls.
            scores += (recall + logits.softmax(2)[:, :, c].double().mean(1) / (n + 1)).tolist()
        chosen.append(left[int(np.argmin(scores))])
    return chosen
