"""Which images a network holds to be similar, and a map of them: nearest neighbours and t-SNE of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from interpnet.errors import DataError
from interpnet.support.checks import check_kinds, real_array, whole_number, whole_numbers
from interpnet.support.types import Float32, Float64, Int64

_FEWEST_IMAGES = 5
_USUAL_PERPLEXITY = 30.0
# van der Maaten & Hinton 2008 reduce to 30, scikit-learn's guide to 50: faster, and less noise in the distances.
_COMPONENTS = 50
_BLOCK = 512


def nearest_images(vectors: Any, queries: Sequence[int] | Int64 | None = None, *, k: int = 6) -> tuple[Int64, Float64]:
    """Return the k nearest other images of each query, by Euclidean distance of their embeddings.

    After Krizhevsky, Sutskever & Hinton 2012, section 6.1: nearest images in the last hidden layer.

    Parameters
    ----------
    vectors : array (N, D)
        Embeddings, as :func:`embed` gives them; finite ones, of at least k + 1 images.
    queries : sequence of int, optional
        (Q,) rows of ``vectors``; by default all. The query itself is none of its neighbours.

    Returns
    -------
    indices, distances : array (Q, k) int64, array (Q, k) float64
        Rows of ``vectors``, nearest first, ties by row; and ``||v_i - v_q||_2``, in the embedding's units.

    Examples
    --------
    >>> nearest_images([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]], [0], k=2)
    (array([[2, 1]]), array([[1., 5.]]))
    """
    check_kinds(nearest_images, locals())
    table = _checked(vectors)
    n = len(table)
    if k < 1 or k > n - 1:
        raise DataError(
            f"k={k} neighbours of {n} images came; expected 1 to {max(n - 1, 0)}. Give more images or less k"
        )
    if queries is None:
        queries = np.arange(n)
    rows = whole_numbers(queries, "queries", error=DataError).reshape(-1)
    if rows.size and (rows.min() < 0 or rows.max() >= n):
        raise DataError(f"queries reach from {rows.min()} to {rows.max()}; expected rows 0 to {n - 1}")
    indices = np.empty((len(rows), k), np.int64)
    distances = np.empty((len(rows), k))
    # Distances do not change when all vectors move, and centred ones lose fewer digits in the expansion below.
    table = table - table.mean(0)
    squares = np.einsum("nd,nd->n", table, table)
    for start in range(0, len(rows), _BLOCK):
        part = rows[start : start + _BLOCK]
        squared = squares[part][:, None] - 2 * table[part] @ table.T + squares
        squared[np.arange(len(part)), part] = np.inf
        best = np.argsort(squared, axis=1, kind="stable")[:, :k]
        # Differences of nearly equal numbers: those that are returned are computed directly.
        exact = np.linalg.norm(table[best] - table[part][:, None], axis=2)
        order = np.lexsort((best, exact), axis=1)
        indices[start : start + _BLOCK] = np.take_along_axis(best, order, 1)
        distances[start : start + _BLOCK] = np.take_along_axis(exact, order, 1)
    return indices, distances


def tsne(vectors: Any, *, perplexity: float | None = None, seed: int = 0) -> Float32:
    """Return a map (N, 2) of embeddings in the plane by t-SNE (scikit-learn), the same for the same seed.

    Near points are images that the network holds to be similar; the axes have no unit, and distances between far
    groups and the groups' sizes mean nothing. More than 50 dimensions are first reduced to 50 principal components,
    from which the map starts. van der Maaten & Hinton, "Visualizing Data using t-SNE", JMLR 2008.

    Parameters
    ----------
    vectors : array (N, D)
        Embeddings, as :func:`embed` gives them: of at least 5 images, not all the same.
    perplexity : float, optional
        About how many neighbours each image keeps near, below N; by default 30, or (N - 1) / 3 where that is less.

    Examples
    --------
    >>> tsne(np.random.default_rng(0).random((12, 4))).shape
    (12, 2)
    """
    check_kinds(tsne, locals())
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    whole_number(seed, "seed", least=0, most=2**32 - 1)
    table = _checked(vectors)
    n = len(table)
    if n < _FEWEST_IMAGES:
        raise DataError(f"t-SNE of {n} images came; expected at least {_FEWEST_IMAGES}. Give more images")
    if perplexity is not None and not 1 <= perplexity < n:
        raise DataError(f"perplexity={perplexity} for {n} images; expected from 1 to below {n}")
    table = table - table.mean(0)
    if float(np.abs(table).max()) <= 1e-9 * max(1.0, float(np.abs(np.asarray(vectors)).max())):
        raise DataError(f"the {n} embeddings are all alike, so they have no map; look at the layer and the images")
    if perplexity is None:
        perplexity = min(_USUAL_PERPLEXITY, (n - 1) / 3)
    # One thread, because sums over several depend on their number.
    with threadpool_limits(1):
        if table.shape[1] > _COMPONENTS:
            keep = min(_COMPONENTS, n)
            table = PCA(keep, svd_solver="full").fit_transform(table)
        start = "pca" if table.shape[1] > 1 else "random"
        fit = TSNE(2, perplexity=float(perplexity), init=start, learning_rate="auto", random_state=seed, n_jobs=1)
        points: Float32 = fit.fit_transform(table.astype(np.float32))
    return points


def _checked(vectors: Any) -> Float64:
    table = real_array(vectors, "vectors", error=DataError).astype(np.float64)
    if table.ndim != 2 or 0 in table.shape:
        raise DataError(f"vectors have shape {table.shape}; expected (images, dimensions), not empty")
    if not np.isfinite(table).all():
        raise DataError("vectors hold NaN or infinite values; expected finite ones. Check the model's activations")
    return table
