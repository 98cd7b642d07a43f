r"""How often other images would have named the same channels: stability selection on Grams.

The mu-lasso is solved on many random halves of the images, in complementary pairs; a channel's selection frequency is
the share of the halves on which its weight is not zero. People act on the named channels, and a channel that half of
the images name and the other half do not is a weaker finding than its weight says.

The halves are unions of blocks: the images are dealt once into ``n_blocks`` random blocks, each class evenly, the
blocks' Grams are summed in one pass, and half of the blocks, drawn at random, make a half of the images. So ``2 *
n_pairs`` solutions cost one pass and ``n_blocks`` Grams, whatever the number of images; each half is a uniformly
random stratified half, and only pairs drawn from the same blocks are not independent (16 blocks make 6435 pairs).

Where columns are duplicates or nearly so, the weight goes to one of them by chance, and they *share* the frequency:
then a low frequency says that another channel carries the same information, not that the information is unstable.

Sources: Meinshausen & Bühlmann, "Stability selection", JRSS B 72 (2010), 417-473; Shah & Samworth, "Variable
selection with error control: another look at stability selection", JRSS B 75 (2013), 55-80 (complementary pairs).
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from interpnet.errors import InterpNetError, RunFolderError
from interpnet.gram import Gram, as_numpy, check_parts, part_grams, random_parts, stays_on_device
from interpnet.mulasso._arguments import Options, check_mu, check_type, class_radii
from interpnet.mulasso._path import MAX_ITER, solve_path, warn_missed
from interpnet.mulasso._targets import read_targets
from interpnet.support.io import atomic_path
from interpnet.support.progress import progress_bar
from interpnet.support.types import Float64

_FIELDS = ("frequency", "n_subsamples", "mu", "positive")


@dataclass(frozen=True)
class Stability:
    """Selection frequencies.

    Attributes
    ----------
    frequency : (C, m) float64
        Share of the halves, in [0, 1], on which the channel's weight for the class is not zero.
    n_subsamples : int
        Number of halves.
    mu : float, or (C,) float64
        Radius the halves were solved at.
    positive : bool

    Examples
    --------
    >>> found = Stability(np.array([[1.0, 0.5, 0.0]]), 4, 10.0, False)
    >>> found.n_selected.tolist(), found.expected_false(0.75).tolist()
    ([1.5], [1.5])
    """

    frequency: Float64
    n_subsamples: int
    mu: float | Float64
    positive: bool

    def __post_init__(self) -> None:
        frequency = np.asarray(self.frequency, dtype=np.float64)
        if frequency.ndim != 2 or not ((frequency >= 0) & (frequency <= 1)).all():
            raise InterpNetError(f"frequency has shape {frequency.shape}; expected (C, m), every value from 0 to 1")
        object.__setattr__(self, "frequency", frequency)

    @property
    def n_selected(self) -> Float64:
        """Mean number of channels a half selects, for each class (C,)."""
        selected: Float64 = self.frequency.sum(axis=1)
        return selected

    def expected_false(self, threshold: float = 0.75) -> Float64:
        r"""Return a bound on how many irrelevant channels reach the frequency ``threshold``, for each class (C,).

        .. math:: E[V] \le \frac{q^2}{(2 \pi - 1) m}

        with q the mean number selected, :math:`\pi` the threshold, m the number of channels (Meinshausen & Bühlmann
        2010, theorem 1). It holds where irrelevant channels are exchangeable and selection is no worse than chance:
        correlated channels fulfil that only roughly, so read it as a scale, not as a guarantee.

        Raises
        ------
        InterpNetError
            A threshold that is not above 0.5 and at most 1.
        """
        if not 0.5 < threshold <= 1:
            raise InterpNetError(f"threshold is {threshold!r}; expected a frequency above 0.5 and at most 1")
        bound: Float64 = self.n_selected**2 / ((2 * threshold - 1) * self.frequency.shape[1])
        return bound

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an ``.npz`` file atomically (nothing pickled)."""
        if Path(path).suffix != ".npz":
            raise InterpNetError(f"path is {str(path)!r}; expected a name that ends in .npz")
        with atomic_path(path) as tmp:
            values: dict[str, Any] = {name: np.asarray(getattr(self, name)) for name in _FIELDS}
            np.savez_compressed(tmp, **values)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Stability:
        """Read what :meth:`save` wrote.

        Raises
        ------
        RunFolderError
            The file is missing, damaged, or holds something else.
        """
        try:
            with Path(path).open("rb") as handle, np.load(handle, allow_pickle=False) as data:
                missing = set(_FIELDS) - set(data.files)
                if missing:
                    raise RunFolderError(f"{str(path)!r} is no stability selection: it lacks {sorted(missing)}")
                mu = data["mu"] if data["mu"].ndim else float(data["mu"])
                return cls(data["frequency"], int(data["n_subsamples"]), mu, bool(data["positive"]))
        except FileNotFoundError as error:
            raise RunFolderError(f"{str(path)!r} does not exist") from error
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            if isinstance(error, RunFolderError):
                raise
            raise RunFolderError(f"{str(path)!r} cannot be read ({error}); delete it to have it made again") from error

    @classmethod
    def from_grams(
        cls,
        grams: Sequence[Gram],
        *,
        mu: float | npt.ArrayLike,
        n_pairs: int = 50,
        positive: bool = False,
        tol: float = 1e-6,
        max_iter: int = MAX_ITER,
        seed: int = 0,
        device: str | None = None,
        n_jobs: int | None = None,
        progress: bool = True,
    ) -> Stability:
        """Return the selection frequencies from the Grams of the blocks, an even number of them.

        Parameters
        ----------
        grams : sequence of Gram
            Of disjoint random blocks of about the same size, such as :func:`interpnet.gram.part_grams` sums over
            :func:`interpnet.gram.random_parts`.
        mu, n_pairs, positive, tol, max_iter, seed, device, n_jobs, progress
            As for :func:`stability_selection`.

        Raises
        ------
        InterpNetError
            As :func:`stability_selection`.
        """
        blocks = list(grams)
        options = Options(positive, tol, max_iter, device, n_jobs)
        _check_counts(n_pairs, len(blocks), "grams")
        for gram in blocks:
            check_type(gram)
            gram.check_definite()
        radii = class_radii(mu, blocks[0].n_classes)[None]
        total = sum(blocks[1:], blocks[0])
        counts = np.zeros((total.n_classes, total.m))
        with progress_bar("stability", 2 * n_pairs, unit="solutions", enabled=progress) as advance:
            for chosen in _halves(len(blocks), n_pairs, seed):
                half = sum((blocks[b] for b in chosen[1:]), blocks[chosen[0]])
                for side in (half, total.without(half)):
                    solution = solve_path(side, radii, options)
                    warn_missed(solution, radii, np.arange(total.n_classes), options, depth=3)
                    counts += solution.coef[0] != 0
                    advance(1)
        given = np.asarray(mu, dtype=np.float64)
        return cls(counts / (2 * n_pairs), 2 * n_pairs, given if given.ndim else float(given), bool(positive))


