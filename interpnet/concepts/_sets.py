"""Sets of images that stand for a concept, for nothing in particular, or for a class; none may be in two of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from interpnet.engine import check_images
from interpnet.errors import DataError
from interpnet.scores import batches_from, unpack
from interpnet.support.checks import text
from interpnet.support.checksums import checksum


def named(concept: Any) -> dict[str, Any]:
    """Return concepts by name: those of a dictionary, or the only one as ``"concept"``.

    Examples
    --------
    >>> list(named(torch.zeros(2, 3))), list(named({"stripes": None, "dots": None}))
    (['concept'], ['stripes', 'dots'])
    """
    if not isinstance(concept, Mapping):
        return {"concept": concept}
    if not concept:
        raise DataError("concept is an empty dictionary; expected images by the concept's name")
    return {text(name, "a name in concept", error=DataError): source for name, source in concept.items()}


def parts_of(source: Any, name: str, max_batch: int) -> Iterator[Tensor]:
    """Yield the images of a set, a tensor or a loader, at most ``max_batch`` at a time; errors begin with ``name``.

    Examples
    --------
    >>> [len(part) for part in parts_of(torch.zeros(5, 1, 2, 2), "images", 2)]
    [2, 2, 1]
    """
    try:
        # Without images is without images, in whatever way they come.
        if isinstance(source, Tensor):
            batches: Any = [source] if source.shape[:1] != (0,) else []
        else:
            batches = batches_from(source)
        for raw in batches:
            images = check_images(raw) if isinstance(source, Tensor) else unpack(raw).images
            if len(images):
                yield from torch.split(images.detach(), max_batch)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error


class Known:
    """Which images are in which set: an image in two of them stands for neither."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[str, int]] = {}

    def add(self, name: str, digests: list[str]) -> None:
        """Take in the images of a set, or raise :class:`DataError` where another set has one of them."""
        for i, digest in enumerate(digests):
            other, j = self._first.setdefault(digest, (name, i))
            if other != name:
                raise DataError(
                    f"image {i} of {name} is image {j} of {other} as well, and stands for one of them only; take it "
                    "out of one"
                )

    def check(self, name: str, digests: list[str]) -> None:
        """Raise :class:`DataError` where a set that was taken in has an image of this one, which is not taken in."""
        before = dict(self._first)
        self.add(name, digests)
        self._first = before


def digests_of(images: Tensor) -> list[str]:
    """Return what tells each image from others, the same for equal pixels.

    Examples
    --------
    >>> one, other, same = digests_of(torch.tensor([[1.0], [2.0], [1.0]]))
    >>> one == same, one == other
    (True, False)
    """
    return [checksum(image.tobytes()) for image in images.cpu().contiguous().float().numpy()]
