"""Generated images with concepts: simple ones that every network could know, with exact masks and no data set."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from interpnet.datasets._drawn_concepts import KINDS, draw
from interpnet.datasets._preprocess import Preprocessing, make_preprocessing
from interpnet.errors import DataError, InterpNetError, did_you_mean
from interpnet.support.checks import check_kinds, distinct_names, whole_number

_GREY = 1  # channels of images without colours
_COLOURED = 3
_SMALLEST = 16  # pixels of a side, on which a star can be told from a disc
_FEWEST = 16  # images: each of the most concepts of a kind in two


@dataclass(frozen=True)
class GeneratedConcepts:
    """The images of one kind of concept: a loader of (images, masks), for :func:`interpnet.concepts.dissect`."""

    name: str
    concepts: tuple[str, ...]
    images: int
    size: tuple[int, int]
    preprocessing: Preprocessing
    seed: int
    batch_size: int

    def __len__(self) -> int:
        return math.ceil(self.images / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (B, C, H, W) as the network wants them, and masks (B, K, H, W)."""
        for start in range(0, self.images, self.batch_size):
            pairs = [self._drawn(number) for number in range(start, min(start + self.batch_size, self.images))]
            yield torch.stack([image for image, _ in pairs]), torch.stack([masks for _, masks in pairs])

    def _drawn(self, number: int) -> tuple[Tensor, Tensor]:
        random = np.random.default_rng([self.seed, list(KINDS).index(self.name), number])
        pixels, masks = draw(KINDS[self.name], number, self.size, random)
        image = torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32))
        if self.preprocessing.channels == _GREY:
            image = image.mean(0, keepdim=True)
        return self.preprocessing.normalise(image), torch.from_numpy(masks.transpose(2, 0, 1).copy())


def generated_concepts(
    image_size: int | Sequence[int],
    *,
    kinds: Sequence[str] | None = None,
    images: int = 200,
    channels: int = 3,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    seed: int = 0,
    batch_size: int = 16,
) -> dict[str, GeneratedConcepts]:
    """Return generated images with masks of simple concepts by kind, for :func:`interpnet.concepts.dissect`.

    Up to three things lie in each image, on a background without strong colours that is flat, noisy, or has soft blobs:

    - ``colours``: a disc or a square that is red, orange, yellow, green, blue, purple, white or black;
    - ``edges``: a step of brightness that is vertical, rising, horizontal or falling, and fades out; the mask is a band
      along it;
    - ``gratings``: a disc with stripes of these directions, fine or coarse;
    - ``shapes``: a disc, square, triangle or star, darker or brighter than the background, turned at random.

    Directions vary by 7 degrees, sizes, places, contrasts and colours too. Names found so are of what such pictures
    have: a channel that is named "red" need not answer to red things in photographs.

    Parameters
    ----------
    image_size : int or (height, width)
        At least 16 pixels each.
    kinds : sequence of str, optional
        Some of the four; by default all, of grey images all but colours.
    images : int
        Of each kind, at least 16.
    channels : int
        3, or 1 for grey.
    mean, std
        Of the network's inputs, as in :func:`interpnet.load_dataset`.
    seed, batch_size : int

    Returns
    -------
    dict of GeneratedConcepts
        Loaders of (images, masks) by kind; ``concepts`` of each are its names.

    Raises
    ------
    DataError
        Images too small or of other colours than grey and RGB.

    Examples
    --------
    >>> sources = generated_concepts(32, images=16)
    >>> {name: one.concepts[:2] for name, one in sources.items()}["shapes"]
    ('disc', 'square')
    >>> images, masks = next(iter(sources["colours"]))
    >>> images.shape, masks.shape
    (torch.Size([16, 3, 32, 32]), torch.Size([16, 8, 32, 32]))
    """
    check_kinds(generated_concepts, locals(), but=["kinds"])
    if channels not in {_GREY, _COLOURED}:
        raise DataError(f"channels is {channels}; generated images have 1 (grey) or 3 (red, green, blue)")
    known = [kind for kind in KINDS if channels == _COLOURED or kind != "colours"]
    chosen = tuple(known) if kinds is None else distinct_names(kinds, "kinds")
    for kind in chosen:
        if kind not in known:
            why = " of grey images" if kind in KINDS else ""
            hint = did_you_mean(kind, known)
            raise InterpNetError(f"kinds has {kind!r}, which is none{why}; expected some of {', '.join(known)}{hint}")
    if not chosen:
        raise InterpNetError(f"kinds is empty; expected some of {', '.join(known)}, or None for all")
    how = make_preprocessing(channels=channels, image_size=image_size, crop=None, mean=mean, std=std)
    size = (how.image_size, how.image_size) if isinstance(how.image_size, int) else how.image_size
    if size is None or min(size) < _SMALLEST:
        raise DataError(f"image_size is {image_size!r}; expected at least {_SMALLEST} pixels along each side")
    whole_number(images, "images", least=_FEWEST)
    whole_number(seed, "seed", least=0)
    whole_number(batch_size, "batch_size", least=1)
    return {kind: GeneratedConcepts(kind, KINDS[kind].concepts, images, size, how, seed, batch_size) for kind in chosen}
