"""Batches of an ImageData: bad images named or skipped, sizes checked, workers' errors made readable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar, final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from interpnet.datasets._data import ImageData, require_same_size
from interpnet.datasets._pixels import BadImageError
from interpnet.errors import DataError

T = TypeVar("T")


@dataclass(frozen=True)
class Skipped:
    """An image left out because it cannot be read; unpacks as ``index, name, reason``."""

    index: int
    name: str
    reason: str

    def __iter__(self) -> Iterator[int | str]:
        return iter((self.index, self.name, self.reason))


class Batch(NamedTuple):
    """Images of one batch; as a tuple it starts with ``images, labels``, like any loader's.

    Attributes
    ----------
    images : Tensor
        (B, C, H, W) float32, normalised; never empty.
    labels : Tensor
        (B,) int64.
    indices : Tensor
        (B,) int64, the images' numbers in the data set.
    skipped : list of Skipped
        Unreadable images left out since the batch before, and after it if it is the last.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    skipped: list[Skipped]


class _Fetched(NamedTuple):
    """What a worker sends: a batch, or the error it met, which loses its type on the way if raised there."""

    images: Tensor
    labels: Tensor
    indices: Tensor
    skipped: list[Skipped]
    bad: Skipped | None
    error: str | None


@final
class BatchLoader:
    """Iterates over an ImageData in batches, as often as wanted; see :func:`make_loader`.

    Attributes
    ----------
    data : ImageData
        The data set.
    n_images : int
        Images a pass covers, unreadable ones included.
    labels : ndarray of int64 (n_images,)
        Their labels, in the data set's order of ``indices``.
    skipped : list of Skipped
        All images left out in the current or last pass; complete when it has ended.
    """

    def __init__(
        self,
        data: ImageData,
        *,
        batch_size: int,
        indices: np.ndarray,
        shuffle: bool,
        num_workers: int,
        pin_memory: bool,
        seed: int,
    ) -> None:
        self.data = data
        self.batch_size = batch_size
        self.n_images = len(indices)
        self.labels = data.labels[indices]
        self.skipped: list[Skipped] = []
        self._indices = torch.from_numpy(indices)
        self._shuffle = shuffle
        self._num_workers = num_workers
        self._pin_memory = pin_memory
        self._order = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        """Return the number of batches; less come where a whole batch cannot be read."""
        return (self.n_images + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches.

        Raises
        ------
        DataError
            An unreadable image (unless they are skipped), differing sizes, or not one readable image.
        """
        skipped: list[Skipped] = []
        self.skipped = skipped
        order = self._indices
        if self._shuffle:
            order = order[torch.randperm(self.n_images, generator=self._order)]
        rows = [part.tolist() for part in torch.split(order, self.batch_size)]
        loader = DataLoader(
            _Reader(self.data),
            sampler=rows,
            batch_size=None,
            collate_fn=_unchanged,
            num_workers=self._num_workers,
            pin_memory=self._pin_memory and torch.cuda.is_available(),
            # Else the loader would draw its workers' seeds from torch's global state.
            generator=torch.Generator().manual_seed(0),
        )
        first: tuple[str, Sequence[int]] | None = None
        unreported: list[Skipped] = []
        # Where images may be left out, one batch is held back: what is skipped after the last still joins it.
        hold = self.data.on_bad_image == "skip"
        held: Batch | None = None
        for fetched in loader:
            if fetched.bad is not None:
                raise BadImageError(fetched.bad.index, fetched.bad.name, fetched.bad.reason)
            if fetched.error is not None:
                raise DataError(fetched.error)
            skipped += fetched.skipped
            unreported += fetched.skipped
            if not len(fetched.indices):
                continue
            name = self.data.name(int(fetched.indices[0]))
            first = first or (name, fetched.images.shape[1:])
            require_same_size(*first, name, fetched.images.shape[1:])
            batch = Batch(fetched.images, fetched.labels, fetched.indices, unreported)
            unreported = []
            if held is not None:
                yield held
            if hold:
                held = batch
            else:
                yield batch
        if held is not None:
            held.skipped.extend(unreported)
            yield held
        if first is None:
            raise DataError(
                f"none of the {self.n_images} images of {self.data.spec!r} can be read; "
                f"the first is {skipped[0].name!r}: {skipped[0].reason}"
            )


def make_loader(
    data: ImageData,
    *,
    batch_size: int = 64,
    indices: Sequence[int] | np.ndarray | None = None,
    shuffle: bool = False,
    num_workers: int = 0,
    pin_memory: bool = False,
    seed: int = 0,
) -> BatchLoader:
    """Make batches of a data set.

    Unreadable images follow ``data.on_bad_image``: an error that names the file, or left out and reported in
    the ``skipped`` of one batch and of the loader. A batch without any readable image is not yielded; what it
    skipped is reported with the next one, or the last.

    Parameters
    ----------
    data : ImageData
        The data set.
    batch_size : int
        Images a batch, at least 1; the last may be smaller.
    indices : sequence of int, optional
        (n,) which images, in this order; by default all.
    shuffle : bool
        Draw a new order for every pass.
    num_workers : int
        Processes that read ahead; 0 reads in this one.
    pin_memory : bool
        Page-locked batches for fast copies to a GPU; without one, no effect.
    seed : int
        Fixes the orders of ``shuffle``.

    Returns
    -------
    BatchLoader
        Yields :class:`Batch`; has ``n_images``, ``labels`` and ``skipped``.

    Raises
    ------
    DataError
        A setting out of range.

    Examples
    --------
    >>> from interpnet.datasets import load_dataset
    >>> loader = make_loader(load_dataset("digits"), batch_size=100, indices=range(250))
    >>> [len(batch.labels) for batch in loader]
    [100, 100, 50]
    """
    for setting, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise DataError(f"{setting} is {value!r}, expected a whole number of at least {least}")
    chosen = np.arange(len(data)) if indices is None else np.asarray(indices)
    if chosen.ndim != 1 or chosen.size == 0 or not np.issubdtype(chosen.dtype, np.integer):
        raise DataError(f"indices have shape {chosen.shape} and type {chosen.dtype}, expected a list of image numbers")
    if chosen.min() < 0 or chosen.max() >= len(data):
        raise DataError(f"indices reach from {chosen.min()} to {chosen.max()}, expected 0 to {len(data) - 1}")
    return BatchLoader(
        data,
        batch_size=batch_size,
        indices=chosen.astype(np.int64),
        shuffle=shuffle,
        num_workers=num_workers,
        pin_memory=pin_memory,
        seed=seed,
    )


@final
class _Reader(Dataset[_Fetched]):
    """Reads a whole list of images as one item."""

    def __init__(self, data: ImageData) -> None:
        self.data = data

    def __getitem__(self, rows: list[int]) -> _Fetched:
        images: list[Tensor] = []
        labels: list[int] = []
        kept: list[int] = []
        skipped: list[Skipped] = []
        bad: Skipped | None = None
        failure: str | None = None
        try:
            for i in rows:
                try:
                    image, label = self.data[i]
                except BadImageError as error:
                    entry = Skipped(error.index, error.name, error.reason)
                    if self.data.on_bad_image == "fail":
                        bad = entry
                        break
                    skipped.append(entry)
                    continue
                if images:
                    require_same_size(self.data.name(kept[0]), images[0].shape, self.data.name(i), image.shape)
                images.append(image)
                labels.append(label)
                kept.append(i)
        except DataError as error:
            failure = str(error)
        stopped = bad is not None or failure is not None or not images
        stacked = torch.empty(0) if stopped else torch.stack(images)
        return _Fetched(stacked, torch.tensor(labels), torch.tensor(kept), skipped, bad, failure)


def _unchanged(fetched: T) -> T:
    return fetched
