"""What each axis of a tensor is made of: images, channels, rows and columns, as the digits of a number.

Transformers fold axes into each other: windows into the batch, heads out of the channels, rows and columns into tokens,
a class token before them. Each axis is kept as a product of factors, from the slowest to the fastest, and followed
through the operators that move, split and join axes. Where it is not followed there are no factors, never a guess.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True)
class Factor:
    """One digit of a position: of an image in the batch, a channel, a row, or of what is not known (``""``)."""

    # "batch", "channel", "space", "tokens" (more positions around those of ``inside``) or "".
    what: str
    size: int
    # A step of this digit is so many of the whole, which has ``whole`` positions.
    stride: int = 1
    whole: int = 0
    # Of rows and columns: which spatial axis of the images, and by how much the positions were rolled back.
    along: int = 0
    rolled: int = 0
    # Of tokens: those before, and the axis inside.
    before: int = 0
    inside: tuple[Factor, ...] = ()

    @property
    def alone(self) -> bool:
        """Whether it is the whole, not a digit of it."""
        return self.size == self.whole and self.stride == 1

    def split(self, slow: int) -> tuple[Factor, Factor] | None:
        """Return it as two digits, the slow one of that size; ``None`` where it has no digits."""
        if self.what == "batch" or self.size % slow:
            return None
        fast = self.size // slow
        if self.what in {"tokens", ""}:
            return unknown(slow), unknown(fast)
        return replace(self, size=slow, stride=self.stride * fast), replace(self, size=fast)


Axis = tuple[Factor, ...]
Axes = tuple[Axis, ...]


def unknown(size: int) -> Factor:
    """Return a factor of which only the size is known."""
    return Factor("", size)


def whole(what: str, size: int, along: int = 0) -> Factor:
    """Return all of something as one digit."""
    return Factor(what, size, 1, size, along)


def size_of(axis: Axis) -> int:
    """Return the size of an axis."""
    return math.prod(f.size for f in axis)


def factors_of_images(x: Tensor) -> Axes:
    """Return the factors of a batch of images (B, C, ...)."""
    space = [(whole("space", x.shape[a], a - 2),) for a in range(2, x.dim())]
    return ((whole("batch", x.shape[0]),), (whole("channel", x.shape[1]),), *space)


def over_image(axes: Axes | None, out: Tensor, dimensions: int) -> Axes | None:
    """Return the factors of a convolution's map of images: rows and columns, also where those before were not followed.

    Positions may be a little off, as after a crop.
    """
    if out.dim() != dimensions + 2 or (axes is not None and any(f.what != "batch" for f in axes[0])):
        return axes
    if axes is not None and all(len(axis) == 1 and axis[0].what == "space" and axis[0].alone for axis in axes[2:]):
        return axes
    return factors_of_images(out)


def reshaped(axes: Axes, shape: tuple[int, ...]) -> Axes | None:
    """Return the factors after a reshape to ``shape``: digits are split and joined as positions in memory are."""
    # Axes of one position say nothing, but for a batch of one image.
    rest = [f for axis in axes for f in axis if f.size > 1 or f.what == "batch"]
    found = []
    for size in shape:
        axis: list[Factor] = []
        left = size
        while rest and (left > 1 or (not axis and rest[0].size == 1)):
            if left % rest[0].size == 0:
                axis.append(rest.pop(0))
                left //= axis[-1].size
                continue
            digits = rest[0].split(left) if rest[0].size % left == 0 else None
            if digits is None:
                return None
            rest[0] = digits[1]
            axis.append(digits[0])
            left = 1
        if left > 1:
            return None
        found.append(tuple(axis))
    if rest:
        return None
    return tuple(map(_joined, found))


def _joined(axis: Axis) -> Axis:
    """Return an axis with neighbouring digits of one number as one digit."""
    found: list[Factor] = []
    for f in axis:
        last = found[-1] if found else None
        if (
            last is not None
            and f.what in {"space", "channel"}
            and last == replace(f, size=last.size, stride=f.stride * f.size)
        ):
            found[-1] = replace(f, size=f.size * last.size)
        elif last is not None and f.what == last.what == "":
            found[-1] = unknown(f.size * last.size)
        else:
            found.append(f)
    return tuple(found)
