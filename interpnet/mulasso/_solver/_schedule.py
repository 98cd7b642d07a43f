"""Solutions of every class at every radius: all classes in step while few columns are active, then class by class."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from time import perf_counter
from typing import Any, TypeVar

import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from interpnet.mulasso._arguments import Options
from interpnet.mulasso._solver._block_pivoting import pivot
from interpnet.mulasso._solver._block_pivoting_narrow import pivot_narrow
from interpnet.mulasso._solver._block_pivoting_wide import pivot_wide
from interpnet.mulasso._solver._homotopy import homotopy
from interpnet.support.progress import step_of

# Numbers in the (classes, m) arrays of classes that advance together: enough to hide the interpreter, few enough that
# what a round works on stays in the processor's cache (on a GPU: in a small part of its memory).
_ELEMENTS = {"cpu": 2**18, "cuda": 2**26}
# Batches come in multiples of so many where there is much to do, for threads to share.
_SHARES = 4
# Active columns up to which all classes of a batch advance together on these devices; up to which those left advance in
# groups of at most so many, for threads to share; beyond, each goes alone and without padding.
_NARROW = 48
_MIDDLE = 112
_GROUP = 16
_ALONE = frozenset({"cpu"})
# Seconds a class must take for threads to pay: less, and they mostly wait for each other at the interpreter.
_WORTH_THREADS = 3e-3

Item = TypeVar("Item")
# The handle on numpy's and scipy's BLAS; finding the libraries takes milliseconds.
_blas = cache(ThreadpoolController)


def batch_size(C: int, m: int, device: torch.device) -> int:
    """Return how many of ``C`` classes advance together.

    It depends on the problem alone, never on threads or workers, so that their number does not change a bit.
    """
    parts = C * m / _ELEMENTS.get(device.type, 2**18)
    if parts > 0.5:
        parts = math.ceil(parts / _SHARES) * _SHARES
    return math.ceil(C / max(1.0, parts))


def batches(C: int, size: int) -> list[slice]:
    """Split ``C`` classes into batches of ``size``; the last one has what is left."""
    return [slice(i, min(i + size, C)) for i in range(0, C, size)]


def share(
    work: Callable[[Item], None],
    items: Sequence[Item],
    threads: int,
    *,
    worth: float = 0.0,
    done: Callable[[Item], None] = lambda _item: None,
) -> None:
    """Do ``work`` on every item, in ``threads`` threads once an item has taken the seconds ``worth`` sharing.

    ``done`` is told of every item, in order and in this thread.

    Each thread computes alone: the operations are small, and waking further ones takes longer than they do.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _blas().limit(limits=1, user_api="blas"):
            rest = iter(items)
            alone = threads == 1 or len(items) == 1 or worth > 0
            while alone and (item := next(rest, None)) is not None:
                start = perf_counter()
                work(item)
                done(item)
                alone = threads == 1 or perf_counter() - start < worth
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                left = list(rest)
                for item, _ in zip(left, pool.map(work, left), strict=True):
                    done(item)
    finally:
        torch.set_num_threads(before)


def explore(
    G: Tensor, b: Tensor, mus: Tensor, guess: Tensor, options: Options, threads: int, size: int
) -> tuple[Tensor, Tensor]:
    """Return solutions (T, C, m), not yet certified, and the rounds and events each class took (C,).

    ``G`` (m, m), ``b`` (C, m) and ``mus`` (T, C), ascending along the first axis, are float64; ``guess`` (C, m) int8
    holds the signs to begin with. ``size`` classes advance together.
    """
    search = _Search(G, b, mus, guess, options)
    advance = step_of("Solving")

    def told(classes: Tensor) -> None:
        advance(int((search.reached[classes] == len(mus)).sum()))

    every = torch.arange(len(b), device=b.device)
    parts = [every[part] for part in batches(len(b), size)]
    share(partial(search.together, widest=_NARROW), parts, threads, done=told)
    groups = [group for part in parts for group in search.groups(part)]
    if groups:
        share(partial(search.together, widest=_MIDDLE), groups, threads, done=told)
    share(search.by_itself, search.left(every).tolist(), threads, worth=_WORTH_THREADS, done=lambda _c: advance(1))
    for part in parts:
        failed = part[search.failed[:, part].any(0)]
        if len(failed):
            search.walk(failed, options)
    return search.coef, search.steps


class _Search:
    """What is known of every class; threads work on different classes, so they write to different places."""

    def __init__(self, G: Tensor, b: Tensor, mus: Tensor, guess: Tensor, options: Options) -> None:
        T, C = mus.shape
        self.G = G
        self.b = b
        self.mus = mus
        self.limits: dict[str, Any] = {"positive": options.positive, "max_rounds": options.max_iter}
        self.coef = b.new_zeros(T, C, len(G))
        self.steps = torch.ones(C, dtype=torch.int64, device=b.device)
        # The signs of the last solution are the first guess at the next radius.
        self.signs = guess.clone()
        self.failed = torch.zeros(T, C, dtype=torch.bool, device=b.device)
        # The radius at which a class stands.
        self.reached = torch.zeros(C, dtype=torch.int64, device=b.device)

    def left(self, classes: Tensor) -> Tensor:
        """Return those of ``classes`` that have radii before them."""
        return classes[self.reached[classes] < len(self.mus)]

    def groups(self, batch: Tensor) -> Sequence[Tensor]:
        """Return the groups of a batch's classes that go on together; a single one goes alone."""
        wide = self.left(batch)
        wide = wide[self.signs[wide].ne(0).sum(1) > _NARROW]
        if len(wide) < 2:
            return ()
        return torch.split(wide, _GROUP)

    def together(self, classes: Tensor, widest: int) -> None:
        """Take ``classes`` through the radii before them in step, until they fail or, on the CPU, become too wide."""
        alone = self.G.device.type in _ALONE
        step = partial(pivot_narrow, widest=widest) if alone else partial(pivot, widest=len(self.G))
        for t, mu in enumerate(self.mus):
            live = classes[self.reached[classes] == t]
            if len(live) == 0:
                continue
            done = step(self.G, self.b[live], mu[live], self.signs[live], **self.limits)
            self.coef[t, live] = done.coef
            self.steps[live] += done.rounds
            self.signs[live] = torch.where(done.ended[:, None], done.coef.sign().to(torch.int8), done.guess)
            if not alone:
                self.failed[t, live] = ~done.ended
            self.reached[live[done.ended | (not alone)]] = t + 1

    def by_itself(self, c: int) -> None:
        """Take one class on from the radius at which it stands."""
        b = self.b[c].numpy()
        for t in range(int(self.reached[c]), len(self.mus)):
            coef, rounds = pivot_wide(self.G, b, float(self.mus[t, c]), self.signs[c].numpy(), **self.limits)
            self.steps[c] += rounds
            self.failed[t, c] = coef is None
            if coef is not None:
                self.coef[t, c] = torch.from_numpy(coef)
                self.signs[c] = self.coef[t, c].sign().to(torch.int8)

    def walk(self, classes: Tensor, options: Options) -> None:
        """Follow the exact path of ``classes``, for which pivoting failed, to the last radius at which it did."""
        last = int(self.failed[:, classes].any(1).nonzero().max()) + 1
        mus = self.mus[:last, classes]
        walked = homotopy(self.G, self.b[classes], mus, positive=options.positive, max_steps=options.max_iter)
        failed = self.failed[:last, classes][:, :, None]
        self.coef[:last, classes] = torch.where(failed, walked.coef, self.coef[:last, classes])
        self.steps[classes] += walked.steps
