"""What a search for shortcuts found: a ranked list of suspicions, each with its part, number, channels and images."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from interpnet.engine import Channel
from interpnet.errors import InterpNetError
from interpnet.shortcuts._example import Example
from interpnet.shortcuts._pasted import Pasted
from interpnet.support.brief import brief
from interpnet.support.types import Float64

if TYPE_CHECKING:  # a report reads findings without torch
    import torch
    from torch import Tensor

    from interpnet.shortcuts._common import CommonOverlay
    from interpnet.shortcuts._exchanger import Exchanger


@dataclass(frozen=True)
class CarryingChannel:
    """A channel that answers to a suspicious part."""

    channel: Channel
    share: float  # of what the class does to its score, the part's share
    contribution: float  # what it contributes to the class's log-odds, on average
    top_classes: tuple[tuple[int, int], ...]  # (class, count) of its top images over all classes, the most first


@dataclass(frozen=True)
class ClassFinding:
    """What one class answers to beside its subject."""

    index: int
    name: str
    part: str  # the most suspicious part
    kind: str
    share: float  # of the class's log-odds that goes with the part, 0 to 1
    low: float  # the ends of its interval at 95 %
    high: float
    usual: float  # what 98 % of classes without a shortcut stay below, for this part
    detectable: float  # a share that would have been found with a probability of 0.8
    raised: float  # share of other classes' images that are taken for the class with its part
    raised_before: float  # without it
    confirmed: bool  # measured on exchanges that played no part in choosing the part
    n: int  # images of the class
    channels: tuple[CarryingChannel, ...]
    examples: tuple[Example, ...]

    @property
    def suspicion(self) -> float:
        """How far the share is beyond what is usual; NaN where it is unknown."""
        return self.share - self.usual

    @property
    def suspicious(self) -> bool:
        """Whether the whole interval is beyond what is usual."""
        return bool(self.low > self.usual)


@dataclass(frozen=True)
class DrawingChannel:
    """A channel that draws images to a class."""

    channel: Channel
    contribution: float  # to the class's log-odds, on average over the images drawn
    high: float  # share of the images drawn in which it is as high as in 1 % of the training images
    top_classes: tuple[tuple[int, int], ...]  # (class, count) of its top training images, the most first


@dataclass(frozen=True)
class Drawn:
    """Images that a class draws and that are not, or need not be, of it."""

    index: int
    name: str
    source: str  # "training": images of other classes that are taken for it; "field": images that lean to it
    n: int  # images drawn
    share: float  # of the training images of other classes, or of the field images
    expected: float  # the share that chance would give
    p: float  # one-sided, adjusted over the classes for the share of false discoveries
    channels: tuple[DrawingChannel, ...]  # what draws them, first what draws most
    images: tuple[int, ...]  # numbers of images drawn, as their loader counts them; of field images the strongest first
    places: tuple[tuple[int, int], ...]  # row and column of the strongest evidence for the class in each; () where none
    # What field images have in common at the same place; None where nothing, and where it was read from a file.
    common: CommonOverlay | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class GroupChannel:
    """A channel that carries one group of a class's images more than the other."""

    channel: Channel
    contribution: float  # to the class's log-odds, on average over the group's images
    elsewhere: float  # over the other group's


@dataclass(frozen=True)
class Group:
    """Images of a class that the same channels carry."""

    n: int
    images: tuple[int, ...]  # numbers as the loader counts them, those that are most apart from the other group first
    channels: tuple[GroupChannel, ...]  # first what differs most from the other group


@dataclass(frozen=True)
class Grouped:
    """A class whose own recognised images fall into two groups: two kinds of evidence."""

    index: int
    name: str
    p: float  # that images of one kind seem to be of two; adjusted over the classes for the share of false discoveries
    groups: tuple[Group, Group]  # the larger first


@brief
@dataclass(frozen=True, eq=False)
class Findings:
    """What :func:`find` found, the most suspicious class first."""

    classes: tuple[ClassFinding, ...]
    parts: tuple[str, ...]
    shares: Float64  # (P, C): of every part and class, from the screening; NaN where it was not measured
    low: Float64  # (P, C)
    high: Float64  # (P, C)
    passes: float  # forward-equivalents of the images that were spent
    n: int  # images
    notes: tuple[str, ...] = field(default=())
    exchanger: Exchanger | None = field(default=None, repr=False)  # None where they were read from a file
    drawn: tuple[Drawn, ...] = field(default=())  # what draws images to classes: training first, then field images
    grouped: tuple[Grouped, ...] = field(default=())  # classes with two kinds of evidence, the most certain first
    # What the channels of suspicious classes answer to, pasted into other images; () where it was not asked for.
    inside: tuple[Pasted, ...] = field(default=())

    @property
    def suspicion(self) -> float:
        """The largest over the classes; NaN where none could be measured."""
        known = [c.suspicion for c in self.classes if np.isfinite(c.suspicion)]
        return max(known, default=float("nan"))

    @property
    def suspicious(self) -> tuple[ClassFinding, ...]:
        """The classes of which the whole interval is beyond what is usual."""
        return tuple(c for c in self.classes if c.suspicious)

    def of(self, index: int) -> ClassFinding:
        """Return the finding of one class."""
        for found in self.classes:
            if found.index == index:
                return found
        raise InterpNetError(f"index={index!r} was not studied; studied were {[c.index for c in self.classes]}")

    def among(self, indices: Collection[int]) -> Findings:
        """Return the findings of some classes: what the others go by is left alone by :func:`repair`."""
        kept = tuple(c for c in self.classes if c.index in indices)
        exchanger = self.exchanger
        if exchanger is not None:
            exchanger = exchanger.among(indices)
        return replace(self, classes=kept, exchanger=exchanger)

    @property
    def carriers(self) -> tuple[int, ...]:
        """The classes whose images carry a suspicious part: :func:`repair` takes parts of them more often."""
        return tuple(sorted(c.index for c in self.suspicious))

    def exchange(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return images (B, C, H, W), each with suspicious parts of another one of them, drawn at random.

        Half of the others are images of suspicious classes, so that a part which one class of many carries comes often;
        the other half are any. They give what the two classes are suspicious for. Their labels (B,) stay those of their
        rests. What :func:`repair` trains on.
        """
        if self.exchanger is None:
            raise InterpNetError(
                "these findings were read from a file, which holds no images; search again with find(model, loader)"
            )
        return self.exchanger.exchange(images, labels, generator)
