"""Batched systems on active sets of different sizes, padded to one size K: unused slots are rows of the identity."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from interpnet.support.types import Float64

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Array = TypeVar("Array", Tensor, Float64)
State = TypeVar("State", bound="DataclassInstance")


def rows_of(state: State, rows: Tensor) -> State:
    """Return a dataclass of tensors, one row per class, with the classes ``rows`` only."""
    return replace(state, **{field.name: getattr(state, field.name)[rows] for field in fields(state)})


def pull_of(correlation: Array, *, positive: bool) -> Array:
    """Return how strongly each column asks to join: weights of one sign follow positive correlations only."""
    return correlation if positive else abs(correlation)


def active_block(G: Tensor, act: Tensor, used: Tensor) -> Tensor:
    """Return G_AA (C, K, K) of every class, with ones on the diagonal of unused slots.

    ``act`` (C, K) int64 are the active columns, anything where unused; ``used`` (C, K), of G's type, is 1 where a slot
    is in use, else 0.
    """
    block = G[act[:, :, None], act[:, None, :]]
    block.mul_(used[:, :, None]).mul_(used[:, None, :])
    block.diagonal(dim1=1, dim2=2).add_(1 - used)
    return block


def factorise(G: Tensor, act: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """Return the Cholesky factors (C, K, K) of G_AA and LAPACK's info (C,)."""
    factor, info = torch.linalg.cholesky_ex(active_block(G, act, used))
    return factor, info


def refined_solve(G: Tensor, act: Tensor, used: Tensor, factor: Tensor, right: Tensor) -> Tensor:
    """Solve G_AA x = ``right`` (C, K, r) from its factors, with two rounds of iterative refinement."""
    block = active_block(G, act, used)
    solution = torch.cholesky_solve(right, factor)
    for _ in range(2):
        solution = solution + torch.cholesky_solve(right - torch.bmm(block, solution), factor)
    return solution


def image(G: Tensor, act: Tensor, weight: Tensor) -> Tensor:
    """Return ``w' G`` (C, m) of weights (C, K) on the columns ``act``; only the rows with a weight are read."""
    kept = weight.ne(0)
    return sums_of_rows(G, act[kept], kept.sum(1), weight[kept])


def dense_image(G: Tensor, coef: Tensor) -> Tensor:
    """Return ``coef @ G`` (C, m) of weights (C, m); only the rows with a weight are read."""
    row, column = coef.nonzero(as_tuple=True)
    return sums_of_rows(G, column, coef.ne(0).sum(1), coef[row, column])


def rows_product(G: Tensor, columns: Tensor, weight: Tensor) -> Tensor:
    """Return ``weight @ G[columns]`` (m,) of one class."""
    return sums_of_rows(G, columns, columns.new_full((1,), len(columns)), weight)[0]


def sums_of_rows(G: Tensor, columns: Tensor, sizes: Tensor, weights: Tensor) -> Tensor:
    """Return sums (C, m) of weighted rows of G; ``sizes`` (C,) says how many of ``columns`` go into each."""
    # Several times as fast as a product with gathered rows: nothing is copied, and no thread waits for another.
    # (The arguments after the offsets: no scaling by frequency, mode 0 = sum, no sparse gradient.)
    sums: Tensor = torch.embedding_bag(G, columns, sizes.cumsum(0) - sizes, False, 0, False, weights)[0]
    return sums
