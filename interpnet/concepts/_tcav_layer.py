"""The vectors of all sets at one layer, and the derivatives along them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np

from interpnet.concepts._directions import Way, combined, held_out, products
from interpnet.errors import DataError
from interpnet.support.types import Float32, Float64, Int64

_NOTHING = 1e-12  # a vector of so small a share of the maps' spread, squared, is rounding


@dataclass(frozen=True)
class Members:
    """Which rows of maps are those of which set; all of them are N."""

    concepts: dict[str, Int64]
    against: Int64 | None
    random: list[Int64]
    same: Int64  # (N,): equal for equal images

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """Pairs of random sets that vectors are made of: all, or with ``against`` each set once."""
        numbers = range(len(self.random))
        if self.against is None:
            return list(combinations(numbers, 2))
        return list(zip(numbers[::2], numbers[1::2], strict=False))

    @property
    def tests(self) -> Int64:
        """Numbers of what stands in the concept's place in turn: every random set, or every pair of them."""
        return np.arange(len(self.random) if self.against is None else len(self.pairs))

    @cached_property
    def vectors(self) -> list[tuple[str, Int64, Int64, Int64]]:
        """Name, rows of the one and the other set, and the rows to measure along it, of all vectors.

        For each concept those against each random set (or the one against the other concept), then those of the pairs.
        """
        found = []
        for name, rows in self.concepts.items():
            if self.against is not None:
                found.append((f"concept {name!r} and the one it is against", rows, self.against, self._others()))
                continue
            for j, other in enumerate(self.random):
                found.append((f"concept {name!r} and random set {j}", rows, other, self._others(j)))
        for i, j in self.pairs:
            found.append((f"random sets {i} and {j}", self.random[i], self.random[j], self._others(i, j)))
        return found

    @property
    def of_concepts(self) -> int:
        """How many of the vectors are those of each concept."""
        return len(self.random) if self.against is None else 1

    def _others(self, *but: int) -> Int64:
        return np.concatenate([rows for j, rows in enumerate(self.random) if j not in but])


@dataclass(frozen=True)
class AtLayer:
    """What the P vectors of a layer do to each class's M images, in the order of :attr:`Members.vectors`."""

    derivatives: list[Float64]  # of each class (P, M): in log-odds for a standard deviation
    accuracy: Float64  # (K,): mean over the concept's vectors
    random_accuracy: float
    cavs: Float32  # (K, R, ...)


def at_layer(
    rows: Float32,
    gradients: Sequence[Float32],
    members: Members,
    way: Way,
    layer: str,
    shape: tuple[int, ...],
    seed: int,
) -> AtLayer:
    """Make all vectors from maps (N, D), and take the derivatives of each class's gradients (M, D) along them."""
    among, along = products(rows, np.concatenate(gradients))
    least = _NOTHING * float(np.trace(among)) / len(among)
    weights = np.stack([way(among, one, other)[0] for _, one, other, _ in members.vectors])
    projected = weights @ among
    squares = (projected * weights).sum(1)
    spreads = np.empty(len(weights))
    for p, (name, _, _, rest) in enumerate(members.vectors):
        if squares[p] <= least:
            raise DataError(
                f"{name} have the same maps on average at layer {layer!r}, so that no vector points from one to the "
                "other; choose another layer or other images"
            )
        spreads[p] = projected[p, rest].std()
    derivatives = (weights @ along.T) * (spreads / squares)[:, None]
    draws = np.random.default_rng(seed)
    r = members.of_concepts
    k = len(members.concepts)

    def accuracy(number: int) -> float:
        _, one, other, _ = members.vectors[number]
        return float(np.mean(held_out(among, one, other, way, members.same, draws)))

    ours = np.array([accuracy(number) for number in range(k * r)]).reshape(k, r)
    # As many pairs as there are random sets say what chance is.
    pairs = range(k * r, len(members.vectors))
    chosen = draws.permutation(pairs)[: len(members.random)]
    cavs = combined(weights[: k * r].T, rows).reshape(k, r, *shape)
    of_classes = np.split(derivatives, np.cumsum([len(own) for own in gradients])[:-1], axis=1)
    return AtLayer(of_classes, ours.mean(1), float(np.mean([accuracy(number) for number in chosen])), cavs)
