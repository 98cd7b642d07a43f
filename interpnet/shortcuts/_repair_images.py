"""The images of a repair: as they are, with their suspicious part exchanged, and the parts they are split into."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from interpnet.errors import DataError, InterpNetError
from interpnet.scores import RepeatedLoader
from interpnet.support.types import Int64

# Of images kept in memory where they fit, and of those kept as partners and to train on where they do not.
KEEP_BYTES = 1024**3
_POOL_BYTES = 512 * 1024**2
#: Parts that the images of each class go to in turn: the last is held out, the others are the folds.
PARTS = 5
#: How often each image is exchanged with another partner.
ROUNDS = 2
PLAIN, EXCHANGED, CONTROL = "plain", "exchanged", "control"
# Of the partners of a batch so many are of the classes that carry what is suspicious, however many classes there are.
_CARRIERS = 1 / 4


class Exchanges(Protocol):
    """What says what is suspicious in an image, and exchanges it: the findings of a search for shortcuts.

    It may have ``carriers``, the numbers of the classes whose images carry it: of each batch's partners a quarter at
    least is of them, so that some come where they are few among many.
    """

    def exchange(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return images (B, C, H, W), each with its suspicious part taken from a random other one of them.

        ``labels`` (B,) stay right: they are those of the rest of each image.
        """
        ...


class Answers(NamedTuple):
    """Rows of numbers, by how the images were: as they are, and exchanged in each round."""

    positions: Int64  # (n,): in the loader's order
    rows: dict[str, list[Tensor]]  # by PLAIN, EXCHANGED, CONTROL; a tensor (n, k) of each round


