"""The context share: put the middle of each image into the surroundings of others, and see what a class follows.

S1's statistic, from before the library searched for shortcuts; ``interpnet.shortcuts.find`` exchanges more parts and
reads each against what is usual (experiments/cues). Related: Xiao et al., "Noise or signal: the role of image
backgrounds in object recognition", ICLR 2021 (mixed-rand images, with masks); what is asked of channels is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from interpnet.engine import Channel
from interpnet.interpretation import Interpretation
from interpnet.scores import collect_scores
from interpnet.support.types import Float64, Int64

_RADIUS = 0.25  # of the shorter side; half of a disc's area lies within 0.7 of it
_PARTNERS = 5  # how many others each image meets
_BATCH = 64


@dataclass(frozen=True)
class Swaps:
    """What goes with the middle of the images, and what with their surroundings."""

    found: Interpretation
    follows: float  # share of the images of two classes that are predicted as the surroundings' class
    middle: Float64  # (C, m): how much each channel's score rises, on average, where the middle shows the class
    surroundings: Float64  # (C, m): the same where the surroundings show it

    @property
    def share(self) -> Float64:
        """(C, m): for each class's relevant channels the surroundings' part of what the class does to the score.

        ``max(sb, 0) / (max(sa, 0) + max(sb, 0))`` with the effects a of the middle and b of the surroundings and the
        weight's sign s; NaN for other channels, and where both effects go against the weight.
        """
        signs = np.sign(self.found.coef)
        return share_of(np.where(signs == 0, np.nan, signs * self.middle), signs * self.surroundings)

    @property
    def class_share(self) -> Float64:
        """(C,): the same for each class's response, which is linear in the scores, and so are its effects."""
        return share_of(*(np.einsum("cm,cm->c", self.found.coef, part) for part in (self.middle, self.surroundings)))

    @property
    def mean_share(self) -> float:
        """Mean of ``class_share`` over the classes that have one: one number for the network."""
        known = self.class_share[np.isfinite(self.class_share)]
        return float(known.mean()) if len(known) else float("nan")

    def flagged(self, least: float) -> list[Channel]:
        """Return the channels whose share of a class is above ``least``, each once, the largest first."""
        share = np.nan_to_num(self.share, nan=-1.0)
        best = share.max(0)
        return [self.found.channels[int(j)] for j in np.argsort(-best, kind="stable") if best[j] > least]


def swaps_of(
    model: nn.Module, images: Tensor, labels: Tensor, found: Interpretation, inside: Tensor | None = None
) -> Swaps:
    """Return what goes with the middle, and what with the surroundings, over pairs of ``images`` (B, C, H, W).

    For class j and channel c, ``x_c = e + a [middle shows j] + b [surroundings show j]`` is fitted by least squares
    over all swapped images. ``inside`` (B, H, W) bool is where the subject is, by default a disc.
    """
    first, second = pairs(labels, _PARTNERS, seed=0)
    batches = (
        (_swapped(images, inside, a, b), labels[a])
        for a, b in zip(torch.split(first, _BATCH), torch.split(second, _BATCH), strict=True)
    )
    table = collect_scores(model, list(batches), progress=False)
    around = labels[second].numpy()
    differ = table.labels != around
    effects = effects_of(np.asarray(table.X, dtype=np.float64), table.labels, around, len(found.classes))
    return Swaps(found, float((table.predictions == around)[differ].mean()), *effects)


def swapped(
    images: Tensor, labels: Tensor, inside: Tensor | None = None, *, partners: int = 1, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Return images (n, C, H, W) with the surroundings of others, to train on, and the middles' labels (n,)."""
    first, second = pairs(labels, partners, seed)
    return _swapped(images, inside, first, second), labels[first]


def _swapped(images: Tensor, inside: Tensor | None, first: Tensor, second: Tensor) -> Tensor:
    if inside is None:
        kept = disc(*images.shape[2:]).expand(len(first), -1, -1)
    else:
        # The union of both subjects comes from the first, so that no second one is left.
        kept = inside[first] | inside[second]
    return torch.where(kept[:, None], images[first], images[second])


def disc(height: int, width: int) -> Tensor:
    """Return (height, width) bool: a disc around the centre whose diameter is half the shorter side."""
    rows, columns = (torch.arange(n) - (n - 1) / 2 for n in (height, width))
    return rows[:, None] ** 2 + columns**2 < (_RADIUS * min(height, width)) ** 2


def pairs(labels: Tensor, partners: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return image numbers (n,) and their partners': every image meets the classes in turn."""
    # The image's own class is among them, so that the classes of middle and surroundings are independent.
    rng = np.random.default_rng(seed)
    shown = labels.numpy()
    members = [np.flatnonzero(shown == c) for c in np.unique(shown)]
    n = len(members)
    first = []
    second = []
    for own, images in enumerate(members):
        start = own + rng.integers(1, n)  # the first partner is of another class
        for r in range(partners):
            first.append(images)
            others = [members[(start + t + r) % n] for t in range(len(images))]
            second.append(np.array([rng.choice(other) for other in others]))
    return torch.from_numpy(np.concatenate(first)), torch.from_numpy(np.concatenate(second))


def effects_of(x: Float64, middle: Int64, around: Int64, n: int) -> Float64:
    """Return the effects (2, C, m) of middle and surroundings on every column of ``x`` (n, m); NaN where unknown."""
    found = np.full((2, n, x.shape[1]), np.nan)
    for j in np.intersect1d(middle, around).tolist():
        design = np.stack([np.ones(len(x)), middle == j, around == j], 1).astype(np.float64)
        # A class that is always together with its own surroundings has no effect to tell apart.
        if np.linalg.matrix_rank(design) == 3:
            found[:, j] = np.linalg.lstsq(design, x, rcond=None)[0][1:]
    return found


def share_of(a: Float64, b: Float64) -> Float64:
    """Return the second effect's part of both, those below zero counted as zero; NaN where neither is above."""
    b = np.maximum(b, 0.0)
    total = np.maximum(a, 0.0) + b
    return np.divide(b, total, out=np.full_like(total, np.nan), where=total > 0)
