"""Batches of an ImageData: bad images named or skipped, sizes checked, workers' errors made readable."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from interpnet.datasets._data import ImageData, require_same_size
from interpnet.datasets._pixels import BadImageError
from interpnet.errors import DataError
from interpnet.support.checks import check_kinds, whole_number
from interpnet.support.types import Int64


@dataclass(frozen=True)
class Skipped:
    """An image left out because it cannot be read; unpacks as ``index, name, reason``."""

    index: int
    name: str
    reason: str

    def __iter__(self) -> Iterator[int | str]:
        return iter((self.index, self.name, self.reason))


class Batch(NamedTuple):
    """Images of one batch; as a tuple it starts with ``images, labels``, like any loader's."""

    images: Tensor  # (B, C, H, W) float32, normalised; never empty
    labels: Tensor  # (B,) int64, or targets (B, C) float32 where an image can have several labels
    indices: Tensor  # (B,) int64, the images' numbers in the data set
    skipped: list[Skipped]  # unreadable images left out since the batch before, and after it if it is the last


@final
@dataclass(eq=False)
class BatchLoader:
    """Iterates over an ImageData in batches, as often as wanted; made by :func:`make_loader`, whose names it has."""

    data: ImageData
    batch_size: int
    indices: Int64
    shuffle: bool
    num_workers: int
    pin_memory: bool
    seed: int
    skipped: list[Skipped] = field(default_factory=list)  # in the current or last pass; complete when it has ended
    waited: float = 0.0  # seconds in which the current or last pass waited for images

    def __post_init__(self) -> None:
        self._order = torch.Generator().manual_seed(self.seed)

    @property
    def n_images(self) -> int:
        """Images a pass covers, unreadable ones included."""
        return len(self.indices)

    @property
    def labels(self) -> Int64:
        """(n_images,) their labels, in the order of ``indices``."""
        return self.data.labels[self.indices]

    def __len__(self) -> int:
        """Return the number of batches; less come where a whole batch cannot be read."""
        return (self.n_images + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches; an unreadable image, differing sizes, or not one readable image are DataErrors."""
        # A list of this pass alone: a pass begun later does not mix into it.
        skipped = self.skipped = []
        order = torch.from_numpy(self.indices)
        if self.shuffle:
            order = order[torch.randperm(self.n_images, generator=self._order)]
        first: tuple[str, Sequence[int]] | None = None
        unreported: list[Skipped] = []
        # Where images may be left out, one batch is held back: what is skipped after the last still joins it.
        held: list[Batch] = []
        for fetched in self._fetched([part.tolist() for part in torch.split(order, self.batch_size)]):
            skipped += fetched.skipped
            unreported += fetched.skipped
            if not len(fetched.indices):
                continue
            # Within a batch the reader has compared the sizes; between batches nobody else does.
            name = self.data.name(int(fetched.indices[0]))
            first = first or (name, fetched.images.shape[1:])
            require_same_size(*first, name, fetched.images.shape[1:])
            yield from held
            held = [fetched._replace(skipped=unreported)]
            unreported = []
            if self.data.on_bad_image == "fail":
                yield held.pop()
        for batch in held:
            batch.skipped.extend(unreported)
            yield batch
        if first is None:
            raise DataError(
                f"none of the {self.n_images} images of {self.data.spec!r} can be read; "
                f"the first is {skipped[0].name!r}: {skipped[0].reason}"
            )

    def numbered(self, batches: Sequence[tuple[int, int]]) -> Iterator[tuple[int, Batch]]:
        """Yield the images from a position in ``indices`` up to another, batch by batch, each with the former.

        What was left out stands in the ``skipped`` of its own batch, which has no images where none can be read. A
        loader that shuffles is a DataError: another process would read in another order.
        """
        if self.shuffle:
            raise DataError("the loader shuffles; images that several processes share are read in their order")
        skipped = self.skipped = []
        wanted = [self.indices[start:stop].tolist() for start, stop in batches]
        first: tuple[str, Sequence[int]] | None = None
        for (start, _), fetched in zip(batches, self._fetched(wanted), strict=True):
            skipped += fetched.skipped
            if len(fetched.indices):
                name = self.data.name(int(fetched.indices[0]))
                first = first or (name, fetched.images.shape[1:])
                require_same_size(*first, name, fetched.images.shape[1:])
            yield start, fetched

    def _fetched(self, batches: list[list[int]]) -> Iterator[Batch]:
        """Yield a batch for each list of the images' numbers."""
        loader = DataLoader(
            _Reader(self.data),
            # A batch is one item of the reader, so that an unreadable image leaves a gap in it and no more.
            sampler=batches,
            batch_size=None,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory and torch.cuda.is_available(),
            # Else the loader would draw its workers' seeds from torch's global state.
            generator=torch.Generator().manual_seed(0),
        )
        self.waited = 0.0
        for fetched in self._timed(loader):
            if isinstance(fetched, str):
                raise DataError(fetched)
            if isinstance(fetched, Skipped):
                raise BadImageError(fetched.index, fetched.name, fetched.reason)
            yield fetched

    def _timed(self, loader: Iterable[_Fetched]) -> Iterator[_Fetched]:
        """Yield what a loader reads, and add up how long it was waited for."""
        clock = time.perf_counter()
        for fetched in loader:
            self.waited += time.perf_counter() - clock
            yield fetched
            clock = time.perf_counter()


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
    """Make batches of a data set; a setting out of range is a DataError.

    Unreadable images follow ``data.on_bad_image``: an error that names the file, or left out and reported in
    the ``skipped`` of one batch and of the loader. A batch without any readable image is not yielded; what it
    skipped is reported with the next one, or the last.

    Parameters
    ----------
    batch_size : int
        Images per batch, at least 1; the last may be smaller.
    indices : sequence of int, optional
        (n,) which images, in this order; by default all.
    shuffle, seed : bool, int
        Whether to draw a new order for every pass, and what fixes these orders.
    num_workers : int
        Processes that read ahead; 0 reads in this one.
    pin_memory : bool
        Page-locked batches for fast copies to a GPU; without one, no effect.

    Examples
    --------
    >>> from interpnet.datasets import load_dataset
    >>> loader = make_loader(load_dataset("digits"), batch_size=100, indices=range(250))
    >>> [len(batch.labels) for batch in loader]
    [100, 100, 50]
    """
    check_kinds(make_loader, locals(), but={"indices"})
    batch_size = whole_number(batch_size, "batch_size", least=1, error=DataError)
    num_workers = whole_number(num_workers, "num_workers", least=0, error=DataError)
    seed = whole_number(seed, "seed", least=-(2**63), most=2**63 - 1, error=DataError)
    if indices is None:
        indices = range(len(data))
    chosen = np.asarray(indices)
    if chosen.ndim != 1 or chosen.size == 0 or not np.issubdtype(chosen.dtype, np.integer):
        raise DataError(f"indices have shape {chosen.shape} and type {chosen.dtype}, expected a list of image numbers")
    if chosen.min() < 0 or chosen.max() >= len(data):
        raise DataError(f"indices reach from {chosen.min()} to {chosen.max()}, expected 0 to {len(data) - 1}")
    return BatchLoader(data, batch_size, chosen.astype(np.int64), shuffle, num_workers, pin_memory, seed)


# A batch; or, where an error is due, the unreadable image or the message. An exception raised in a worker process
# would arrive as another type, and one of several arguments cannot be pickled.
_Fetched = Batch | Skipped | str


@final
class _Reader(Dataset[_Fetched]):
    """Reads a whole list of images as one item."""

    def __init__(self, data: ImageData) -> None:
        self.data = data

    def __getitem__(self, rows: list[int]) -> _Fetched:
        images: list[Tensor] = []
        labels: list[Tensor] = []
        kept: list[int] = []
        skipped: list[Skipped] = []
        for i in rows:
            try:
                image, label = self.data[i]
                if images:
                    require_same_size(self.data.name(kept[0]), images[0].shape, self.data.name(i), image.shape)
            except BadImageError as error:
                bad = Skipped(error.index, error.name, error.reason)
                if self.data.on_bad_image == "fail":
                    return bad
                skipped.append(bad)
            except DataError as error:
                return str(error)
            else:
                images.append(image)
                labels.append(torch.as_tensor(label))
                kept.append(i)
        if not images:
            return Batch(torch.empty(0), torch.empty(0), torch.tensor(kept), skipped)
        return Batch(torch.stack(images), torch.stack(labels), torch.tensor(kept), skipped)
