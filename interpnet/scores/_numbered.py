"""Batches read by their place in the data set, so that several processes read each image once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

from interpnet.datasets import ImageData, make_loader
from interpnet.errors import DataError
from interpnet.scores._batches import Loader, Prepare, batches_from, entries, unpack
from interpnet.scores._chunks import Range, batches_of, chunks_of, per_chunk
from interpnet.scores._items import BATCH_SIZE, is_data_set, is_item, together
from interpnet.support.ranks import Ranks

_SAME_IMAGES = "every process must read the same images in the same order, of which each deals with its own chunks"
# Of a loader that does not say how many batches it has.
_PER_CHUNK = 8


@runtime_checkable
class Numbered(Protocol):
    """Batches that can be read from anywhere, such as :class:`interpnet.datasets.BatchLoader`."""

    batch_size: int

    @property
    def n_images(self) -> int:
        """Images that there are, unreadable ones included."""

    def numbered(self, batches: Sequence[Range]) -> Iterator[tuple[int, Any]]:
        """Yield some batches, each with the position at which it begins.

        Of a batch without one readable image one without images, which says what was left out.
        """


class _Drawn:
    """Batches that ``make`` yields for lists of positions, one list for every batch."""

    def __init__(self, n_images: int, batch_size: int, make: Callable[[list[list[int]]], Iterable[Any]]) -> None:
        self.n_images = n_images
        self.batch_size = batch_size
        self._make = make

    def numbered(self, batches: Sequence[Range]) -> Iterator[tuple[int, Any]]:
        made = self._make([list(range(*batch)) for batch in batches])
        for (start, _), batch in zip(batches, made, strict=True):
            yield start, batch


def as_numbered(loader: Loader, *, inputs: str | None = None, labels: str | None = None) -> Numbered | None:
    """Return the batches of a loader by number, or None where they must be read one after the other.

    A loader that draws an order of its own, or is a part of one for every process already, is a :class:`DataError`.
    """
    if isinstance(loader, ImageData):
        loader = make_loader(loader, batch_size=BATCH_SIZE)
    if isinstance(loader, Numbered):
        return loader
    if isinstance(loader, DataLoader):
        return _of_data_loader(loader)
    if is_data_set(loader) and hasattr(loader, "__len__"):
        return _of_items(loader, partial(entries, inputs=inputs, labels=labels))
    return None


def _of_data_loader(loader: DataLoader[Any]) -> Numbered | None:
    """Read a torch DataLoader by number where it goes through its data set in order."""
    sampler = loader.sampler
    if hasattr(sampler, "num_replicas"):
        raise DataError(
            f"the loader's sampler is a {type(sampler).__name__}, which leaves each process a part of the images "
            f"already; pass a loader of all images: {_SAME_IMAGES}"
        )
    if isinstance(sampler, RandomSampler):
        raise DataError(f"the loader shuffles; pass one with shuffle=False: {_SAME_IMAGES}")
    plain = type(sampler) is SequentialSampler and type(loader.batch_sampler) is BatchSampler
    if not plain or not is_data_set(loader.dataset) or loader.batch_size is None:
        return None
    n = len(sampler)  # type: ignore[arg-type]
    if loader.drop_last:
        n -= n % loader.batch_size

    def make(batches: list[list[int]]) -> DataLoader[Any]:
        return DataLoader(
            loader.dataset,
            batch_sampler=batches,
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory,
            timeout=loader.timeout,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context,
            generator=loader.generator,
            prefetch_factor=loader.prefetch_factor,
        )

    return _Drawn(n, loader.batch_size, make)


def _of_items(source: Any, taken: Callable[[Any], tuple[Any, Any]]) -> Numbered | None:
    """Read a data set of single items (image, label) by number; one of whole batches is not."""
    if not len(source) or not is_item(source[0], taken, certainly=True):
        return None

    def make(batches: list[list[int]]) -> Iterator[Any]:
        for rows in batches:
            yield together([taken(source[row]) for row in rows])

    return _Drawn(len(source), BATCH_SIZE, make)


class Share:
    """The batches that one of several processes reads, each with its position and whether it is this one's.

    Read by number they are this process's alone; else all are read, of which every world-th chunk is.
    """

    def __init__(self, loader: Loader, keys: Mapping[str, Any], prepare: Prepare | None) -> None:
        self._loader = loader
        self._keys = keys
        self._prepare = prepare
        self.by_number = as_numbered(loader, **keys)
        self._begun: _Again | None = None

    @property
    def n_images(self) -> int | None:
        """Images that there are; None where only reading tells."""
        if self.by_number is None:
            return None
        return self.by_number.n_images

    def first(self) -> Any:
        """Return the first batch with an image that can be read, unpacked."""
        if self.by_number is not None:
            every = batches_of([(0, self.by_number.n_images)], self.by_number.batch_size)
            batches: Iterable[Any] = (batch for _, batch in self.by_number.numbered(every))
        else:
            begun = _Again(iter(batches_from(self._loader, **self._keys)))
            self._begun = begun
            batches = begun.ahead()
        for raw in batches:
            batch = unpack(raw, **self._keys, prepare=self._prepare)
            if len(batch.images):
                return batch
        raise DataError("the loader yielded no image that can be read; expected at least one (images, labels) batch")

    def of_rank(self, ranks: Ranks) -> Iterator[tuple[Range | None, Any, bool]]:
        """Yield what :meth:`batches` does, for one process of several that read all images."""
        return self.batches(self.ranges(ranks.rank, ranks.world), ranks.rank, ranks.world)

    def ranges(self, number: int, count: int) -> list[Range]:
        """Return the chunks of one of ``count`` processes; none where the images cannot be read by number."""
        if self.by_number is None:
            return []
        return chunks_of(self.by_number.n_images, self.by_number.batch_size)[number::count]

    def batches(self, ranges: Sequence[Range], rank: int, world: int) -> Iterator[tuple[Range | None, Any, bool]]:
        """Yield positions, batch and whether it is this process's.

        Read by number they are those of ``ranges``; else all of them, one after the other, without positions.
        """
        if self.by_number is not None:
            spans = batches_of(ranges, self.by_number.batch_size)
            for span, (_, batch) in zip(spans, self.by_number.numbered(spans), strict=True):
                yield span, batch, True
            return
        count = _PER_CHUNK
        if hasattr(type(self._loader), "__len__"):
            count = per_chunk(len(self._loader))  # type: ignore[arg-type]
        for number, raw in enumerate(self._begun or batches_from(self._loader, **self._keys)):
            yield None, raw, number // count % world == rank


class _Again:
    """An iterator of which some can be looked at beforehand, and come again."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self._seen: list[Any] = []

    def ahead(self) -> Iterator[Any]:
        for item in self._items:
            self._seen.append(item)
            yield item

    def __iter__(self) -> Iterator[Any]:
        while self._seen:
            yield self._seen.pop(0)
        yield from self._items
