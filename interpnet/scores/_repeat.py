"""A loader that is read several times: every pass must be the first one again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
import xxhash
from torch import Tensor

from interpnet.errors import DataError
from interpnet.scores._batches import (
    Loader,
    Prepare,
    batches_from,
    peek,
    refuse_iterators,
    unpack,
)
from interpnet.scores._labels import Labels, class_numbers

_Digests = npt.NDArray[np.uint64]
# numpy has no bfloat16; the bits are the same as those of a whole number of that size.
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def image_digests(images: Tensor) -> _Digests:
    """Return a 64-bit hash of each image's values (B,), the same in every memory layout.

    Examples
    --------
    >>> images = torch.arange(8.0).view(2, 1, 2, 2)
    >>> same = image_digests(images) == image_digests(images.contiguous(memory_format=torch.channels_last))
    >>> same.tolist(), bool((image_digests(images) == image_digests(images.flip(3))).any())
    ([True, True], False)
    """
    bits = images.detach().view(_BITS[images.element_size()]).cpu().numpy()
    # An image at a time, so that a batch of another layout is not copied as a whole.
    hashes = (xxhash.xxh3_64_intdigest(np.ascontiguousarray(image).data) for image in bits)
    return np.fromiter(hashes, np.uint64, len(bits))


class RepeatedLoader:
    """The batches (images, class numbers) of ``loader``, read as often as they are iterated over.

    With ``several`` an image can have several labels: batches are then (images, targets (B, C) of bool), from targets
    of 0 and 1 or from class numbers.

    Batches are kept in memory while they take at most ``keep`` bytes in all; past that every pass reads them again, and
    a :class:`DataError` says where one is not the first pass again: other images, another order, other labels, another
    number. What can be read only once is refused before it is read. ``use`` names who reads, for the messages.
    """

    def __init__(
        self,
        loader: Loader,
        n_classes: int,
        *,
        keep: int,
        use: str,
        inputs: str | None,
        labels: str | None,
        several: bool = False,
        prepare: Prepare | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        refuse_iterators(loader, use)
        self._loader = loader
        self._known_as = Labels(n_classes, classes=classes)
        self._keep = keep
        self._use = use
        self._several = several
        self._n_classes = n_classes
        self._keys: dict[str, Any] = {"inputs": inputs, "labels": labels}
        self._kept: list[tuple[Tensor, Tensor]] = []
        self._fits = True
        self._pass = 0
        # What the first pass saw.
        self._digests: list[_Digests] = []
        self._labels: list[npt.NDArray[Any]] = []
        self._prepare = prepare
        self.first_images, self._begun = peek(batches_from(loader, **self._keys), **self._keys, prepare=prepare)

    @property
    def labels(self) -> npt.NDArray[Any]:
        """The class numbers (N,) of all images, or their targets (N, C); the first pass must be over."""
        return np.concatenate(self._labels)

    @property
    def fingerprint(self) -> str:
        """A digest of all images and labels in their order; the first pass must be over."""
        total = hashlib.sha256(np.concatenate(self._digests).tobytes())
        total.update(self.labels.tobytes())
        return total.hexdigest()

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self._pass += 1
        if self._pass == 1:
            return self._first()
        return iter(self._kept) if self._fits else self._again()

    def _first(self) -> Iterator[tuple[Tensor, Tensor]]:
        size = 0
        for images, labels, _ in self._read(self._begun):
            self._labels.append(labels.numpy())
            self._digests.append(image_digests(images))
            size += images.nbytes
            if size > self._keep:
                self._fits = False
                self._kept = []
            if self._fits:
                self._kept.append((images, labels))
            yield images, labels
        # A loader may fill the same memory for every batch: what was kept then shows its last images only.
        for (images, _), digests in zip(self._kept, self._digests, strict=False):
            if (image_digests(images) != digests).any():
                self._fits = False
        if not self._fits:
            self._kept = []

    def _again(self) -> Iterator[tuple[Tensor, Tensor]]:
        digests = np.concatenate(self._digests)
        known = self.labels
        start = 0
        for images, labels, indices in self._read(batches_from(self._loader, **self._keys)):
            part = slice(start, start + len(labels))
            start = part.stop
            if start > len(known):
                self._refuse_count(len(known), f"{start} or more")
            found = image_digests(images)
            others = (labels.numpy() != known[part]).reshape(len(labels), -1).any(1)
            changed = (found != digests[part]) | others
            if changed.any():
                row = int(changed.argmax())
                self._refuse(int(indices[row]), found[row] == digests[part][row], found[row] in digests)
            yield images, labels
        if start != len(known):
            self._refuse_count(len(known), str(start))

    def _read(self, batches: Any) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield (images, class numbers on the CPU, positions) of every batch with an image that could be read."""
        start = 0
        for raw in batches:
            batch = unpack(raw, **self._keys, prepare=self._prepare)
            n = batch.images.shape[0]
            if not n:
                continue
            indices = batch.indices
            if indices is None:
                indices = torch.arange(start, start + n)
            labels = self._known_as.checked(batch.labels, n, indices)
            yield batch.images, self._checked(labels.cpu(), indices), indices
            start += n

    def _checked(self, labels: Tensor, indices: Tensor) -> Tensor:
        """Return class numbers (B,), or targets (B, C) of bool where an image can have several labels."""
        if not self._several:
            return class_numbers(labels, indices, self._use)
        if labels.dim() == 1:
            return torch.nn.functional.one_hot(labels, self._n_classes).bool()
        bad = ((labels != 0) & (labels != 1)).any(1)
        if bool(bad.any()):
            row = int(bad.nonzero()[0])
            raise DataError(f"the target of image {int(indices[row])} holds other numbers than 0 and 1, expected those")
        return labels.bool()

    @property
    def _remedy(self) -> str:
        return (
            f"{self._use} reads the images several times; pass a loader that starts again each time with the same "
            "images in the same order: no shuffling, no random augmentation, no stream (a DataLoader with "
            "shuffle=False, or a list of batches)"
        )

    def _refuse_count(self, known: int, now: str) -> NoReturn:
        raise DataError(f"the loader yielded {known} images at first and {now} in pass {self._pass}; {self._remedy}")

    def _refuse(self, index: int, same_image: bool, known: bool) -> NoReturn:
        what = "is another image than in the first pass"
        if known:
            what = "came at another place in the first pass: the order changed"
        if same_image:
            what = "has another label than in the first pass"
        raise DataError(f"image {index} of pass {self._pass} over the loader {what}; {self._remedy}")
