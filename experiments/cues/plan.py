"""Which 400 networks are trained: half on images with a planted cue, a quarter on plain images, a quarter on decoys.

The first 240 are for choosing what the search does and what it takes for usual; the other 160, of the same plan with
other images, cues and weights, report. They were trained after all of the first had been looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from experiments.common.networks import CifarResNet
from experiments.cues.planting import KINDS, planted
from experiments.cues.pools import FLOWER_POOLS, SOURCES, Pool, pool
from interpnet.errors import InterpNetError
from interpnet.models import SmallCNN
from interpnet.support.types import Bools, Bytes, Int64

STRENGTHS = (0.7, 0.8, 0.9, 0.95, 1.0)  # how often the cue agrees with the class
ARCHITECTURES = ("average", "hidden", "resnet")
#: Networks for choosing with a planted cue, with none, and with a decoy; and those that report.
PLANTED, PLAIN, DECOYS = 120, 60, 60
REPORT = (80, 40, 40)
CHOOSE = PLANTED + PLAIN + DECOYS
RELIES = 0.10  # a network or a class relies on its cue from here on; see `truth`
#: Images of each part: to train, to choose on, and to test.
PARTS = {
    "flowers": (1500, 400, 600),
    "cifar10": (2400, 400, 600),
    "photographs": (2400, 400, 600),
    "fashion": (2000, 400, 600),
    "mnist": (1800, 400, 600),
}
#: How the cue of a test image is drawn; "natural" is as in training.
DRAWS = ("natural", "agree", "disagree", "absent", "independent")
_OFFSET = 7_000  # of the seeds
#: What a subject has behind its number.
_Turn: TypeAlias = tuple[str | None, str, bool, float, bool, str]


@dataclass(frozen=True)
class Subject:
    """One network to train and audit."""

    number: int  # 0 to 399
    source: str  # One of SOURCES
    kind: str | None  # The cue, one of KINDS; None without one
    decoy: bool  # The cue is there, but independent of the class
    strength: float  # How often the cue agrees with the class in training and validation
    everyone: bool  # Whether every class has a version of the cue, or one class only
    architecture: str  # One of ARCHITECTURES

    @property
    def seed(self) -> int:
        """Of its images, cues, weights and training."""
        return _OFFSET + self.number

    @property
    def split(self) -> str:
        """``"choose"``: statistics and thresholds are chosen on it; ``"report"``: it was looked at afterwards."""
        return "choose" if chooses(self.number) else "report"

    @property
    def cued(self) -> bool:
        """Whether the cue agrees with the class in training."""
        return self.kind is not None and not self.decoy

    def pool(self, work: Path) -> Pool:
        """Return the images it draws from."""
        part = self.number % FLOWER_POOLS if self.source == "flowers" else 0
        return pool(self.source, part, work)

    def one(self, n_classes: int) -> int:
        """Return the class with the cue where it is one only."""
        return int(np.random.default_rng([self.seed, 40]).integers(n_classes))


class Split(NamedTuple):
    """Images (N, 3, H, W) as the network wants them, their labels (N,), and the cue in each, -1 for none."""

    images: Tensor
    labels: Tensor
    cue: Int64


def chooses(number: int) -> bool:
    """Return whether statistics and thresholds are chosen on a network of this number.

    Examples
    --------
    >>> chooses(239), chooses(240)
    (True, False)
    """
    return number < CHOOSE


def subjects() -> list[Subject]:
    """Return the 400 networks: of planted ones every kind, source, strength, scope and architecture in turn."""
    planted, plain, decoys = REPORT
    chosen: list[_Turn] = [
        *_mixed([_turned(i, decoy=False) for i in range(PLANTED)], 1498),
        *map(_plain, range(PLAIN)),
        *_mixed([_turned(i, decoy=True) for i in range(DECOYS)], 4608),
        *(_turned(i, decoy=False) for i in range(PLANTED, PLANTED + planted)),
        *map(_plain, range(PLAIN, PLAIN + plain)),
        *(_turned(i, decoy=True) for i in range(DECOYS, DECOYS + decoys)),
    ]
    return [
        Subject(number, source, kind, decoy, strength, everyone, architecture)
        for number, (kind, source, decoy, strength, everyone, architecture) in enumerate(chosen)
    ]


def _mixed(rows: list[_Turn], seed: int) -> list[_Turn]:
    """Return the rows in an order of which every third row is a third of each kind, source and so on.

    The seeds were found by trying 6,000, when every third network was for choosing.
    """
    return [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]


def _plain(i: int) -> _Turn:
    """Return source and the rest of the i-th network without a cue."""
    return None, SOURCES[i % 5], False, 1.0, True, ARCHITECTURES[(i // 5) % 3]


def _turned(i: int, *, decoy: bool) -> _Turn:
    """Return kind, source, and the rest of the i-th network with a cue; kinds and sources meet within 45."""
    kind = i % len(KINDS)
    turn = i // len(KINDS)  # of this kind
    strength = STRENGTHS[(turn + turn // 5 * 2 + kind) % 5]
    everyone = (turn + turn // 2 + kind) % 2 == 0
    architecture = ARCHITECTURES[(turn + turn // 3 + kind) % 3]
    return KINDS[kind], SOURCES[i % 5], decoy, strength, everyone, architecture


def build(subject: Subject, n_classes: int, side: int) -> SmallCNN | CifarResNet:
    """Return the untrained network of a subject."""
    if subject.architecture == "resnet":
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
            torch.default_generator.manual_seed(subject.seed)
            # Large images are halved at once.
            return CifarResNet(1, n_classes, width=12, stride=side // 32)
    hidden = {"average": 0, "hidden": 32}[subject.architecture]
    return SmallCNN(3, n_classes, side, 8, hidden=hidden, seed=subject.seed)


def rows_of(subject: Subject, split: str, count: int) -> Int64:
    """Return the rows of a pool of ``count`` images that are its ``"train"``, ``"validation"`` or ``"test"``."""
    sizes = PARTS[subject.source]
    if sum(sizes) > count:
        raise InterpNetError(f"the pool of {subject.source} has {count} images; expected at least {sum(sizes)}")
    mixed = np.random.default_rng([subject.seed, 41]).permutation(count)[: sum(sizes)]
    ends = np.cumsum(sizes)[:-1]
    return np.split(mixed, ends)[("train", "validation", "test").index(split)]


def cues(subject: Subject, labels: Int64, n_classes: int, draw: str, rng: np.random.Generator) -> Int64:
    """Return (N,) whose class's cue each image bears, -1 for none; ``draw`` is one of :data:`DRAWS`.

    Where every class has a cue, "agree" is its own, "disagree" another class's at random, "natural" its own with the
    probability ``strength``, else another's; of a decoy and in "independent" it is any class's. Where one class has
    it, "agree" is the cue on its images alone, "disagree" on all others alone, "natural" as "agree" but that
    ``1 - strength`` of its images change places with others; of a decoy and in "independent" half of all bear it.
    """
    if draw not in DRAWS:
        raise InterpNetError(f"draw is {draw!r}; expected one of {', '.join(DRAWS)}")
    if subject.kind is None or draw == "absent":
        return np.full(len(labels), -1)
    loose = draw == "independent" or (draw == "natural" and subject.decoy)
    if subject.everyone:
        if loose:
            return rng.integers(0, n_classes, len(labels))
        other = (labels + rng.integers(1, n_classes, len(labels))) % n_classes
        if draw == "natural":
            return np.where(rng.random(len(labels)) < subject.strength, labels, other)
        return labels.copy() if draw == "agree" else other
    one = subject.one(n_classes)
    mine = labels == one
    if loose:
        bears = rng.random(len(labels)) < 0.5
    elif draw == "disagree":
        bears = ~mine
    else:
        bears = mine.copy()
        if draw == "natural":
            lost = rng.permutation(np.flatnonzero(mine))[: round((1 - subject.strength) * mine.sum())]
            bears[lost] = False
            bears[rng.permutation(np.flatnonzero(~mine))[: len(lost)]] = True
    return np.where(bears, one, -1)


def split_of(subject: Subject, split: str, work: Path, *, draw: str = "natural", n: int | None = None) -> Split:
    """Return images of ``"train"``, ``"validation"`` or ``"test"`` with cues drawn as ``draw`` says.

    All draws of a split show the same images in the same order. ``n`` takes the first so many.
    """
    images, inside, labels, classes = drawn(subject, split, work, n=n)
    purpose = [subject.seed, 42, ("train", "validation", "test").index(split), DRAWS.index(draw)]
    cue = cues(subject, labels, classes, draw, np.random.default_rng(purpose))
    return Split(normalised(with_cue(subject, images, inside, cue)), torch.from_numpy(labels), cue)


def drawn(subject: Subject, split: str, work: Path, *, n: int | None = None) -> tuple[Bytes, Bools, Int64, int]:
    """Return images, where their subjects are, labels, and the number of classes, before any cue is planted."""
    source = subject.pool(work)
    rows = rows_of(subject, split, len(source.labels))[:n]
    return source.images[rows], source.inside[rows], source.labels[rows], len(source.classes)


def with_cue(subject: Subject, images: Bytes, inside: Bools, cue: Int64) -> Bytes:
    """Return images with a subject's cues; those of a plain network are as they were."""
    return images if subject.kind is None else planted(images, inside, cue, subject.kind, subject.seed)


def normalised(images: Bytes) -> Tensor:
    """Return images (N, 3, H, W) of 0 to 255 as the networks want them: -2 to 2."""
    return torch.from_numpy(images).float().div_(255 / 4).sub_(2)
