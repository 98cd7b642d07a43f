"""Which contributions to take of a batch: pairs of an image and a class that it has, (n, 2), sorted by image."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from interpnet.engine import predicted
from interpnet.support.types import Int64


def labelled(labels: Tensor, known: int = 0) -> Int64:
    """Return the pairs of labels (n,) or targets (n, C), of which the first belongs to image ``known`` of the batch.

    Examples
    --------
    >>> import torch
    >>> labelled(torch.tensor([2, 0])).tolist(), labelled(torch.tensor([[0, 1, 1]]), 3).tolist()
    ([[0, 2], [1, 0]], [[3, 1], [3, 2]])
    """
    if labels.dim() == 2:
        return _shifted(np.argwhere(labels.cpu().numpy() > 0.5), known)
    numbers = labels.cpu().numpy().astype(np.int64)
    return np.stack([known + np.arange(len(numbers)), numbers], 1)


def said(logits: Tensor, outputs: str, known: int = 0) -> Int64:
    """Return the pairs that a network predicts, of the images from ``known`` on."""
    own = logits.detach()[known:]
    if outputs == "independent":
        return _shifted(np.argwhere(own.cpu().numpy() > 0), known)
    # What is not finite is refused when it is taken in.
    return labelled(predicted(own).clamp(min=0), known)


def rounds(pairs: Int64) -> list[Int64]:
    """Return the pairs as rounds in which no image stands twice: its first class, its second, ...

    Examples
    --------
    >>> [part.tolist() for part in rounds(np.array([[0, 1], [0, 2], [1, 0]]))]
    [[[0, 1], [1, 0]], [[0, 2]]]
    """
    if not len(pairs):
        return []
    first = np.searchsorted(pairs[:, 0], pairs[:, 0])
    nth = np.arange(len(pairs)) - first
    return [pairs[nth == n] for n in range(int(nth.max()) + 1)]


def first_of_each(pairs: Int64, taken: Int64, most: int | None) -> Int64:
    """Return the pairs of which fewer than ``most`` of their class were ``taken`` (C,) so far, and note them there.

    Examples
    --------
    >>> taken = np.array([1, 0])
    >>> first_of_each(np.array([[0, 0], [1, 0], [2, 1]]), taken, 2).tolist(), taken.tolist()
    ([[0, 0], [2, 1]], [2, 1])
    """
    wanted = np.ones(len(pairs), dtype=bool)
    for i, (_, cls) in enumerate(pairs):
        wanted[i] = most is None or taken[cls] < most
        taken[cls] += wanted[i]
    return pairs[wanted]


def _shifted(pairs: Int64, known: int) -> Int64:
    pairs[:, 0] += known
    return pairs