class RepairImages:
    """Images of a loader that starts again, with partners for each, split class by class.

    A class's images go to the five parts in turn, beginning with another part than the class before. The last part is
    held out from the repair unless ``hold`` is False. Partners are never held out, and a quarter
    at least is of the classes ``carriers``.
    """

    def __init__(
        self,
        loader: RepeatedLoader,
        exchange: Callable[[Tensor, Tensor, torch.Generator], Tensor],
        *,
        hold: bool,
        seed: int,
        partners: RepairImages | None = None,
        carriers: Collection[int] = (),
    ) -> None:
        self._loader = loader
        self._carriers = torch.tensor(sorted(carriers), dtype=torch.int64)
        self._exchange = exchange
        self._seed = seed
        self._hold = hold
        # Images (P, C, H, W) in memory that parts are taken from, and that are trained on; and where they came.
        self.pool = torch.empty(0)
        self.pool_labels = torch.empty(0, dtype=torch.int64)
        self.pool_positions: Int64 = np.empty(0, dtype=np.int64)
        self._read(keep=partners is None)
        if partners is not None:
            self.pool, self.pool_labels = partners.pool, partners.pool_labels

    def _read(self, *, keep: bool) -> None:
        """Read all images once: the part of each, and a random sample of those that are not held out."""
        draws = np.random.default_rng(self._seed)
        counts: dict[int, int] = {}
        parts: list[int] = []
        kept: list[tuple[Tensor, int, int]] = []
        capacity = seen = 0
        shape: tuple[int, ...] = ()
        for images, labels in self._loader:
            shape = shape or tuple(images.shape[1:])
            if images.dim() != 4 or tuple(images.shape[1:]) != shape:
                raise DataError(
                    f"images of shape {tuple(images.shape[1:])} came after {shape}; repair exchanges parts between "
                    "images: expected (channels, height, width), the same for all"
                )
            capacity = capacity or max(_POOL_BYTES // images[0].nbytes, 1)
            for image, label in zip(images, labels.tolist(), strict=True):
                # Classes begin with different parts, for there may be as many classes as images.
                counts.setdefault(label, len(counts) % PARTS)
                part = counts[label] % PARTS
                counts[label] += 1
                parts.append(part)
                if not keep or (self._hold and part == PARTS - 1):
                    continue
                # Each of those seen so far is among those kept with the same probability.
                seen += 1
                at = len(kept) if len(kept) < capacity else int(draws.integers(seen))
                one = (image.cpu().clone(), label, len(parts) - 1)
                if at == len(kept):
                    kept.append(one)
                elif at < capacity:
                    kept[at] = one
        self.parts: Int64 = np.array(parts, dtype=np.int64)
        self.labels: Int64 = np.asarray(self._loader.labels, dtype=np.int64)
        if kept:
            self.pool = torch.stack([image for image, _, _ in kept])
            self.pool_labels = torch.tensor([label for _, label, _ in kept])
            self.pool_positions = np.array([position for _, _, position in kept], dtype=np.int64)

    @property
    def held(self) -> Any:
        """Whether each image (N,) is held out: all are where the repair was fitted on other images."""
        if not self._hold:
            return np.zeros(len(self.parts), dtype=bool)
        return self.parts == PARTS - 1

    def rows(
        self,
        run: Callable[[Tensor], Tensor],
        kinds: tuple[str, ...],
        wanted: Any = None,
        advance: Callable[[int], None] | None = None,
    ) -> Answers:
        """Return what ``run`` gives for images as they are and exchanged, of those ``wanted`` (N,), all by default.

        Partners are drawn by the seed and an image's batch, so that another run meets the same images.
        """
        found: dict[str, list[list[Tensor]]] = {kind: [[] for _ in range(_rounds(kind))] for kind in kinds}
        positions = []
        start = 0
        for images, labels in self._loader:
            own = np.arange(start, start + len(labels))
            start += len(labels)
            chosen = np.ones(len(own), dtype=bool) if wanted is None else wanted[own]
            if not chosen.any():
                continue
            positions.append(own[chosen])
            images, labels = images[torch.from_numpy(chosen)], labels[torch.from_numpy(chosen)]
            for kind, rounds in found.items():
                for r, rows in enumerate(rounds):
                    rows.append(run(self._version(kind, images, labels, [self._seed, r, int(own[0])])))
                    if advance is not None:
                        advance(len(labels))
        if not positions:
            raise DataError("no image is left to measure on; expected at least five of some class")
        return Answers(
            np.concatenate(positions), {kind: [torch.cat(rows) for rows in rounds] for kind, rounds in found.items()}
        )

    def _version(self, kind: str, images: Tensor, labels: Tensor, seeds: list[int]) -> Tensor:
        if kind == PLAIN:
            return images
        digits = np.random.SeedSequence([*seeds, kind == CONTROL]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(digits[0] >> np.uint64(1)))
        return self.exchanged(images, labels, generator, within_class=kind == CONTROL)

    def exchanged(
        self, images: Tensor, labels: Tensor, generator: torch.Generator, *, within_class: bool = False
    ) -> Tensor:
        """Return images (B, C, H, W) with parts of others, as many of them drawn from the pool as there are images.

        ``within_class``: of images of their own class, whose parts tell nothing new of it.
        """
        if not within_class:
            return self._with_partners(images, labels, generator, self.pool_labels >= 0)
        result = images.clone()
        for label in torch.unique(labels).tolist():
            own = labels == label
            result[own] = self._with_partners(images[own], labels[own], generator, self.pool_labels == label)
        return result

    def _with_partners(self, images: Tensor, labels: Tensor, generator: torch.Generator, others: Tensor) -> Tensor:
        there = torch.nonzero(others).flatten()
        n = len(images)
        # A class may have no other image to take a part from.
        if not len(there):
            return images
        drawn = there[torch.randint(len(there), (n,), generator=generator)]
        carry = there[torch.isin(self.pool_labels[there], self._carriers)]
        if len(carry):
            some = math.ceil(_CARRIERS * n)
            drawn[:some] = carry[torch.randint(len(carry), (some,), generator=generator)]
        both = torch.cat([images.cpu(), self.pool[drawn]])
        both_labels = torch.cat([labels, self.pool_labels[drawn]])
        # The order is drawn, for an exchange may go by it.
        order = torch.randperm(2 * n, generator=generator)
        made = self._exchange(both[order], both_labels[order], generator)
        if not isinstance(made, Tensor) or made.shape != both.shape or made.dtype != both.dtype:
            came = f"{made.dtype} {tuple(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
            raise InterpNetError(
                f"findings.exchange returned {came}; expected images as they came, {both.dtype} {tuple(both.shape)}"
            )
        return made[torch.argsort(order)[:n]]


def _rounds(kind: str) -> int:
    if kind == PLAIN:
        return 1
    return ROUNDS
