"""How often other images would have named the same channels: docs/method.md, section 2.7 (stability selection).

This file needs neither torch nor scikit-learn, so that a report reads saved frequencies without them.

Sources: Meinshausen & Bühlmann, "Stability selection", JRSS B 72 (2010), 417-473; Shah & Samworth, "Variable
selection with error control: another look at stability selection", JRSS B 75 (2013), 55-80 (complementary pairs).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from interpnet.errors import InterpNetError
from interpnet.mulasso._arguments import MAX_ITER, Options, check_mu, plain_radii
from interpnet.support.brief import brief
from interpnet.support.checks import check_kinds, number, real_array, whole_number
from interpnet.support.io import atomic_path, npz_path, read_arrays
from interpnet.support.types import Float64

if TYPE_CHECKING:
    from interpnet.gram import Gram


# Written into every file; another format would need another reader.
_FORMAT = "interpnet-stability-1"


@brief
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
        check_kinds(Stability, vars(self))
        whole_number(self.n_subsamples, "n_subsamples", least=1)
        check_mu(self.mu)
        frequency = real_array(self.frequency, "frequency").astype(np.float64)
        if frequency.ndim != 2 or not ((frequency >= 0) & (frequency <= 1)).all():
            raise InterpNetError(f"frequency has shape {frequency.shape}; expected (C, m), every value from 0 to 1")
        object.__setattr__(self, "frequency", frequency)

    @property
    def n_selected(self) -> Float64:
        """Mean number of channels each half selects, for each class (C,)."""
        selected: Float64 = self.frequency.sum(axis=1)
        return selected

    def expected_false(self, threshold: float = 0.75) -> Float64:
        r"""Return a bound on how many irrelevant channels reach the frequency ``threshold``, for each class (C,).

        .. math:: E[V] \le \frac{q^2}{(2 \pi - 1) m}

        with q the mean number selected, :math:`\pi` the threshold, m the number of channels (Meinshausen & Bühlmann
        2010, theorem 1). It holds where irrelevant channels are exchangeable and selection is no worse than chance:
        correlated channels fulfil that only roughly, so read it as a scale, not as a guarantee.
        A threshold that is not above 0.5 and at most 1 is refused.
        """
        number(threshold, "threshold")
        if not 0.5 < threshold <= 1:
            raise InterpNetError(f"threshold is {threshold!r}; expected a frequency above 0.5 and at most 1")
        # docs/method.md, section 2.7.
        bound: Float64 = self.n_selected**2 / ((2 * threshold - 1) * self.frequency.shape[1])
        return bound

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an ``.npz`` file atomically (nothing pickled)."""
        values: dict[str, Any] = {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}
        with atomic_path(npz_path(path)) as tmp:
            np.savez_compressed(tmp, format=np.array(_FORMAT), **values)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Stability:
        """Read what :meth:`save` wrote; a missing, damaged or foreign file is a RunFolderError."""
        names = [field.name for field in fields(cls)]
        with read_arrays(path, names, "stability selection", file_format=_FORMAT) as data:
            return cls(data["frequency"], int(data["n_subsamples"]), plain_radii(data["mu"]), bool(data["positive"]))

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

        The blocks are disjoint, random and of about the same size, such as :func:`interpnet.gram.part_grams` sums over
        :func:`interpnet.gram.random_parts`. All else is as for :func:`stability_selection`.
        """
        # Here and below the solver is loaded only where it is needed: it brings torch along.
        from interpnet.mulasso._half_samples import draw_halves, selected_share

        options = Options(positive, tol, max_iter, device, n_jobs)
        blocks = list(grams)
        halves = draw_halves(len(blocks), n_pairs, seed, "grams")
        frequency = selected_share(halves, blocks, mu, options, progress=progress)
        return cls(frequency, 2 * n_pairs, plain_radii(mu), options.positive)


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
        Random blocks the halves are made of, even; memory is ``n_blocks + 3`` matrices (m, m) of float64. Where they
        take more than half of it, each half is solved from the rows, in a few passes over ``X``.
    positive, tol, max_iter, class_weight, sample_weight, device, n_jobs
        As for MuLasso.
    seed : int
        Of the blocks and of the halves.
    progress : bool
        Show a bar where stderr is a terminal.

    Raises
    ------
    InterpNetError
        Bad scores, labels or parameters; an odd number of blocks, or more pairs than the blocks make.

    Examples
    --------
    >>> labels = np.repeat([0, 1], 40)
    >>> X = np.random.default_rng(0).random((80, 6)) + np.eye(6)[labels]
    >>> stability_selection(X, labels, mu=0.4, n_pairs=5).frequency[:, :2].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    check_kinds(stability_selection, locals())
    from interpnet.mulasso._half_samples import block_grams, draw_halves, selected_share

    options = Options(positive, tol, max_iter, device, n_jobs)
    halves = draw_halves(n_blocks, n_pairs, seed, "n_blocks")
    blocks = block_grams(X, y, mu, n_blocks, seed, class_weight=class_weight, sample_weight=sample_weight)
    frequency = selected_share(halves, blocks, mu, options, progress=progress)
    return Stability(frequency, 2 * n_pairs, plain_radii(mu), options.positive)
