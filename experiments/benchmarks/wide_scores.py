"""Synthetic scores made block by block, so that any number of rows can be read and none is kept.

The model is that of ``solver_problems``, which imitates the CIFAR-10 ResNets' scores: not negative, summing to one in
each layer, correlated along the depth, the classes visible in every layer. What stands in a block of rows depends on
the seed and the block's number only.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from experiments.benchmarks.solver_problems import APART, DECAY, FACTORS, KEPT, OWN, SPREAD, widths
from interpnet.support.types import Float32

_BLOCK = 1024
_BLOCKS_KEPT = 2


class Scores:
    """Rows on request: ``shape``, ``dtype`` and ``scores[start:stop]``, which is all that ``RowGram`` asks of X.

    With ``again`` the first so many blocks of 1,024 rows come again and again, so that a long stream costs what reading
    it costs, and not what making it does.
    """

    def __init__(self, n: int, m: int, n_classes: int, seed: int = 0, *, again: int | None = None) -> None:
        rng = np.random.default_rng(seed)
        self.shape = (n, m)
        self.dtype = np.dtype(np.float32)
        different = n
        if again is not None:
            different = again * _BLOCK
        self.labels = np.resize(rng.integers(0, n_classes, different), n)
        self._seed = seed
        self._again = again
        self._blocks_kept = max(_BLOCKS_KEPT, again or 0)
        size = (np.arange(FACTORS) + 1.0) ** -DECAY
        size *= SPREAD / np.sqrt((size**2).sum())
        layers = widths(m)
        ends = np.cumsum(layers)
        self._layers = [slice(end - width, end) for end, width in zip(ends, layers, strict=True)]
        self._loadings = [
            (size[:, None] * rng.standard_normal((FACTORS, width))).astype(np.float32) for width in layers
        ]
        self._centre = rng.standard_normal((n_classes, FACTORS)).astype(np.float32)
        self._level = [(0.6 * rng.standard_normal(width)).astype(np.float32) for width in layers]
        self._kept: dict[int, Float32] = {}

    def __getitem__(self, part: slice) -> Float32:
        start, stop, _ = part.indices(self.shape[0])
        pieces = []
        for number in range(start // _BLOCK, -(-stop // _BLOCK)):
            first = number * _BLOCK
            pieces.append(self._block(number)[max(start - first, 0) : stop - first])
        return np.concatenate(pieces)

    def _block(self, number: int) -> Float32:
        if self._again is not None:
            number %= self._again
        if number not in self._kept:
            if len(self._kept) == self._blocks_kept:
                self._kept.pop(next(iter(self._kept)))
            self._kept[number] = self._made(number)
        return self._kept[number]

    def _made(self, number: int) -> Float32:
        rng = np.random.default_rng([self._seed, number])
        labels = self.labels[number * _BLOCK : (number + 1) * _BLOCK]
        shape = (len(labels), FACTORS)
        own = rng.standard_normal(shape, dtype=np.float32)
        rows = np.empty((len(labels), self.shape[1]), dtype=np.float32)
        last = len(self._layers) - 1
        for depth, part in enumerate(self._layers):
            apart = np.float32(np.interp(depth, (0, last), APART))
            fresh = rng.standard_normal(shape, dtype=np.float32)
            own = np.float32(KEPT) * own + np.float32(np.sqrt(1 - KEPT**2)) * fresh
            score = (own + apart * self._centre[labels]) @ self._loadings[depth]
            score += np.float32(OWN) * rng.standard_normal(score.shape, dtype=np.float32)
            score += self._level[depth]
            np.exp(score, out=score)
            score /= score.sum(axis=1, keepdims=True)
            rows[:, part] = score
        return rows


def written(scores: Scores, path: str) -> npt.NDArray[np.float32]:
    """Write the rows to a file, and return it as a memory map."""
    with Path(path).open("wb") as handle:
        for start in range(0, scores.shape[0], _BLOCK):
            scores[start : start + _BLOCK].tofile(handle)
    return np.memmap(path, np.float32, "r", shape=scores.shape)
