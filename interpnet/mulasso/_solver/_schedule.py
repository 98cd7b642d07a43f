"""Solutions of every class at every radius: all classes in step while few columns are active, then class by class."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from time import perf_counter
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from interpnet.mulasso._solver._block_pivoting import pivot
from interpnet.mulasso._solver._block_pivoting_wide import pivot_wide
from interpnet.mulasso._solver._homotopy import homotopy

# Numbers in the (classes, m) arrays of classes that advance together: enough to hide the interpreter, few enough that
# what a round works on stays in the processor's cache (on a GPU: in a small part of its memory).
_ELEMENTS = {"cpu": 2**18, "cuda": 2**26}
# Active columns up to which classes advance together; beyond, on these devices, each goes alone and without padding.
_NARROW = 48
_ALONE = frozenset({"cpu"})
# Seconds a class must take for threads to pay: less, and they mostly wait for each other at the interpreter.
_WORTH_THREADS = 3e-3

Item = TypeVar("Item")


def batches(C: int, m: int, device: torch.device, threads: int) -> list[slice]:
    """Split ``C`` classes into those that advance together, as many batches for each thread."""
    parts = C * m / _ELEMENTS.get(device.type, 2**18)
    if parts > 0.5:
        parts = math.ceil(parts / threads) * threads
    size = math.ceil(C / max(1.0, parts))
    return [slice(i, min(i + size, C)) for i in range(0, C, size)]


def share(work: Callable[[Item], None], items: Sequence[Item], threads: int, *, worth: float = 0.0) -> None:
    """Do ``work`` on every item, in ``threads`` threads once an item has taken the seconds ``worth`` sharing.

    Each thread computes alone: the operations are small, and waking further ones takes longer than they do.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _blas().limit(limits=1, user_api="blas"):
            rest, alone = iter(items), threads == 1 or len(items) == 1 or worth > 0
            while alone and (item := next(rest, None)) is not None:
                start = perf_counter()
                work(item)
                alone = threads == 1 or perf_counter() - start < worth
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                for _ in pool.map(work, rest):
                    pass
    finally:
        torch.set_num_threads(before)


@cache
def _blas() -> ThreadpoolController:
    """Return the handle on numpy's and scipy's BLAS; finding the libraries takes milliseconds."""
    return ThreadpoolController()


def explore(
    G: Tensor, b: Tensor, mus: Tensor, guess: Tensor | None, *, positive: bool, max_iter: int, threads: int
) -> tuple[Tensor, Tensor]:
    """Return solutions (T, C, m), not yet certified, and the rounds and events each class took (C,).

    Parameters
    ----------
    G : (m, m) float64 tensor
    b : (C, m) float64 tensor
    mus : (T, C) float64 tensor
        Radii above zero, ascending along the first axis.
    guess : (C, m) int8 tensor or None
        Signs to begin with.
    positive, max_iter
        As for :class:`interpnet.mulasso.MuLasso`.
    threads : int
    """
    (T, C), m = mus.shape, len(G)
    coef, steps = b.new_zeros(T, C, m), torch.ones(C, dtype=torch.int64, device=b.device)
    signs = torch.zeros(C, m, dtype=torch.int8, device=b.device) if guess is None else guess.clone()
    known = guess is not None
    failed = torch.zeros(T, C, dtype=torch.bool, device=b.device)
    first_wide = torch.full((C,), T, device=b.device)  # the radius at which a class went on alone
    alone = G.device.type in _ALONE

    def together(part: slice) -> None:
        live = torch.arange(C, device=b.device)[part]
        for t in range(T):
            start = signs[live] if t > 0 or known else None
            widest = _NARROW if alone else m
            done = pivot(G, b[live], mus[t, live], start, positive=positive, max_rounds=max_iter, widest=widest)
            coef[t, live] = done.coef
            steps[live] += done.rounds
            signs[live] = torch.where(done.ended[:, None], done.coef.sign().to(torch.int8), done.guess)
            if bool(done.ended.all()):
                continue
            left = live[~done.ended]
            if alone:
                first_wide[left] = t
                live = live[done.ended]
                if len(live) == 0:
                    return
            else:
                failed[t, left] = True

    def by_itself(c: int) -> None:
        for t in range(int(first_wide[c]), T):
            done = pivot_wide(
                G, b[c].numpy(), float(mus[t, c]), signs[c].numpy(), positive=positive, max_rounds=max_iter
            )
            steps[c] += done.rounds
            failed[t, c] = not done.ended
            if done.ended:
                coef[t, c] = torch.from_numpy(done.coef)
                signs[c] = coef[t, c].sign().to(torch.int8)

    share(together, batches(C, m, b.device, threads), threads)
    share(by_itself, (first_wide < T).nonzero()[:, 0].tolist(), threads, worth=_WORTH_THREADS)
    if bool(failed.any()):
        classes, last = failed.any(0).nonzero()[:, 0], int(failed.any(1).nonzero().max()) + 1
        walked = homotopy(G, b[classes], mus[:last, classes], positive=positive, max_steps=max_iter)
        coef[:last, classes] = torch.where(failed[:last, classes][:, :, None], walked.coef, coef[:last, classes])
        steps[classes] += walked.steps
    return coef, steps
