"""The images that reliance is measured on: so many of each class, one class number for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interpnet.errors import DataError
from interpnet.reliance._pairs import first_of_each, labelled
from interpnet.scores import Labels, Loader, Names, Prepare, batches_from, refuse_iterators, unpack
from interpnet.support.types import Int64


class ChosenImages:
    """The first ``images`` of every class in ``loader``, as batches (images, class numbers) that begin again each time.

    An image that has several classes comes once for each. ``say`` gives the pairs of an image and a class where the
    labels are not asked for.
    """

    def __init__(
        self,
        loader: Loader,
        n_classes: int,
        images: int | None,
        say: Callable[[Tensor], Int64] | None,
        *,
        inputs: str | None,
        labels: str | None,
        prepare: Prepare | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        refuse_iterators(loader, "measure_reliance")
        self._loader = loader
        self._n_classes = n_classes
        self._images = images
        self._say = say
        self._prepare = prepare
        self._known_as = Labels(n_classes, classes=classes)
        self._keys: dict[str, Any] = {"inputs": inputs, "labels": labels}

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        taken = np.zeros(self._n_classes, dtype=np.int64)
        start = 0
        for raw in batches_from(self._loader, **self._keys):
            batch = unpack(raw, **self._keys, prepare=self._prepare)
            n = len(batch.images)
            indices = torch.arange(start, start + n)
            start += n
            pairs = first_of_each(self._pairs(batch.images, batch.labels, indices), taken, self._images)
            if len(pairs):
                rows = torch.from_numpy(pairs)
                yield batch.images[rows[:, 0]], rows[:, 1]

    def _pairs(self, images: Tensor, labels: Tensor | Names | None, indices: Tensor) -> Int64:
        if self._say is not None:
            return self._say(images)
        if labels is None:
            raise DataError(
                "the loader yields no labels; expected (images, labels) batches, or contributions of predictions"
            )
        return labelled(self._known_as.checked(labels, len(images), indices))
