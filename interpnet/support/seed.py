"""Randomness that a seed fixes and that leaves the caller's own random state alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's generators of the CPU and of a CUDA ``device`` in the block, and restore their states afterwards.

    Examples
    --------
    >>> import torch
    >>> with seeded(0):
    ...     first = torch.rand(3)
    >>> _ = torch.rand(1)
    >>> with seeded(0):
    ...     again = torch.rand(3)
    >>> torch.equal(first, again)
    True
    """
    cuda = [d for d in (device,) if d is not None and d.type == "cuda"]
    with torch.random.fork_rng(devices=cuda):
        # torch.manual_seed would also reseed devices whose state nobody saved.
        torch.default_generator.manual_seed(seed)
        for one in cuda:
            with torch.cuda.device(one):
                torch.cuda.manual_seed(seed)
        yield
