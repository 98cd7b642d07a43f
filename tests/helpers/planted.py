"""Scores with a known answer, for fits of the mu-lasso by cross-validation."""

from __future__ import annotations

import numpy as np

MUS = [0.05, 0.15, 0.4, 0.8, 1.5, 4.0]


def planted(N: int = 300, m: int = 30, C: int = 3, noise: float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return scores of which two columns a class carry its target, with weights 0.4 and 0.6."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N, m))
    W = np.zeros((m, C))
    for c in range(C):
        W[2 * c : 2 * c + 2, c] = 0.4, 0.6
    return X, X @ W + noise * rng.standard_normal((N, C))


def labelled(N: int = 240, m: int = 10, C: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return scores whose first C columns say the class, and the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(N) % C)
    return rng.random((N, m)) + 0.8 * np.eye(m)[labels], labels
