"""Batched systems on active sets of different sizes, padded to one size K: unused slots are rows of the identity."""

from __future__ import annotations

import torch
from torch import Tensor


def factorise(G: Tensor, act: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """Return the Cholesky factors (C, K, K) of G_AA, one on unused diagonals, and LAPACK's info (C,)."""
    both = used[:, :, None] & used[:, None, :]
    block = torch.where(both, G[act[:, :, None], act[:, None, :]], 0.0)
    block.diagonal(dim1=1, dim2=2).add_((~used).to(G.dtype))
    factor, info = torch.linalg.cholesky_ex(block)
    return factor, info


def refined_solve(G: Tensor, act: Tensor, used: Tensor, factor: Tensor, right: Tensor) -> Tensor:
    """Solve G_AA x = ``right`` (C, K, r) from its factors, with two rounds of iterative refinement."""
    both = used[:, :, None] & used[:, None, :]
    block = torch.where(both, G[act[:, :, None], act[:, None, :]], 0.0)
    solution = torch.cholesky_solve(right, factor)
    for _ in range(2):
        solution = solution + torch.cholesky_solve(right - torch.bmm(block, solution), factor)
    return solution
