"""Images with concepts by category, read several times and checked to be the same."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from interpnet.concepts._columns import column_of
from interpnet.concepts._marks import Marks, marks_of
from interpnet.concepts._sets import digests_of
from interpnet.concepts._tcav_result import ConceptWarning
from interpnet.engine import check_images
from interpnet.errors import DataError, InterpNetError
from interpnet.scores import Loader, Prepare, batches_from, entries, prepared, refuse_iterators
from interpnet.support.checks import distinct_names, shown
from interpnet.support.types import Float64, Int64

#: The name of the category where one loader comes.
ONE = "concepts"
_PARTNERS = 256  # images of each category whose masks other images borrow
_FEW = 10  # groups of images, below which an interval says little


class Batch(NamedTuple):
    """Some images of one category."""

    images: Tensor  # (B, C, H, W)
    marks: Marks
    first: int  # the number of the first image within its category


class Category:
    """Images in which the same concepts were looked for, and what one look at all their masks tells."""

    def __init__(
        self,
        name: str,
        loader: Loader,
        concepts: tuple[str, ...],
        step: int,
        keys: Mapping[str, Any],
        groups: Any = None,
    ) -> None:
        refuse_iterators(loader, "dissect")
        self.name = name
        self.concepts = concepts
        self._loader = loader
        self._step = step
        self._keys = dict(keys)
        self._given_groups = groups
        self._digests: list[str] = []
        self.images = 0
        # (N,): the group of each image, counted from 0; each image is its own where none are given.
        self.groups: Int64 = np.zeros(0, dtype=np.int64)
        # (K,): how many images show each concept, and the mean share of the images that it covers.
        self.images_with: Int64 = np.zeros(len(concepts), dtype=np.int64)
        self.cover: Float64 = np.zeros(len(concepts))
        self._partners: list[tuple[int, Tensor]] = []
        self._lenders: Int64 = np.zeros(0, dtype=np.int64)  # the partners' numbers

    def look(self, seed: int) -> Tensor:
        """Read all once: count, keep some images' masks for others to borrow, and return the first images."""
        draws = np.random.default_rng(seed)
        known: dict[str, tuple[int, Tensor]] = {}
        first: Tensor | None = None
        for batch in self._read():
            if first is None:
                first = batch.images
            elif batch.images.shape[1:] != first.shape[1:]:
                raise DataError(
                    f"category {self.name!r}: images of {tuple(first.shape[1:])} and of "
                    f"{tuple(batch.images.shape[1:])} came; expected one size: resize or crop them in the loader"
                )
            shares = batch.marks.shares.numpy()
            self.images_with += (shares > 0).sum(0)
            self.cover += shares.sum(0)
            for i, digest in enumerate(digests_of(batch.images)):
                number = batch.first + i
                self._digests.append(digest)
                self._check_new(digest, number, batch.marks.masks[i], known)
                self._borrowed(number, batch.marks.masks[i], draws)
            self.images += len(batch.images)
        if first is None:
            raise DataError(f"category {self.name!r}: the loader yielded no image; expected (images, masks) batches")
        missing = [name for name, n in zip(self.concepts, self.images_with, strict=True) if not n]
        if missing:
            raise DataError(
                f"category {self.name!r}: no image shows {', '.join(map(repr, missing[:5]))} at any pixel looked at "
                f"(every {self._step} along each side); leave such concepts out, pass a smaller step, or check the "
                "numbers in the masks"
            )
        if self.images < 2:
            raise DataError(f"category {self.name!r}: one image came; expected at least two, better hundreds")
        self.cover /= self.images
        self.groups = self._grouped()
        self._lenders = np.array([number for number, _ in self._partners], dtype=np.int64)
        return first

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches again; images that are not those of the first time are refused."""
        n = 0
        for batch in self._read():
            own = digests_of(batch.images)
            if self._digests[n : n + len(own)] != own:
                raise DataError(
                    f"category {self.name!r}: images {n} to {n + len(own) - 1} are not those of the first pass; "
                    "expected the same images in the same order each time, without random crops, flips or shuffling"
                )
            n += len(own)
            yield batch
        if n != self.images:
            raise DataError(f"category {self.name!r}: {n} images came, and {self.images} in the first pass")

    def partners(self, number: int, draws: np.random.Generator, count: int) -> Tensor:
        """Return the masks (count, K, h, w) of images of other groups than that of a number, drawn at random."""
        others = np.flatnonzero(self.groups[self._lenders] != self.groups[number])
        if not len(others):  # none was kept beside those of a large group
            others = np.flatnonzero(self._lenders != number)
        return torch.stack([self._partners[int(draws.choice(others))][1] for _ in range(count)])

    def _grouped(self) -> Int64:
        """Return the group (N,) of each image, in the order in which they come first."""
        if self._given_groups is None:
            return np.arange(self.images)
        numbers = column_of(self._given_groups, f"groups of {self.name!r}", self.images).numbers
        alone = numbers < 0
        numbers[alone] = self.images + np.flatnonzero(alone)
        _, firsts, found = np.unique(numbers, return_index=True, return_inverse=True)
        if len(firsts) < 2:
            raise DataError(
                f"groups of {self.name!r}: all {self.images} images are of one group; expected several, better dozens, "
                "such as the minutes of a film"
            )
        if len(firsts) < _FEW:
            warnings.warn(
                f"groups of {self.name!r}: {len(firsts)} came, and intervals over so few say little; split them, such "
                "as a film into its minutes",
                ConceptWarning,
                stacklevel=4,
            )
        order = np.argsort(np.argsort(firsts))
        placed: Int64 = order[found.reshape(-1)]
        return placed

    def _read(self) -> Iterator[Batch]:
        names: dict[str, Any] = {name: self._keys.get(name) for name in ("inputs", "labels")}
        prepare: Prepare | None = self._keys.get("prepare")
        first = 0
        for raw in batches_from(self._loader, **names):
            given, second = entries(raw, **names)
            images = check_images(prepared(given, prepare))
            if not len(images):
                continue
            yield Batch(images, marks_of(second, images, self.concepts, first=first, step=self._step), first)
            first += len(images)

    def _check_new(self, digest: str, number: int, masks: Tensor, known: dict[str, tuple[int, Tensor]]) -> None:
        """Refuse one image that came twice, as two concepts: each time it would count against the other one."""
        if digest not in known:
            # The masks of all images would take too much: what they cover tells two apart.
            known[digest] = (number, masks.double().mean((1, 2)))
            return
        other, shares = known[digest]
        if not torch.equal(shares, masks.double().mean((1, 2))):
            raise DataError(
                f"category {self.name!r}: images {other} and {number} are the same and show different concepts; give "
                "each image once, with masks (B, K) of 0 and 1 that name all its concepts"
            )

    def _borrowed(self, number: int, masks: Tensor, draws: np.random.Generator) -> None:
        """Keep the masks of up to 256 images, each image as likely as another."""
        if len(self._partners) < _PARTNERS:
            self._partners.append((number, masks.clone()))
            return
        at = int(draws.integers(number + 1))
        if at < _PARTNERS:
            self._partners[at] = (number, masks.clone())


def one_size(categories: Sequence[Category], firsts: Sequence[Tensor]) -> tuple[int, ...]:
    """Return the shape (C, H, W) of all images, or refuse several: maps of the same layer would differ in size."""
    for category, first in zip(categories, firsts, strict=True):
        if first.shape[1:] != firsts[0].shape[1:]:
            raise DataError(
                f"images of {tuple(firsts[0].shape[1:])} came in category {categories[0].name!r} and of "
                f"{tuple(first.shape[1:])} in {category.name!r}; expected one size: resize or crop them in the loaders"
            )
    return tuple(firsts[0].shape[1:])


def categories_of(
    loader: Loader | Mapping[str, Loader],
    concepts: Sequence[str] | Mapping[str, Sequence[str]] | None,
    step: int,
    keys: Mapping[str, Any],
    groups: Any = None,
) -> tuple[Category, ...]:
    """Return the categories of one loader, or of a dictionary of them by name, with their concepts and groups."""
    if concepts is None:
        concepts = _own_concepts(loader)
    if isinstance(loader, Mapping) != isinstance(concepts, Mapping):
        raise InterpNetError(
            "loader and concepts: one came as a dictionary and the other not; expected a loader and the names of its "
            "concepts, or a dictionary of loaders and one of names, both by category"
        )
    if not isinstance(loader, Mapping) or not isinstance(concepts, Mapping):
        loaders: dict[str, Loader] = {ONE: loader}
        names: dict[str, Any] = {ONE: concepts}
        grouped = {ONE: groups}
    else:
        loaders = dict(loader)
        names = dict(concepts)
        grouped = _by_category(groups, loaders)
    if not loaders or set(loaders) != set(names):
        raise InterpNetError(
            f"loader has the categories {sorted(map(str, loaders))} and concepts {sorted(map(str, names))}; expected "
            "the same, at least one"
        )
    found = []
    for category, source in loaders.items():
        own = distinct_names(names[category], "concepts")
        if not own:
            raise InterpNetError(f"concepts of {category!r} is empty; expected the names of the concepts")
        found.append(Category(str(category), source, own, step, keys, grouped.get(category)))
    distinct_names([name for category in found for name in category.concepts], "concepts")
    return tuple(found)


def _own_concepts(loader: Any) -> Any:
    """Return the names that loaders carry, such as those of folders."""
    if isinstance(loader, Mapping):
        return {name: _own_concepts(one) for name, one in loader.items()}
    found = getattr(loader, "concepts", None)
    if found is None:
        raise InterpNetError(
            f"concepts is None, and a loader ({type(loader).__name__}) has no attribute concepts; give the names "
            "of the concepts in the masks' order"
        )
    return found


def _by_category(groups: Any, loaders: Mapping[str, Loader]) -> dict[str, Any]:
    if groups is None:
        return {}
    if not isinstance(groups, Mapping):
        raise InterpNetError(
            f"groups is {shown(groups)}, and loader a dictionary; expected one of groups by category, too"
        )
    strange = sorted(map(str, set(groups) - set(loaders)))
    if strange:
        raise InterpNetError(f"groups has the category {strange[0]!r}, and loader {sorted(map(str, loaders))}")
    return dict(groups)