def stability_selection(
    X: npt.ArrayLike,
    y: Any,
    *,
    mu: float | npt.ArrayLike,
    n_pairs: int = 50,
    n_blocks: int = 16,
    positive: bool = False,
    tol: float = 1e-6,
    max_iter: int = MAX_ITER,
    class_weight: Any = None,
    sample_weight: npt.ArrayLike | None = None,
    seed: int = 0,
    device: str | None = None,
    n_jobs: int | None = None,
    progress: bool = True,
) -> Stability:
    """Solve the mu-lasso on complementary pairs of random halves of the images, and count.

    Parameters
    ----------
    X : (N, m) array, memory map or torch tensor
        Scores, read once.
    y : (N,) labels or (N, C) targets
        As for :meth:`MuLasso.fit <interpnet.mulasso.MuLasso.fit>`; blocks are stratified by labels.
    mu : float or (C,) array
        The radius of the model in question. It needs no change for the halves: least squares weights, and so the ball,
        do not grow with the number of images.
    n_pairs : int
        Pairs of halves; ``2 * n_pairs`` solutions.
    n_blocks : int
        Random blocks the halves are made of, even; memory is ``n_blocks + 3`` matrices (m, m) of float64.
    positive, tol, max_iter, class_weight, sample_weight, device, n_jobs
        As for MuLasso.
    seed : int
        Of the blocks and of the halves.
    progress : bool
        Show a bar where stderr is a terminal.

    Returns
    -------
    Stability

    Raises
    ------
    InterpNetError
        Bad scores, labels or parameters; an odd number of blocks, more pairs than the blocks make, or blocks whose
        Grams take more than half of the machine's memory.

    Examples
    --------
    >>> labels = np.repeat([0, 1], 40)
    >>> X = np.random.default_rng(0).random((80, 6)) + np.eye(6)[labels]
    >>> stability_selection(X, labels, mu=0.4, n_pairs=5).frequency[:, :2].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    Options(positive, tol, max_iter, device, n_jobs)
    check_mu(mu)
    _check_counts(n_pairs, n_blocks, "n_blocks")
    scores: Any = X if stays_on_device(X) else as_numpy(X)
    if scores.ndim != 2:
        raise InterpNetError(f"X has shape {tuple(scores.shape)}; expected (N, m)")
    target = read_targets(y, scores.shape[0], sample_weight, class_weight)
    class_radii(mu, len(target.classes))
    check_parts(scores.shape[1], n_blocks, "block")
    part = random_parts(target.L if target.labels else scores.shape[0], n_blocks, seed)
    blocks = part_grams(scores, target.L, part, n_classes=len(target.classes), sample_weight=target.weight)
    return Stability.from_grams(
        blocks,
        mu=mu,
        n_pairs=n_pairs,
        positive=positive,
        tol=tol,
        max_iter=max_iter,
        seed=seed,
        device=device,
        n_jobs=n_jobs,
        progress=progress,
    )


def _halves(n_blocks: int, n_pairs: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield ``n_pairs`` different halves of the blocks, none the complement of another."""
    rng = np.random.default_rng(seed)
    seen: set[tuple[int, ...]] = set()
    while len(seen) < n_pairs:
        # Block 0 stands for its half: without loss of generality it is in the one that is yielded.
        half = np.sort(np.append(1 + rng.permutation(n_blocks - 1)[: n_blocks // 2 - 1], 0))
        key = tuple(half.tolist())
        if key not in seen:
            seen.add(key)
            yield half


def _check_counts(n_pairs: Any, n_blocks: Any, name: str) -> None:
    for label, value, least in (("n_pairs", n_pairs, 1), (name, n_blocks, 2)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise InterpNetError(f"{label} is {value!r}; expected a whole number, at least {least}")
    if n_blocks % 2:
        raise InterpNetError(f"{name}: there are {n_blocks} blocks; expected an even number, to make halves of")
    most = comb(n_blocks, n_blocks // 2) // 2
    if n_pairs > most:
        raise InterpNetError(
            f"n_pairs is {n_pairs}, but {n_blocks} blocks make only {most} different pairs of halves; use more blocks"
        )
