"""What came of pasting what a channel answers to into other images, and of taking it out of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from interpnet.engine import Channel
from interpnet.shortcuts._example import Example
from interpnet.support.brief import brief

_LEVEL = 0.05


@dataclass(frozen=True)
class Moved:
    """How far a class's log-odds move, on average, beyond those of a control of the same area in the same images."""

    whole: float  # against the images as they are
    control: float  # the same of the control
    beyond: float  # whole less control
    low: float  # the ends of the interval of ``beyond`` at 95 %, over the images whose patch it is
    high: float
    p: float  # of no move beyond the control, one-sided, adjusted for the number of classes and channels


@brief
@dataclass(frozen=True)
class Pasted:
    """One channel of one class: its patch in images of other classes, and images of the class without it."""

    index: int  # of the class
    name: str
    channel: Channel
    n: int  # images of the class whose patch it was
    area: float  # share of an image that the patch covers, on average
    gap: float  # by how much the class's log-odds are higher in its own images than in others
    raised: Moved  # by the patch, in images of other classes; the control is a patch from where the channel is quiet
    fell: Moved  # by taking it out of the class's own images; the control takes out what lies there
    reordered: float  # rise with the patch's pixels in another order: what its colours do without its form
    elsewhere: float  # rise with the patch at another place, drawn at random
    taken: float  # share of the other images that are taken for the class with the patch
    taken_before: float  # as they are
    taken_control: float  # with the control
    pasted: tuple[Example, ...] = ()  # what the patch moved most: the image, the one it is from, the image with it
    removed: tuple[Example, ...] = ()  # the image, the same, and without the patch

    @property
    def share(self) -> float:
        """How much of what sets the class's images apart the patch brings along, beyond the control."""
        return self.raised.beyond / self.gap if self.gap > 0 else float("nan")

    @property
    def concentration(self) -> float:
        """How many times its share of the image the patch carries of the class, by the lower ends of both moves.

        The smaller of what it brings into other images and what the class's own lose without it, as a share of what
        sets the class's images apart, over the patch's share of the image. A subject covers much of an image, a tag
        little.
        """
        if not self.gap > 0 or not self.area > 0:
            return float("nan")
        return min(self.raised.low, self.fell.low) / self.gap / self.area

    @property
    def moves(self) -> bool:
        """Whether the patch raises the class in other images, beyond the control."""
        return bool(self.raised.p <= _LEVEL)

    @property
    def needed(self) -> bool:
        """Whether the class falls without it in its own images, beyond the control."""
        return bool(self.fell.p <= _LEVEL)

    @property
    def verdict(self) -> str:
        """What was seen, in words. Whether the patch may do so is for a person to say."""
        if not self.n or math.isnan(self.raised.p):
            return f"Fewer than two images of {self.name} make this channel answer: nothing was measured."
        said = {
            (True, True): f"moves {self.name} into other images and is missed in its own",
            (True, False): f"moves {self.name} into other images; its own images have more than it",
            (False, True): f"is missed in images of {self.name}, but moves no other image there",
            (False, False): f"moves {self.name} no more than another patch of its size",
        }[self.moves, self.needed]
        asked = " A person decides whether it may." if self.moves or self.needed else ""
        return f"What this channel answers to {said}.{asked}"


@brief
@dataclass(frozen=True)
class PasteProbe:
    """What :func:`paste_probe` found: the patch that raises its class most first."""

    pairs: tuple[Pasted, ...]
    passes: float = field(default=0.0)  # forward passes of one image that were spent

    def of(self, index: int) -> tuple[Pasted, ...]:
        """Return the channels of one class."""
        return tuple(pair for pair in self.pairs if pair.index == index)
