"""Coalitions of segments, and the small regressions that turn their scores into a value for each segment.

A coalition is a row of K booleans: True keeps a segment, False shows the baseline there. Everything runs in
float64 on the CPU; K is tens.
"""

from __future__ import annotations

from math import comb

import torch
from torch import Tensor


def draw_masks(k: int, samples: int, generator: torch.Generator) -> Tensor:
    """Return LIME's coalitions (samples, k): the whole image first, then each segment kept with probability 1/2."""
    masks = torch.rand(samples, k, generator=generator) < 0.5
    masks[0] = True  # as in the authors' code
    return masks


def lime_weights(masks: Tensor, width: float) -> Tensor:
    """Return ``sqrt(exp(-d^2 / width^2))``, d the cosine distance of each coalition to the whole image.

    Examples
    --------
    >>> lime_weights(torch.tensor([[True, True]]), 0.25)
    tensor([1.], dtype=torch.float64)
    """
    # The cosine of n kept segments out of K with all of them is sqrt(n / K).
    distance = 1 - masks.double().mean(1).sqrt()
    return torch.exp(-0.5 * (distance / width) ** 2)


def ridge(masks: Tensor, y: Tensor, weights: Tensor, alpha: float) -> tuple[Tensor, float]:
    """Return the coefficients (K,) of a weighted ridge regression with free intercept, and its weighted R^2.

    Minimises ``sum_i w_i (y_i - b0 - z_i b)^2 + alpha |b|^2``.

    Examples
    --------
    >>> z = torch.tensor([[True, False], [False, True], [False, False]])
    >>> coefficients, r2 = ridge(z, torch.tensor([3.0, 2.0, 1.0]), torch.ones(3), 0.0)
    >>> [round(c, 6) for c in coefficients.tolist()], round(r2, 6)
    ([2.0, 1.0], 1.0)
    """
    z = masks.double()
    y = y.double()
    w = weights.double()
    # Centring by the weighted means takes the intercept out of the regression.
    share = w / w.sum()
    z = z - share @ z
    y = y - share @ y
    gram = z.T @ (w[:, None] * z) + alpha * torch.eye(z.shape[1], dtype=torch.float64)
    # A pseudoinverse: without penalty, few coalitions may leave coefficients open.
    b = torch.linalg.pinv(gram, hermitian=True) @ (z.T @ (w * y))
    whole = float(w @ y**2)
    if not whole > 0:
        return b, 1.0
    return b, 1 - float(w @ (y - z @ b) ** 2) / whole


def kernel_coalitions(k: int, samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return coalitions (n, k) and weights (n,) for :func:`shapley_regression`.

    All ``2^k - 2`` with their Shapley kernel ``(k-1) / (comb(k, s) s (k-s))`` where ``samples`` allows; else
    ``samples`` drawn from that kernel, in pairs of complements, with equal weights.

    Examples
    --------
    >>> kernel_coalitions(2, 10, torch.Generator())
    (tensor([[False,  True],
            [ True, False]]), tensor([0.5000, 0.5000], dtype=torch.float64))
    """
    if k < 20 and 2**k - 2 <= samples:
        # The empty and the full coalition are left out: the sum's constraint stands for both.
        numbers = torch.arange(1, 2**k - 1)
        masks = (numbers[:, None] >> torch.arange(k - 1, -1, -1)) & 1 > 0
        sizes = masks.sum(1).tolist()
        return masks, torch.tensor([(k - 1) / (comb(k, s) * s * (k - s)) for s in sizes], dtype=torch.float64)
    by_size = torch.tensor([1 / (s * (k - s)) for s in range(1, k)], dtype=torch.float64)
    half = (samples + 1) // 2
    drawn = torch.multinomial(by_size, half, replacement=True, generator=generator) + 1
    ranks = torch.rand(half, k, generator=generator).argsort(1).argsort(1)
    masks = ranks < drawn[:, None]
    # Pairs of complements lower the variance (Covert & Lee 2021).
    masks = torch.stack([masks, ~masks], 1).flatten(0, 1)[:samples]
    return masks, torch.ones(len(masks), dtype=torch.float64)


def shapley_regression(masks: Tensor, y: Tensor, weights: Tensor, empty: float, full: float) -> Tensor:
    """Return the values (K,) that minimise ``sum_i w_i (y_i - empty - z_i v)^2`` and sum to ``full - empty``.

    With A and b the weighted moments and the sum's Lagrange multiplier l: ``v = A^+ (b - l)``,
    ``l = (1'A^+ b - (full - empty)) / (1'A^+ 1)`` (Covert & Lee 2021, eq. 7). With all coalitions and the Shapley
    kernel these are the Shapley values.

    Examples
    --------
    The game "both or nothing": each of two players gets half.

    >>> z, w = kernel_coalitions(2, 10, torch.Generator())
    >>> shapley_regression(z, torch.zeros(2), w, 0.0, 1.0)
    tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    z = masks.double()
    y = y.double() - empty
    w = weights.double()
    inverse = torch.linalg.pinv(z.T @ (w[:, None] * z), hermitian=True)
    b = z.T @ (w * y)
    ones = torch.ones(z.shape[1], dtype=torch.float64)
    reach = float(ones @ inverse @ ones)
    multiplier = float(ones @ inverse @ b - (full - empty)) / reach
    values: Tensor = inverse @ (b - multiplier * ones)
    return values


def permutation_coalitions(k: int, orders: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the coalitions (orders * (k-1), k) along random orders of the segments, and the orders (orders, k).

    Row ``j`` of an order holds its first ``j + 1`` segments.
    """
    order = torch.rand(orders, k, generator=generator).argsort(1)
    # Of a permutation, argsort gives the inverse: each segment's place in the order.
    ranks = order.argsort(1)
    masks = ranks[:, None, :] <= torch.arange(k - 1)[:, None]
    return masks.flatten(0, 1), order


def permutation_values(_masks: Tensor, y: Tensor, order: Tensor, empty: float, full: float) -> Tensor:
    """Return each segment's mean gain (K,) along the orders, from the scores of :func:`permutation_coalitions`.

    Examples
    --------
    >>> masks = torch.tensor([[False, True]])
    >>> permutation_values(masks, torch.tensor([3.0]), torch.tensor([[1, 0]]), 0.0, 4.0)
    tensor([1., 3.], dtype=torch.float64)
    """
    n, k = order.shape
    edge = torch.ones(n, 1, dtype=torch.float64)
    along = torch.cat([empty * edge, y.double().view(n, k - 1), full * edge], 1)
    values = torch.zeros(n, k, dtype=torch.float64).scatter_(1, order, along.diff(dim=1))
    return values.mean(0)
